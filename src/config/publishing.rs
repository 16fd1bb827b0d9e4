//! Who may write to the output now, and what is kept of what was published.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// One writer at a time per output. A run takes the lease after its samples, a rollback and `release gc` at once; a second one
/// waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Lease {
    /// How long a lease holds after its last renewal; it is renewed three times in this time. A run that was killed keeps
    /// others waiting this long. A short one is lost by a writer that the store or the machine holds up for longer; it then
    /// publishes nothing and leaves with 75. At least 1s on S3, whose times are whole seconds.
    pub ttl: Duration,
    /// How long to wait for another writer before leaving with 75. Longer than `ttl`, so that a rerun outlives the lease of the
    /// run that was killed; `0s` leaves at once.
    pub wait: Duration,
}

impl Default for Lease {
    fn default() -> Self {
        Lease { ttl: Duration::seconds(60), wait: Duration::seconds(600) }
    }
}

/// What `release gc` keeps. Nothing that a kept release refers to is ever removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// The newest releases that are kept, at least 1: as many as one may want to roll back over.
    pub keep: usize,
    /// Releases, and refused candidates, of the last days are kept too, however many there are.
    pub keep_days: u32,
    /// Candidates and sample tables written to within this time are kept, published or not: one of them may be a run in
    /// progress, or what a retry goes on from. Longer than the longest pause between two stages of one run.
    pub grace: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { keep: 14, keep_days: 14, grace: Duration::seconds(2 * 86_400) }
    }
}
