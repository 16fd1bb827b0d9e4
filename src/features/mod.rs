//! From table columns to what a tower takes: vocabularies, encoders, and the feature spec that describes both, so
//! that a service in any language can encode a user as training did.
//!
//! ```text
//! learn:  positives + item_features -> counts and statistics -> FeatureSpec + Vocabularies
//! encode: RecordBatch + TowerSpec + Vocabularies -> Encoded (table rows as u32, numbers as f32)
//! ```

mod columns;
mod encode;
mod encoded;
mod growth;
mod hashing;
mod learn;
mod lists;
mod quantiles;
mod spec;
#[cfg(test)]
mod tests;
mod tower;
pub(crate) mod vocabulary;

pub use columns::{Keys, id_keys, integers, no_column, numbers};
pub use encode::Encoder;
pub use encoded::{BatchColumn, Encoded, EncodedColumn, FeatureBatch};
pub use growth::{Eviction, Growth};
pub use learn::{Grown, ITEM_BIAS, Learned, Learner, Side, item_biases};
pub use spec::{
    AttentionSpec, CrossedColumn, Encoding, FeatureSpec, FeatureSpecEntry, GatingSpec, IdHash, LayerSpec,
    NormalizationSpec, RowHash, TableSpec, TowerSpec, ValueType,
};
pub use vocabulary::{Vocabularies, Vocabulary};
