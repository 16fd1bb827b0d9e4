//! How far a training has come: all of its state but the weights and their optimizers.

use serde::{Deserialize, Serialize};

use super::metrics::Lines;
use crate::artifacts::EpochFacts;
use crate::config::Training;
use crate::storage::FileEntry;

/// A number that is written as its bits, so that it reads back exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub struct Exact(pub f64);

impl From<u64> for Exact {
    fn from(bits: u64) -> Self {
        Exact(f64::from_bits(bits))
    }
}

impl From<Exact> for u64 {
    fn from(exact: Exact) -> Self {
        exact.0.to_bits()
    }
}

/// Where the loop stands: before step `step` of epoch `epoch`, or after its last step and before its measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// From 1.
    pub epoch: u32,
    pub step: usize,
    /// Steps that were made before this training, by the model it went on from.
    #[serde(default)]
    pub first_step: u64,
    /// Of the epoch at hand so far: losses of the rows over the number of all rows to learn from.
    pub loss: Exact,
    /// What its steps took.
    pub seconds: f64,
    /// Those behind.
    pub epochs: Vec<Epoch>,
    pub best: Option<Best>,
    pub metrics: Lines,
}

/// An epoch that is over.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Epoch {
    loss: Exact,
    recall: Option<Exact>,
    seconds: f64,
}

/// The epoch with the highest recall so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub epoch: u32,
    pub recall: Exact,
    pub inv_temperature: Exact,
    /// Its weights in the store; empty until they are written.
    pub files: Vec<FileEntry>,
}

impl State {
    pub fn new() -> Self {
        State {
            epoch: 1,
            step: 0,
            first_step: 0,
            loss: Exact(0.0),
            seconds: 0.0,
            epochs: Vec::new(),
            best: None,
            metrics: Lines::default(),
        }
    }

    /// Ends the epoch at hand, whose weights are still those in training.
    pub fn end_epoch(&mut self, recall: Option<f64>, inv_temperature: f64) {
        self.epochs.push(Epoch { loss: self.loss, recall: recall.map(Exact), seconds: self.seconds });
        if let Some(recall) = recall
            && self.best.as_ref().is_none_or(|best| recall > best.recall.0)
        {
            let inv_temperature = Exact(inv_temperature);
            self.best = Some(Best { epoch: self.epoch, recall: Exact(recall), inv_temperature, files: Vec::new() });
        }
        (self.epoch, self.step, self.loss, self.seconds) = (self.epoch + 1, 0, Exact(0.0), 0.0);
    }

    /// Whether recall has not risen for as many epochs as the config allows.
    pub fn has_stalled(&self, training: &Training) -> bool {
        let patience = training.early_stopping.patience;
        self.best.as_ref().is_some_and(|best| patience > 0 && self.epochs.len() as u32 - best.epoch >= patience)
    }

    /// Whether no step is left to make.
    pub fn is_over(&self, training: &Training) -> bool {
        self.epoch > training.epochs || (self.step == 0 && self.has_stalled(training))
    }

    /// The best epoch when it is not the last one, whose weights are at hand.
    pub fn earlier_best(&self) -> Option<&Best> {
        self.best.as_ref().filter(|best| best.epoch as usize != self.epochs.len())
    }

    pub fn facts(&self) -> Vec<EpochFacts> {
        let facts = self.epochs.iter().zip(1..).map(|(of, epoch)| EpochFacts {
            epoch,
            loss: of.loss.0,
            recall: of.recall.map(|recall| recall.0),
            seconds: of.seconds,
        });
        facts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_to_the_bit() {
        let mut state = State::new();
        state.loss = Exact(0.1 + 0.2);
        state.end_epoch(Some(1.0 / 3.0), 1.0 / 0.07);
        state.loss = Exact(f64::MIN_POSITIVE);
        let text = serde_json::to_string(&state).unwrap();
        let read: State = serde_json::from_str(&text).unwrap();
        assert_eq!((read.loss, read.best), (state.loss, state.best));
        assert_eq!(read.epochs[0].loss, Exact(0.1 + 0.2));
    }

    #[test]
    fn a_training_ends_when_recall_stalls_or_epochs_are_spent() {
        let mut training = Training { epochs: 5, ..Training::default() };
        let mut state = State::new();
        for recall in [0.2, 0.3, 0.3, 0.1] {
            assert!(!state.is_over(&training));
            state.end_epoch(Some(recall), 1.0);
        }
        assert!(state.is_over(&training), "two epochs without a better one");
        assert_eq!(state.earlier_best().map(|best| best.epoch), Some(2));
        training.early_stopping.patience = 0;
        assert!(!state.is_over(&training));
        state.end_epoch(Some(0.4), 1.0);
        assert!(state.is_over(&training) && state.earlier_best().is_none());
    }
}
