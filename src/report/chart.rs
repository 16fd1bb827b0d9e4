//! Line charts as SVG, with the same numbers as text for those who cannot see them.

use std::fmt::Write;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 56.0;
const BOTTOM: f64 = 24.0;
const TOP: f64 = 10.0;

/// One line over x = 1, 2, 3 …; nothing when there are fewer than two points.
pub fn line(title: &str, x_name: &str, values: &[f64]) -> String {
    let finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    if finite.len() < 2 || finite.len() != values.len() {
        return String::new();
    }
    let (low, high) = finite.iter().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    let span = if high > low { high - low } else { high.abs().max(1e-9) };
    let x = |at: usize| LEFT + (WIDTH - LEFT - 8.0) * at as f64 / (values.len() - 1) as f64;
    let y = |value: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - (value - low) / span);
    let points: Vec<String> = values.iter().enumerate().map(|(at, v)| format!("{:.1},{:.1}", x(at), y(*v))).collect();
    let told: Vec<String> = values.iter().map(|v| format!("{v:.4}")).collect();
    let mut svg = format!(
        "<figure><figcaption>{title}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title} by {x_name}: {}\">",
        told.join(", ")
    );
    for value in [low, high] {
        let at = y(value);
        write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.4}</text>",
            LEFT - 6.0,
            at + 4.0
        )
        .expect("a string takes text");
    }
    write!(svg, "<polyline points=\"{}\"/>", points.join(" ")).expect("a string takes text");
    for at in [0, values.len() - 1] {
        write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{x_name} {}</text>",
            x(at).clamp(LEFT + 16.0, WIDTH - 34.0),
            HEIGHT - 6.0,
            at + 1
        )
        .expect("a string takes text");
    }
    svg + "</svg></figure>"
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_chart_tells_its_numbers_and_a_single_point_draws_none() {
        let svg = line("loss", "epoch", &[2.0, 1.5, 1.0]);
        assert!(svg.contains("2.0000, 1.5000, 1.0000") && svg.contains("<polyline"));
        assert!(line("loss", "epoch", &[1.0]).is_empty());
        assert!(line("loss", "epoch", &[1.0, f64::NAN]).is_empty());
    }
}
