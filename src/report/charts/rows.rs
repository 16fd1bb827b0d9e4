//! Horizontal bars, each with its name before and its value behind it: what a part has of a whole.

use super::super::html::{Table, escape, text};
use super::frame::{Frame, WIDTH, shorten};
use super::scale::Scale;
use super::{Chart, Drawing, Look};

pub struct Rows {
    pub chart: Chart,
    pub name: String,
    pub look: Look,
    /// Name, length, and the length as text.
    pub rows: Vec<(String, f64, String)>,
}

/// Of one row, and where its bar may lie.
const ROW: f64 = 26.0;
const LEFT: f64 = 126.0;
const RIGHT: f64 = WIDTH - 78.0;

impl Rows {
    pub fn html(&self) -> String {
        let mut table = Table::new(["", self.name.as_str()]);
        for (name, _, value) in &self.rows {
            table.row([text(name), text(value)]);
        }
        self.chart.figure(&[], self.draw(), table)
    }

    fn draw(&self) -> Option<Drawing> {
        let scale = Scale::over(self.rows.iter().map(|row| row.1), true, 4)?;
        let mut frame = Frame::new(ROW * self.rows.len() as f64 + 22.0);
        let bottom = frame.height - 20.0;
        for tick in scale.ticks() {
            let x = scale.place(tick, LEFT, RIGHT);
            let (label, y) = (scale.label(tick), bottom + 15.0);
            frame.add(format_args!(
                "<path class=\"grid\" d=\"M{x:.1} 0V{bottom}\"/><text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>"
            ));
        }
        let class = self.look.class();
        for (at, (name, value, written)) in self.rows.iter().enumerate() {
            let (y, x) = (ROW * at as f64, scale.place(*value, LEFT, RIGHT));
            let (shown, middle) = (escape(&shorten(name, 16)), y + ROW / 2.0 + 4.0);
            let written = escape(written);
            frame.add(format_args!(
                "<text class=\"name\" x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{shown}</text>\
                 <rect class=\"mark bar {class}\" x=\"{LEFT}\" y=\"{}\" width=\"{:.1}\" height=\"{}\"><title>{}: {written}</title></rect>\
                 <text class=\"told\" x=\"{:.1}\" y=\"{middle}\">{written}</text>",
                LEFT - 8.0,
                y + 5.0,
                (x - LEFT).max(0.8),
                ROW - 10.0,
                escape(name),
                x + 6.0,
            ));
        }
        let told: Vec<String> = self.rows.iter().map(|(name, _, written)| format!("{name}: {written}")).collect();
        Some(Drawing { size: (WIDTH, frame.height), marks: frame.marks, told: told.join(", ") })
    }
}
