//! Charts as SVG: axes with ticks, a legend, a sentence for those who cannot see them, and the numbers as a table.

mod bars;
mod frame;
mod lines;
mod points;
mod rows;
mod scale;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use super::html::{Table, escape, number, text};

pub use bars::Bars;
pub use lines::Lines;
pub use points::{Cloud, Part, Point, Points};
pub use rows::Rows;

/// What a series stands for, which decides its colour, dash and mark on the whole page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Ours,
    Popularity,
    Index,
    Earlier,
    /// One of several groups that have no order.
    Group(usize),
    /// What belongs to none of them.
    Rest,
    /// One of five bands, from little to much.
    Band(usize),
}

impl Look {
    pub fn class(self) -> String {
        match self {
            Look::Ours => "ours".into(),
            Look::Popularity => "popular".into(),
            Look::Index => "index".into(),
            Look::Earlier => "earlier".into(),
            Look::Group(at) => format!("g{}", at % 7),
            Look::Rest => "g7".into(),
            Look::Band(at) => format!("b{}", at.min(4)),
        }
    }

    /// A mark around a place: shapes differ too, so that colours need not be told apart.
    fn mark(self, x: f64, y: f64) -> String {
        match self {
            Look::Popularity => format!("M{:.1} {:.1}h7v7h-7z", x - 3.5, y - 3.5),
            Look::Index => format!("M{x:.1} {:.1}l4 7.5h-8z", y - 4.8),
            Look::Earlier => format!("M{x:.1} {:.1}l4.6 4.6l-4.6 4.6l-4.6-4.6z", y - 4.6),
            _ => format!("M{:.1} {y:.1}a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0-7.2 0z", x - 3.6),
        }
    }
}

/// Values by category, `None` where there is none.
#[derive(Debug, Clone)]
pub struct Series {
    pub name: String,
    pub look: Look,
    pub values: Vec<Option<f64>>,
}

impl Series {
    pub fn new(name: impl Into<String>, look: Look, values: impl IntoIterator<Item = Option<f64>>) -> Series {
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
        Series { name: name.into(), look, values: values.into_iter().map(finite).collect() }
    }
}

/// A chart on the page.
pub struct Chart {
    /// Unique on the page.
    pub id: &'static str,
    pub title: String,
    /// How to read it, in a sentence.
    pub note: String,
}

impl Chart {
    pub fn new(id: &'static str, title: impl Into<String>, note: impl Into<String>) -> Chart {
        Chart { id, title: title.into(), note: note.into() }
    }

    /// The figure around a drawing; without one, a sentence in its place.
    fn figure(&self, legend: &[(String, Look)], drawing: Option<Drawing>, numbers: Table) -> String {
        let id = self.id;
        let mut out = format!(
            "<figure class=\"chart\" data-chart=\"{id}\"><figcaption><h3>{}</h3><p>{}</p></figcaption>",
            escape(&self.title),
            escape(&self.note)
        );
        let Some(drawing) = drawing else {
            return out + "<p class=\"empty\">There is nothing to draw: no value was measured.</p></figure>\n";
        };
        if legend.len() > 1 {
            out += "<ul class=\"legend\">";
            for (name, look) in legend {
                let mark = look.mark(7.0, 7.0);
                let class = look.class();
                write!(
                    out,
                    "<li><svg viewBox=\"0 0 14 14\" aria-hidden=\"true\"><path class=\"dot {class}\" d=\"{mark}\"/></svg>{}</li>",
                    escape(name)
                )
                .expect("a string takes text");
            }
            out += "</ul>";
        }
        let (width, height) = drawing.size;
        write!(
            out,
            "<svg class=\"plot\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\" aria-describedby=\"{id}-text\"><desc id=\"{id}-text\">{}</desc>{}</svg>",
            escape(&self.title),
            escape(&drawing.told),
            drawing.marks
        )
        .expect("a string takes text");
        out += "<details><summary>Numbers</summary>";
        out += &numbers.html();
        out + "</details></figure>\n"
    }
}

struct Drawing {
    size: (f64, f64),
    marks: String,
    /// The chart in words.
    told: String,
}

/// Categories down, series across.
fn numbers(x_name: &str, labels: &[String], series: &[Series]) -> Table {
    let mut table = Table::new(std::iter::once(x_name).chain(series.iter().map(|series| series.name.as_str())));
    for (at, label) in labels.iter().enumerate() {
        let values = series.iter().map(|series| text(&series.values[at].map(number).unwrap_or_default()));
        table.row(std::iter::once(text(label)).chain(values));
    }
    table
}

/// First, last, least and most of each series.
fn told(labels: &[String], series: &[Series]) -> String {
    let one = |series: &Series| {
        let found: Vec<(usize, f64)> =
            series.values.iter().enumerate().filter_map(|(at, value)| Some((at, (*value)?))).collect();
        let (Some(first), Some(last)) = (found.first(), found.last()) else {
            return format!("{}: no values", series.name);
        };
        let least = found.iter().min_by(|a, b| a.1.total_cmp(&b.1)).expect("there is one");
        let most = found.iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("there is one");
        let at = |value: &(usize, f64)| format!("{} at {}", number(value.1), labels[value.0]);
        if found.len() == 1 {
            return format!("{}: {}", series.name, at(first));
        }
        format!("{}: first {}, last {}; lowest {}, highest {}", series.name, at(first), at(last), at(least), at(most))
    };
    series.iter().map(one).collect::<Vec<_>>().join(". ")
}
