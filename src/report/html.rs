//! Text as markup, numbers as text, tables.

use std::fmt::Write;

/// Text for people as markup.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A piece of markup that is whole.
#[derive(Debug, Clone)]
pub struct Html(pub String);

pub fn text(text: &str) -> Html {
    Html(escape(text))
}

/// With commas between thousands.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Whole ones as such, others with four decimals, tiny ones with two digits.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "not a number".into();
    }
    let sign = if value < 0.0 { "-" } else { "" };
    match value.abs() {
        size if size.fract() == 0.0 && size < 1e15 => format!("{sign}{}", count(size as u64)),
        size if size < 5e-4 => format!("{value:.1e}"),
        size if size >= 1000.0 => format!("{sign}{}", count(size.round() as u64)),
        _ => format!("{value:.4}"),
    }
}

/// With its sign, for differences.
pub fn signed(value: f64) -> String {
    // as many digits as the values have that differ
    let text = if value.fract() != 0.0 && value.abs() < 1.0 { format!("{value:.4}") } else { number(value) };
    if value > 0.0 { format!("+{text}") } else { text.replacen('-', "−", 1) }
}

pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

pub fn bytes(value: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let (mut size, mut unit) = (value as f64, 0);
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { plural(value, "byte", "bytes") } else { format!("{size:.1} {}", units[unit]) }
}

pub fn seconds(value: f64) -> String {
    let whole = value.round() as u64;
    match value {
        value if value < 10.0 => format!("{value:.1} s"),
        value if value < 100.0 => format!("{whole} s"),
        value if value < 6000.0 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `1 item`, `2 items`.
pub fn plural(value: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(value), if value == 1 { one } else { many })
}

/// A table. A column whose cells are numbers stands to the right.
pub struct Table {
    header: Vec<String>,
    rows: Vec<(bool, Vec<Html>)>,
}

impl Table {
    pub fn new<'a>(header: impl IntoIterator<Item = &'a str>) -> Table {
        Table { header: header.into_iter().map(str::to_string).collect(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = Html>) {
        self.marked(false, cells);
    }

    /// A row that stands out, if `marked`.
    pub fn marked(&mut self, marked: bool, cells: impl IntoIterator<Item = Html>) {
        self.rows.push((marked, cells.into_iter().collect()));
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn html(&self) -> String {
        let numeric = |cell: &Html| {
            let first = cell.0.chars().next();
            first.is_none_or(|c| c.is_ascii_digit() || matches!(c, '-' | '+' | '−'))
        };
        let is_text =
            |column: usize| column == 0 || !self.rows.iter().all(|(_, cells)| cells.get(column).is_none_or(numeric));
        let class: Vec<&str> = (0..self.header.len()).map(|at| if is_text(at) { " class=\"t\"" } else { "" }).collect();
        // scrolls by itself where it is wider than a phone; can be reached by keyboard for that
        let mut out = String::from("<div class=\"scroll\" tabindex=\"0\"><table><thead><tr>");
        for (name, class) in self.header.iter().zip(&class) {
            write!(out, "<th scope=\"col\"{class}>{}</th>", escape(name)).expect("a string takes text");
        }
        out += "</tr></thead><tbody>";
        for (marked, cells) in &self.rows {
            out += if *marked { "<tr class=\"marked\">" } else { "<tr>" };
            for (at, (cell, class)) in cells.iter().zip(&class).enumerate() {
                let tag = if at == 0 { "th scope=\"row\"" } else { "td" };
                // names of tables and gates may break after an underscore
                let cell = if at == 0 { cell.0.replace('_', "_<wbr>") } else { cell.0.clone() };
                write!(out, "<{tag}{class}>{cell}</{}>", &tag[..2]).expect("a string takes text");
            }
            out += "</tr>";
        }
        out + "</tbody></table></div>\n"
    }
}

/// A word with a sign and a colour that say the same.
pub fn badge(mood: Mood, word: &str) -> Html {
    let (class, sign) = mood.class();
    Html(format!("<span class=\"badge {class}\"><span aria-hidden=\"true\">{sign}</span> {}</span>", escape(word)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Good,
    Warning,
    Bad,
    Neutral,
}

impl Mood {
    pub fn class(self) -> (&'static str, &'static str) {
        match self {
            Mood::Good => ("good", "✓"),
            Mood::Warning => ("warning", "!"),
            Mood::Bad => ("bad", "✕"),
            Mood::Neutral => ("neutral", "–"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_logs_cannot_become_markup() {
        assert_eq!(escape("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }

    #[test]
    fn numbers_are_written_for_people() {
        let numbers = [1234567.0, 0.12345, 0.0000123, -5.0, 12345.6, f64::NAN].map(number);
        assert_eq!(numbers, ["1,234,567", "0.1235", "1.2e-5", "-5", "12,346", "not a number"]);
        assert_eq!([1, 1023, 1024, 5 << 20].map(bytes), ["1 byte", "1,023 bytes", "1.0 KiB", "5.0 MiB"]);
        assert_eq!([0.25, 61.0, 125.0, 7260.0].map(seconds), ["0.2 s", "61 s", "2 min 5 s", "2 h 1 min"]);
        assert_eq!([0.5, -0.0003, 0.0].map(signed), ["+0.5000", "−0.0003", "0"]);
    }

    #[test]
    fn a_column_of_words_stands_to_the_left_and_one_of_numbers_to_the_right() {
        let mut table = Table::new(["name", "rows", "note"]);
        table.row([text("a"), text("5"), text("good")]);
        table.marked(true, [text("b"), text(""), text("")]);
        let html = table.html();
        assert!(html.contains("<th scope=\"col\">rows</th><th scope=\"col\" class=\"t\">note</th>"), "{html}");
        assert!(html.contains("<tr class=\"marked\"><th scope=\"row\" class=\"t\">b</th>"), "{html}");
    }
}
