//! Axes, ticks and grid.

use std::fmt::Write;

use super::super::html::escape;
use super::scale::Scale;

/// Small enough that text stays readable where the drawing is as wide as a phone.
pub const WIDTH: f64 = 420.0;
pub const LEFT: f64 = 48.0;
pub const RIGHT: f64 = WIDTH - 10.0;
pub const TOP: f64 = 26.0;
/// Below the x axis, for its ticks and its name.
const BELOW: f64 = 40.0;
/// Width of a letter, about.
const LETTER: f64 = 7.4;

/// A drawing with two axes, of a given height.
pub struct Frame {
    pub height: f64,
    pub marks: String,
}

impl Frame {
    pub fn new(height: f64) -> Frame {
        Frame { height, marks: String::new() }
    }

    /// Of most charts.
    pub fn usual() -> Frame {
        Frame::new(250.0)
    }

    pub fn bottom(&self) -> f64 {
        self.height - BELOW
    }

    pub fn add(&mut self, mark: std::fmt::Arguments<'_>) {
        self.marks.write_fmt(mark).expect("a string takes text");
    }

    /// The y axis: its name above it, a line across for each tick.
    pub fn y_axis(&mut self, name: &str, scale: &Scale) {
        self.add(format_args!("<text class=\"name\" x=\"2\" y=\"12\">{}</text>", escape(name)));
        for tick in scale.ticks() {
            let y = scale.place(tick, self.bottom(), TOP);
            self.add(format_args!(
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                scale.label(tick)
            ));
        }
    }

    /// An x axis of numbers, with a line upwards for each tick.
    pub fn x_numbers(&mut self, name: &str, scale: &Scale) {
        self.x_name(name);
        let ticks = scale.ticks();
        let every = every(ticks.len(), ticks.iter().map(|tick| scale.label(*tick).len()).max().unwrap_or(1));
        for (at, value) in ticks.into_iter().enumerate() {
            let x = scale.place(value, LEFT, RIGHT);
            let bottom = self.bottom();
            self.add(format_args!("<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/>"));
            if at % every == 0 {
                self.tick(x, &scale.label(value));
            }
        }
    }

    /// An x axis of categories, each at the place that `place` gives; labels are left out where they would touch.
    pub fn x_labels(&mut self, name: &str, labels: &[String], place: impl Fn(usize) -> f64) {
        self.x_name(name);
        let shown: Vec<String> = labels.iter().map(|label| shorten(label, 14)).collect();
        let every = every(shown.len(), shown.iter().map(|label| label.chars().count()).max().unwrap_or(1));
        let last = shown.len().saturating_sub(1);
        for (at, label) in shown.iter().enumerate() {
            // counted from the end, so that the newest has its label
            if (last - at).is_multiple_of(every) {
                self.tick(place(at), label);
            }
        }
    }

    fn x_name(&mut self, name: &str) {
        let (middle, y, bottom) = ((LEFT + RIGHT) / 2.0, self.height - 5.0, self.bottom());
        self.add(format_args!(
            "<text class=\"name\" x=\"{middle}\" y=\"{y}\" text-anchor=\"middle\">{}</text><path class=\"axis\" d=\"M{LEFT} {bottom}H{RIGHT}\"/>",
            escape(name)
        ));
    }

    fn tick(&mut self, x: f64, label: &str) {
        // a label at the edge stays inside
        let half = label.chars().count() as f64 * LETTER / 2.0;
        let (at, bottom) = (x.clamp(half, (WIDTH - half).max(half)), self.bottom());
        self.add(format_args!(
            "<path class=\"axis\" d=\"M{x:.1} {bottom}v4\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 17.0,
            escape(label)
        ));
    }
}

/// Of `count` labels with so many `letters` every how many-th has room.
fn every(count: usize, letters: usize) -> usize {
    let room = ((RIGHT - LEFT) / (letters as f64 * LETTER + 8.0)).max(1.0) as usize;
    count.div_ceil(room).max(1)
}

pub fn shorten(label: &str, letters: usize) -> String {
    if label.chars().count() <= letters {
        return label.into();
    }
    label.chars().take(letters - 1).chain(['…']).collect()
}
