//! Learning rates by step.

use std::f64::consts::PI;

use crate::config::{Schedule, Training};

/// Learning rates of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    pub dense: f64,
    pub tables: f64,
}

impl Rates {
    /// Those of step `step` (from 0) of `total`: they rise over the first steps, then follow the schedule.
    pub fn at(training: &Training, step: u64, total: u64) -> Rates {
        let rate = &training.learning_rate;
        let share = if step < rate.warmup_steps {
            (step + 1) as f64 / rate.warmup_steps as f64
        } else {
            let way = (step - rate.warmup_steps) as f64 / total.saturating_sub(rate.warmup_steps).max(1) as f64;
            let left = match rate.schedule {
                Schedule::Constant => 1.0,
                Schedule::Linear => 1.0 - way.min(1.0),
                Schedule::Cosine => (1.0 + (PI * way.min(1.0)).cos()) / 2.0,
            };
            if left == 1.0 { 1.0 } else { rate.final_share + (1.0 - rate.final_share) * left }
        };
        Rates { dense: rate.dense * share, tables: rate.tables * share }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LearningRate;

    fn rates(schedule: Schedule, steps: &[u64]) -> Vec<f64> {
        let learning_rate = LearningRate { dense: 2.0, tables: 4.0, warmup_steps: 10, schedule, final_share: 0.1 };
        let training = Training { learning_rate, ..Training::default() };
        let of = steps.iter().map(|step| {
            let rates = Rates::at(&training, *step, 110);
            assert_eq!(rates.tables, 2.0 * rates.dense);
            (rates.dense * 1e9).round() / 1e9
        });
        of.collect()
    }

    #[test]
    fn rates_rise_over_the_first_steps_and_then_follow_the_schedule() {
        let steps = [0, 4, 9, 10, 60, 110, 500];
        assert_eq!(rates(Schedule::Constant, &steps), [0.2, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0]);
        assert_eq!(rates(Schedule::Linear, &steps), [0.2, 1.0, 2.0, 2.0, 1.1, 0.2, 0.2]);
        assert_eq!(rates(Schedule::Cosine, &steps), [0.2, 1.0, 2.0, 2.0, 1.1, 0.2, 0.2]);
        // a quarter of the way: (1 + cos 45 degrees) / 2
        assert_eq!(rates(Schedule::Cosine, &[35]), [1.736396103]);
    }

    #[test]
    fn a_training_that_ends_within_its_warm_up_never_reaches_the_rates() {
        let training = Training { learning_rate: LearningRate::default(), ..Training::default() };
        assert_eq!(Rates::at(&training, 49, 50).dense, 0.0005);
    }
}
