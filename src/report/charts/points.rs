//! Points on two axes of numbers: few with names, joined by a line, or clouds of many.

use super::super::html::{Table, escape, number, text};
use super::frame::{Frame, LEFT, RIGHT, TOP, WIDTH};
use super::scale::Scale;
use super::{Chart, Drawing, Look};

/// One named point.
#[derive(Debug, Clone)]
pub struct Point {
    pub name: String,
    pub x: f64,
    pub y: f64,
    /// Stands out, with its name beside it.
    pub chosen: bool,
}

/// Named points, joined in their order, by series. Up goes a share in 0..1.
pub struct Points {
    pub chart: Chart,
    pub x_name: String,
    pub y_name: String,
    pub series: Vec<(String, Look, Vec<Point>)>,
}

impl Points {
    pub fn html(&self) -> String {
        let legend: Vec<_> = self.series.iter().map(|(name, look, _)| (name.clone(), *look)).collect();
        let mut table = Table::new(["", self.x_name.as_str(), self.y_name.as_str()]);
        for (series, _, points) in &self.series {
            for point in points {
                let name = if legend.len() > 1 { format!("{series}: {}", point.name) } else { point.name.clone() };
                table.marked(point.chosen, [text(&name), text(&number(point.x)), text(&number(point.y))]);
            }
        }
        self.chart.figure(&legend, self.draw(), table)
    }

    fn draw(&self) -> Option<Drawing> {
        let all = || self.series.iter().flat_map(|(_, _, points)| points);
        let x = Scale::over(all().map(|p| p.x), true, 4)?;
        let y = Scale::over(all().map(|p| p.y), false, 4)?.of_shares();
        let mut frame = Frame::usual();
        let bottom = frame.bottom();
        frame.y_axis(&self.y_name, &y);
        frame.x_numbers(&self.x_name, &x);
        let mut told = Vec::new();
        for (nth, (series, look, points)) in self.series.iter().enumerate() {
            let class = look.class();
            let places: Vec<(f64, f64)> =
                points.iter().map(|p| (x.place(p.x, LEFT, RIGHT), y.place(p.y, bottom, TOP))).collect();
            let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
            frame.add(format_args!("<path class=\"line {class}\" d=\"M{}\"/>", path.join("L")));
            for (point, (x, y)) in points.iter().zip(places) {
                let name =
                    format!("{}: {} {}, {} {}", point.name, self.x_name, number(point.x), self.y_name, number(point.y));
                frame.add(format_args!(
                    "<path class=\"mark dot {class}{}\" d=\"{}\"><title>{}</title></path>",
                    if point.chosen { " chosen" } else { "" },
                    look.mark(x, y),
                    escape(&name)
                ));
                if point.chosen {
                    // beside the point, on the side with more room; those of two series not on each other
                    let line = 14.0 * nth as f64;
                    let beside = if y > (TOP + bottom) / 2.0 { y - 9.0 - line } else { y + 16.0 + line };
                    let (to, anchor) = if x > (LEFT + RIGHT) / 2.0 { (x - 10.0, "end") } else { (x + 10.0, "start") };
                    frame.add(format_args!(
                        "<text class=\"told\" x=\"{to:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
                        beside,
                        escape(&point.name)
                    ));
                }
                told.push(if self.series.len() > 1 { format!("{series}, {name}") } else { name });
            }
        }
        Some(Drawing { size: (WIDTH, frame.height), marks: frame.marks, told: told.join(". ") })
    }
}

/// Many points without names.
pub struct Part {
    pub name: String,
    pub look: Look,
    pub points: Vec<(f64, f64)>,
}

/// Several of them in one picture.
pub struct Cloud {
    pub chart: Chart,
    pub x_name: String,
    pub y_name: String,
    pub parts: Vec<Part>,
}

impl Cloud {
    const HEIGHT: f64 = 380.0;

    pub fn html(&self) -> String {
        let legend: Vec<_> = self.parts.iter().map(|part| (part.name.clone(), part.look)).collect();
        let mut table = Table::new(["", "items", "mean x", "mean y"]);
        for Part { name, points, .. } in &self.parts {
            let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len().max(1) as f64;
            let values = [points.len() as f64, mean(|p| p.0), mean(|p| p.1)].map(|value| text(&number(value)));
            table.row([vec![text(name)], values.to_vec()].concat());
        }
        self.chart.figure(&legend, self.draw(), table)
    }

    fn draw(&self) -> Option<Drawing> {
        let all = || self.parts.iter().flat_map(|part| &part.points);
        let (x, y) = (Scale::over(all().map(|p| p.0), false, 5)?, Scale::over(all().map(|p| p.1), false, 5)?);
        let mut frame = Frame::new(Self::HEIGHT);
        let bottom = frame.bottom();
        frame.y_axis(&self.y_name, &y);
        frame.x_numbers(&self.x_name, &x);
        let mut told = Vec::new();
        // the rest lies below what has a name
        let (named, rest): (Vec<&Part>, Vec<&Part>) = self.parts.iter().partition(|part| part.look != Look::Rest);
        for Part { name, look, points } in rest.into_iter().chain(named) {
            // one path of dots: a page with thousands of elements is slow
            let dot = |(at_x, at_y): &(f64, f64)| {
                format!("M{:.1} {:.1}h0", x.place(*at_x, LEFT, RIGHT), y.place(*at_y, bottom, TOP))
            };
            let path: String = points.iter().map(dot).collect();
            let class = look.class();
            frame.add(format_args!(
                "<path class=\"mark cloud {class}\" d=\"{path}\"><title>{}</title></path>",
                escape(name)
            ));
            told.push(format!("{name}: {} items", points.len()));
        }
        Some(Drawing { size: (WIDTH, frame.height), marks: frame.marks, told: told.join(", ") })
    }
}
