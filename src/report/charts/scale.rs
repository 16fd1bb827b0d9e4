//! From numbers to places and tick marks.

/// A range of numbers with ticks at round values; it begins and ends with one.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    step: f64,
}

impl Scale {
    /// Over all finite `values`, with about `ticks` ticks; `None` when there are none.
    pub fn over(values: impl IntoIterator<Item = f64>, from_zero: bool, ticks: usize) -> Option<Scale> {
        let finite = values.into_iter().filter(|value| value.is_finite());
        let (mut low, mut high) = finite.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            return None;
        }
        if from_zero {
            (low, high) = (low.min(0.0), high.max(0.0));
        }
        // float32 knows no smaller differences; a flat line lies in the middle
        let least = (low.abs().max(high.abs()) * 1e-7).max(1e-12);
        if high - low < least {
            let room = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
            (low, high) = if from_zero { (low, high + room) } else { (low - room, high + room) };
        }
        let rough = (high - low) / ticks.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(rough);
        // what is a rounding error away from a tick is on it
        let (low, high) = ((low / step + 1e-6).floor() * step, (high / step - 1e-6).ceil() * step);
        Some(Scale { low, high, step })
    }

    /// The same for shares, which are never more than 1.
    pub fn of_shares(self) -> Scale {
        let high = if self.low < 1.0 { self.high.min(1.0) } else { self.high };
        // the steps still meet the upper end, since 1 is a round value
        Scale { high, ..self }
    }

    pub fn ticks(&self) -> Vec<f64> {
        let count = ((self.high - self.low) / self.step).round() as usize;
        (0..=count).map(|at| self.low + self.step * at as f64).collect()
    }

    /// The place of `value` where the range lies from `from` to `to`.
    pub fn place(&self, value: f64, from: f64, to: f64) -> f64 {
        from + (to - from) * (value - self.low) / (self.high - self.low)
    }

    /// Where bars begin.
    pub fn base(&self) -> f64 {
        0.0_f64.clamp(self.low, self.high)
    }

    /// A tick as text, with the digits that tell it from its neighbour.
    pub fn label(&self, tick: f64) -> String {
        let (unit, suffix) = match self.high.abs().max(self.low.abs()) {
            most if most >= 1e9 => (1e9, "G"),
            most if most >= 1e6 => (1e6, "M"),
            most if most >= 1e4 => (1e3, "k"),
            _ => (1.0, ""),
        };
        let decimals = (-((self.step / unit).log10() + 1e-9).floor()).clamp(0.0, 9.0) as usize;
        let value = if tick.abs() < self.step * 1e-6 { 0.0 } else { tick / unit };
        if value == 0.0 { "0".into() } else { format!("{value:.decimals$}{suffix}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64], from_zero: bool) -> Vec<String> {
        let scale = Scale::over(values.iter().copied(), from_zero, 4).unwrap();
        scale.ticks().into_iter().map(|tick| scale.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        assert_eq!(labels(&[0.12, 0.31], false), ["0.10", "0.15", "0.20", "0.25", "0.30", "0.35"]);
        assert_eq!(labels(&[0.12, 0.31], true), ["0", "0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(labels(&[-3.0, 9.0], false), ["-5", "0", "5", "10"]);
        assert_eq!(labels(&[0.0, 48_000.0], true), ["0", "20k", "40k", "60k"]);
        assert_eq!(labels(&[0.0, 2_000_000.0], true), ["0", "0.5M", "1.0M", "1.5M", "2.0M"]);
    }

    #[test]
    fn one_value_lies_in_the_middle_and_none_has_no_scale() {
        assert_eq!(labels(&[0.5], false), ["0.45", "0.50", "0.55"]);
        assert_eq!(labels(&[0.0, 0.0], true), ["0", "0.5", "1.0"]);
        assert_eq!(Scale::over([f64::NAN, f64::INFINITY], false, 4), None);
        assert_eq!(Scale::over([], true, 4), None);
        let shares = Scale::over([1.0], false, 4).unwrap().of_shares();
        assert_eq!(shares.ticks().last(), Some(&1.0));
        let scale = Scale::over([f64::NAN, 0.0, 10.0], false, 4).unwrap();
        assert_eq!(scale.place(5.0, 100.0, 0.0), 50.0);
    }
}
