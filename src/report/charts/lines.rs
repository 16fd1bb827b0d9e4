//! Lines over categories in order: epochs, releases.

use super::super::html::{escape, number};
use super::frame::{Frame, LEFT, RIGHT, TOP, WIDTH};
use super::scale::Scale;
use super::{Chart, Drawing, Series, numbers, told};

pub struct Lines {
    pub chart: Chart,
    pub x_name: String,
    pub y_name: String,
    pub labels: Vec<String>,
    pub series: Vec<Series>,
    /// Whether the y axis begins with 0.
    pub from_zero: bool,
    /// Whether values are shares in 0..1.
    pub shares: bool,
}

impl Lines {
    pub fn html(&self) -> String {
        let legend: Vec<_> = self.series.iter().map(|series| (series.name.clone(), series.look)).collect();
        self.chart.figure(&legend, self.draw(), numbers(&self.x_name, &self.labels, &self.series))
    }

    fn draw(&self) -> Option<Drawing> {
        let values = self.series.iter().flat_map(|series| series.values.iter().flatten().copied());
        let scale = Scale::over(values, self.from_zero, 4)?;
        let scale = if self.shares { scale.of_shares() } else { scale };
        let mut frame = Frame::usual();
        let bottom = frame.bottom();
        frame.y_axis(&self.y_name, &scale);
        let count = self.labels.len();
        // a single point stands in the middle
        let place = |at: usize| match count {
            1 => (LEFT + RIGHT) / 2.0,
            _ => LEFT + 10.0 + (RIGHT - LEFT - 20.0) * at as f64 / (count - 1) as f64,
        };
        frame.x_labels(&self.x_name, &self.labels, place);
        for series in &self.series {
            let class = series.look.class();
            let mut path = String::new();
            let mut pen = 'M';
            for (at, value) in series.values.iter().enumerate() {
                match value {
                    Some(value) => {
                        path += &format!("{pen}{:.1} {:.1}", place(at), scale.place(*value, bottom, TOP));
                        pen = 'L';
                    }
                    None => pen = 'M',
                }
            }
            frame.add(format_args!("<path class=\"line {class}\" d=\"{path}\"/>"));
            for (at, value) in series.values.iter().enumerate() {
                let Some(value) = value else { continue };
                let mark = series.look.mark(place(at), scale.place(*value, bottom, TOP));
                let name = format!("{}, {}: {}", series.name, self.labels[at], number(*value));
                frame.add(format_args!(
                    "<path class=\"mark dot {class}\" d=\"{mark}\"><title>{}</title></path>",
                    escape(&name)
                ));
            }
        }
        Some(Drawing { size: (WIDTH, frame.height), marks: frame.marks, told: told(&self.labels, &self.series) })
    }
}
