//! The spec of a tower: where each feature stands in its input, and which layers follow.

use std::collections::BTreeMap;

use super::learn::Side;
use super::quantiles::Statistics;
use super::spec::{
    AttentionSpec, CrossedColumn, Encoding, FeatureSpecEntry, GatingSpec, LayerSpec, NormalizationSpec, TableSpec,
    TowerSpec, ValueType,
};
use crate::config::{Activation, Combine, Config, Feature, FeatureKind, Normalization, Pooling, Tower};
use crate::error::{Error, Result};

/// PyTorch's default for both kinds.
const NORMALIZATION_EPSILON: f64 = 1e-5;
/// How many times fewer values than features there are between the two layers of gating: 3 in FiBiNET (Huang et al. 2019).
const GATING_REDUCTION: usize = 3;

/// What was learned of features, by side and name.
#[derive(Default)]
pub(super) struct Measures {
    pub numbers: BTreeMap<(&'static str, String), Statistics>,
    /// Lengths of vectors; none while all were null.
    pub lengths: BTreeMap<(&'static str, String), Option<usize>>,
    /// Types of the columns of crossed features.
    pub crossed: BTreeMap<(&'static str, String), Vec<ValueType>>,
}

impl Measures {
    pub fn boundaries(&self, side: &'static str, name: &str, feature: &Feature) -> Vec<f64> {
        match (&feature.boundaries, self.numbers.get(&(side, name.to_string()))) {
            (Some(given), _) => given.clone(),
            (None, Some(statistics)) => statistics.clone().boundaries(feature.buckets.unwrap_or(10)),
            (None, None) => Vec::new(),
        }
    }
}

pub(super) fn tower_spec(
    config: &Config,
    side: Side,
    tables: &BTreeMap<String, TableSpec>,
    learned: &Measures,
) -> Result<TowerSpec> {
    let tower = match side {
        Side::User => &config.model.user_tower,
        Side::Item => &config.model.item_tower,
    };
    let mut features = Vec::new();
    let mut end = 0;
    for (_, name, feature) in config.all_features().filter(|(s, ..)| *s == side.name()) {
        let table = feature.table(name).unwrap_or(name).to_string();
        let encoding = match feature.kind {
            FeatureKind::Id => Encoding::Id { table },
            FeatureKind::Ids => {
                let (pooling, weights) = (feature.pooling.unwrap_or_default(), feature.weights.clone());
                let tensor = |what: &str| format!("{}.{name}.attention.{what}", side.name());
                let attention = (pooling == Pooling::Attention).then(|| AttentionSpec {
                    weight: tensor("weight"),
                    bias: tensor("bias"),
                    positions: feature.max_length.unwrap_or(1),
                });
                Encoding::Ids { table, pooling, max_length: feature.max_length, weights, attention }
            }
            FeatureKind::Text => {
                Encoding::Text { table, pooling: feature.pooling.unwrap_or_default(), max_length: feature.max_length }
            }
            FeatureKind::Vector => {
                let length = learned.lengths.get(&(side.name(), name.to_string())).copied().flatten();
                let length = length.ok_or_else(|| {
                    Error::config(format!(
                        "features.{}.{name}: column `{}` is null in every row, so the length of its vectors is not known; look at the SQL, or remove the feature",
                        side.name(),
                        feature.column(name)
                    ))
                })?;
                Encoding::Vector { length, normalize: feature.normalize.unwrap_or(false) }
            }
            FeatureKind::Crossed => {
                let types = learned.crossed.get(&(side.name(), name.to_string())).map_or(&[][..], Vec::as_slice);
                let columns = feature.columns(name).into_iter().zip(types);
                let of = columns
                    .map(|(column, value_type)| CrossedColumn { column: column.into(), value_type: *value_type });
                Encoding::Crossed { table, of: of.collect() }
            }
            FeatureKind::Categorical => Encoding::Categorical { table },
            FeatureKind::Numeric => {
                let statistics =
                    learned.numbers.get(&(side.name(), name.to_string())).cloned().unwrap_or(Statistics::new());
                let (mean, deviation) = (statistics.mean(), statistics.deviation());
                Encoding::Numeric { transform: feature.transform.unwrap_or_default(), mean, deviation }
            }
            FeatureKind::Bucketized => {
                Encoding::Bucketized { table, boundaries: learned.boundaries(side.name(), name, feature) }
            }
            FeatureKind::Boolean => Encoding::Boolean,
        };
        let width = match &encoding {
            Encoding::Vector { length, .. } => length + 1,
            other => other.table().map_or(2, |table| tables[table].dim),
        };
        let offset = if tower.combine == Combine::Sum { 0 } else { end };
        end = offset + width;
        features.push(FeatureSpecEntry {
            name: name.to_string(),
            column: feature.column(name).to_string(),
            offset,
            width,
            encoding,
        });
    }
    let gating = tower.gating.then(|| gating(side, features.len()));
    let layers = layers(tower, side, end, config.model.dim);
    Ok(TowerSpec { combine: tower.combine, width: end, features, gating, layers })
}

/// Hidden layers and the map to `dim`; none at all for summed embeddings without hidden layers.
fn layers(tower: &Tower, side: Side, width: usize, dim: usize) -> Vec<LayerSpec> {
    if tower.combine == Combine::Sum && tower.layers.is_empty() {
        return Vec::new();
    }
    let outputs = tower.layers.iter().copied().chain([dim]);
    let mut inputs = width;
    let layer = |(at, outputs): (usize, usize)| {
        let hidden = at < tower.layers.len();
        let mut layer = LayerSpec::new(&format!("{}.{at}", side.name()), inputs, outputs);
        layer.activation = hidden.then_some(tower.activation);
        layer.normalization = if hidden { normalization(tower.normalization, side, at) } else { None };
        layer.residual = tower.residual && hidden && at > 0 && inputs == outputs;
        inputs = outputs;
        layer
    };
    outputs.enumerate().map(layer).collect()
}

fn normalization(kind: Normalization, side: Side, layer: usize) -> Option<NormalizationSpec> {
    let name = |what: &str| format!("{}.{layer}.norm.{what}", side.name());
    let (scale, shift, epsilon) = (name("scale"), name("shift"), NORMALIZATION_EPSILON);
    match kind {
        Normalization::None => None,
        Normalization::Layer => Some(NormalizationSpec::Layer { scale, shift, epsilon }),
        Normalization::Batch => Some(NormalizationSpec::Batch {
            scale,
            shift,
            mean: name("mean"),
            variance: name("variance"),
            batches: name("batches"),
            epsilon,
        }),
    }
}

/// The factors of `features` features, by way of a third as many values.
fn gating(side: Side, features: usize) -> GatingSpec {
    let hidden = features.div_ceil(GATING_REDUCTION);
    let mut squeeze = LayerSpec::new(&format!("{}.gating.0", side.name()), features, hidden);
    squeeze.activation = Some(Activation::Relu);
    GatingSpec { squeeze, excite: LayerSpec::new(&format!("{}.gating.1", side.name()), hidden, features) }
}
