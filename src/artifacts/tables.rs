//! The contract of the sample tables: the columns that later stages rely on.

/// Whether a job can do without a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Required,
    Optional,
}

/// What a column must be. Features may stand beside the listed columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnContract {
    /// BIGINT or VARCHAR, the same type in all tables, never null.
    UserId,
    ItemId,
    /// BIGINT, never null.
    SampleId,
    /// Any timestamp, never null.
    Timestamp,
    /// Any number.
    Number,
    /// Any integer.
    Integer,
}

/// One sample table.
pub struct Contract {
    pub table: &'static str,
    pub need: Need,
    pub columns: &'static [(&'static str, ColumnContract, Need)],
    /// Columns that no two rows may share.
    pub key: &'static [&'static str],
    /// Order of rows in the files: by hash of the first, then the columns themselves.
    pub order: &'static [&'static str],
}

use ColumnContract::{Integer, ItemId, Number, SampleId, Timestamp, UserId};
use Need::{Optional, Required};

/// Every table that later stages read, as the design lists them.
pub fn contracts() -> &'static [Contract] {
    &[
        Contract {
            table: "positives",
            need: Required,
            columns: &[
                ("sample_id", SampleId, Required),
                ("user_id", UserId, Required),
                ("item_id", ItemId, Required),
                ("event_time", Timestamp, Required),
                ("weight", Number, Optional),
                // since when the newest of the row's features were known; held against the event by an audit
                ("features_time", Timestamp, Optional),
            ],
            key: &["sample_id"],
            order: &["sample_id"],
        },
        Contract {
            table: "random_negatives",
            need: Optional,
            columns: &[
                ("sample_id", SampleId, Required),
                ("item_id", ItemId, Required),
                ("sampling_probability", Number, Optional),
            ],
            key: &[],
            order: &["sample_id", "item_id"],
        },
        Contract {
            table: "hard_negatives",
            need: Optional,
            columns: &[
                ("sample_id", SampleId, Required),
                ("item_id", ItemId, Required),
                ("ranker_score", Number, Required),
                ("ranker_rank", Integer, Required),
            ],
            key: &["sample_id", "item_id"],
            order: &["sample_id", "item_id"],
        },
        Contract {
            table: "shown_negatives",
            need: Optional,
            columns: &[("sample_id", SampleId, Required), ("item_id", ItemId, Required)],
            key: &["sample_id", "item_id"],
            order: &["sample_id", "item_id"],
        },
        Contract {
            table: "item_features",
            need: Required,
            columns: &[("item_id", ItemId, Required)],
            key: &["item_id"],
            order: &["item_id"],
        },
        Contract {
            table: "user_features",
            need: Required,
            columns: &[("user_id", UserId, Required)],
            key: &["user_id"],
            order: &["user_id"],
        },
        Contract {
            table: "item_frequency",
            need: Required,
            columns: &[
                ("item_id", ItemId, Required),
                ("positives", Integer, Required),
                ("impressions", Integer, Required),
                ("sampling_weight", Number, Optional),
            ],
            key: &["item_id"],
            order: &["item_id"],
        },
        Contract {
            table: "holdout",
            need: Optional,
            columns: &[("user_id", UserId, Required), ("item_id", ItemId, Required)],
            key: &["user_id", "item_id"],
            order: &["user_id", "item_id"],
        },
        // for evaluation: where each held-out item ranks among these alone
        Contract {
            table: "holdout_candidates",
            need: Optional,
            columns: &[("user_id", UserId, Required), ("item_id", ItemId, Required)],
            key: &["user_id", "item_id"],
            order: &["user_id", "item_id"],
        },
        Contract {
            table: "seen",
            need: Optional,
            columns: &[("user_id", UserId, Required), ("item_id", ItemId, Required)],
            key: &["user_id", "item_id"],
            order: &["user_id", "item_id"],
        },
    ]
}
