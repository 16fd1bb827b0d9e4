//! Bars over categories, those of several series side by side.

use super::super::html::{escape, number};
use super::frame::{Frame, LEFT, RIGHT, TOP, WIDTH};
use super::scale::Scale;
use super::{Chart, Drawing, Series, numbers, told};

pub struct Bars {
    pub chart: Chart,
    pub x_name: String,
    pub y_name: String,
    pub labels: Vec<String>,
    pub series: Vec<Series>,
}

impl Bars {
    pub fn html(&self) -> String {
        let legend: Vec<_> = self.series.iter().map(|series| (series.name.clone(), series.look)).collect();
        self.chart.figure(&legend, self.draw(), numbers(&self.x_name, &self.labels, &self.series))
    }

    fn draw(&self) -> Option<Drawing> {
        let values = self.series.iter().flat_map(|series| series.values.iter().flatten().copied());
        let scale = Scale::over(values, true, 4)?;
        let mut frame = Frame::usual();
        let bottom = frame.bottom();
        frame.y_axis(&self.y_name, &scale);
        let slot = (RIGHT - LEFT) / self.labels.len().max(1) as f64;
        frame.x_labels(&self.x_name, &self.labels, |at| LEFT + slot * (at as f64 + 0.5));
        let base = scale.place(scale.base(), bottom, TOP);
        // a lone bar need not fill the whole chart
        let width = (slot * 0.8 / self.series.len().max(1) as f64).min(48.0);
        let first = (slot - width * self.series.len() as f64) / 2.0;
        for (nth, series) in self.series.iter().enumerate() {
            let class = series.look.class();
            for (at, value) in series.values.iter().enumerate() {
                let Some(value) = value else { continue };
                let y = scale.place(*value, bottom, TOP);
                let (top, height) = (y.min(base), (y - base).abs().max(0.8));
                let x = LEFT + slot * at as f64 + first + width * nth as f64;
                let name = format!("{}, {}: {}", series.name, self.labels[at], number(*value));
                frame.add(format_args!("<rect class=\"mark bar {class}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>{}</title></rect>",
                    (width - 1.0).max(0.6),
                    escape(&name)
                ));
            }
        }
        Some(Drawing { size: (WIDTH, frame.height), marks: frame.marks, told: told(&self.labels, &self.series) })
    }
}
