//! What must be known before a row can be encoded: vocabularies, means, boundaries.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::columns::Place;
use super::growth::{self, Eviction, Growth};
use super::quantiles::Statistics;
use super::spec::{FeatureSpec, IdHash, RowHash, TableSpec, ValueType};
use super::tower::{Measures, tower_spec};
use super::vocabulary::{Counts, Vocabularies};
use crate::artifacts::IdType;
use crate::config::{Config, Feature, FeatureKind, ItemBias, NumericTransform};
use crate::error::{Error, Result};

/// Who reads the column of the bias, for errors.
pub const ITEM_BIAS: &str = "model.item_bias";

/// Whose features a table carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    User,
    Item,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Side::User => "user",
            Side::Item => "item",
        }
    }

    /// The sample tables that carry its features.
    pub fn tables(self) -> &'static [&'static str] {
        match self {
            Side::User => &["positives", "user_features"],
            Side::Item => &["item_features"],
        }
    }
}

/// Counts values while the tables stream by: first all of `positives`, then all of `item_features`.
///
/// The values of a table are counted by the item features that use it, each as often as its item is a positive; or,
/// where no item feature uses it, by the user features over `positives`. So a history that shares the items' table
/// does not count.
pub struct Learner<'a> {
    config: &'a Config,
    /// Positives by item id.
    items: Option<Counts>,
    tables: BTreeMap<String, Counts>,
    learned: Measures,
}

/// The outcome.
pub struct Learned {
    pub spec: FeatureSpec,
    pub vocabularies: Vocabularies,
}

/// The outcome where an earlier day's was gone on from.
pub struct Grown {
    pub learned: Learned,
    /// By table, of those that have a vocabulary.
    pub growth: BTreeMap<String, Growth>,
}

impl<'a> Learner<'a> {
    pub fn new(config: &'a Config) -> Self {
        Learner { config, items: None, tables: BTreeMap::new(), learned: Measures::default() }
    }

    pub fn positives(&mut self, batch: &RecordBatch) -> Result<()> {
        let place = Place { table: "positives", column: "item_id", reader: "training" };
        let ids = place.keys(place.find(batch)?)?;
        let items = self.items.get_or_insert_with(|| Counts::new(ids.value_type()));
        (0..ids.len()).for_each(|at| items.add(&ids, at, 1));
        let once = vec![1; batch.num_rows()];
        self.observe(Side::User, "positives", batch, &once)
    }

    pub fn items(&mut self, batch: &RecordBatch) -> Result<()> {
        let place = Place { table: "item_features", column: "item_id", reader: "training" };
        let ids = place.keys(place.find(batch)?)?;
        let mut counts = vec![0; batch.num_rows()];
        if let Some(items) = &self.items {
            counts.iter_mut().enumerate().for_each(|(at, count)| *count = items.of(&ids, at));
        }
        self.observe(Side::Item, "item_features", batch, &counts)
    }

    /// Whether a table of this schema, without rows, has the columns that one side's features read, in types that they take.
    ///
    /// # Errors
    /// A text that names feature, table and column: the one that training would end with.
    pub fn check_columns(&mut self, side: Side, table: &str, schema: SchemaRef) -> Result<()> {
        let config = self.config;
        let empty = RecordBatch::new_empty(schema);
        self.observe(side, table, &empty, &[])?;
        for (_, name, feature) in config.all_features().filter(|(s, ..)| *s == side.name()) {
            let reader = format!("features.{}.{name}", side.name());
            // also those that only encoding reads
            for column in feature.columns(name) {
                Place { table, column, reader: &reader }.find(&empty)?;
            }
        }
        if let Some(bias) = config.model.item_bias.as_ref().filter(|_| side == Side::Item) {
            item_biases(bias, table, &empty)?;
        }
        Ok(())
    }

    /// Takes in the values of one side's features; row `i` counts `weights[i]` times.
    fn observe(&mut self, side: Side, table: &str, batch: &RecordBatch, weights: &[u64]) -> Result<()> {
        let config = self.config;
        for (_, name, feature) in config.all_features().filter(|(s, ..)| *s == side.name()) {
            let reader = format!("features.{}.{name}", side.name());
            let place = Place { table, column: feature.column(name), reader: &reader };
            let column = place.find(batch)?;
            match feature.kind {
                FeatureKind::Id | FeatureKind::Categorical if self.counts_here(side, name, feature) => {
                    let keys = place.keys(column)?;
                    let Some(counts) = self.counts(name, feature, keys.value_type(), &reader)? else { continue };
                    weights.iter().enumerate().for_each(|(row, weight)| counts.add(&keys, row, *weight));
                }
                FeatureKind::Ids if self.counts_here(side, name, feature) => {
                    let lists = place.key_lists(column)?;
                    let Some(counts) = self.counts(name, feature, lists.keys.value_type(), &reader)? else { continue };
                    for (row, weight) in weights.iter().enumerate() {
                        let kept = feature.max_length.unwrap_or(usize::MAX);
                        lists.bounds(row).take(kept).for_each(|at| counts.add(&lists.keys, at, *weight));
                    }
                }
                FeatureKind::Numeric | FeatureKind::Bucketized => {
                    let numbers = place.numbers(column)?;
                    let transform = feature.transform.unwrap_or_default();
                    let key = (side.name(), name.to_string());
                    let statistics = self.learned.numbers.entry(key).or_insert_with(Statistics::new);
                    let finite = numbers.iter().flatten().filter(|value| value.is_finite());
                    finite.for_each(|value| statistics.add(transformed(transform, value)));
                }
                FeatureKind::Text => drop(place.texts(column)?),
                FeatureKind::Vector => {
                    let length = self.learned.lengths.entry((side.name(), name.to_string())).or_default();
                    *length = place.vector_length(column, *length)?;
                }
                FeatureKind::Crossed => {
                    let types = self.learned.crossed.entry((side.name(), name.to_string())).or_default();
                    for (at, column) in feature.columns(name).into_iter().enumerate() {
                        let place = Place { column, ..place };
                        let keys = place.keys(place.find(batch)?)?;
                        match types.get(at) {
                            Some(known) => place.check_type(&keys, *known)?,
                            None => types.push(keys.value_type()),
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn counts_here(&self, side: Side, name: &str, feature: &Feature) -> bool {
        let table = feature.table(name);
        side == Side::Item || !self.config.features.item.iter().any(|(name, item)| item.table(name) == table)
    }

    /// Where the values of a feature are counted; nowhere for a hashed table, of which the type alone is kept.
    fn counts(&mut self, name: &str, feature: &Feature, found: ValueType, reader: &str) -> Result<Option<&mut Counts>> {
        let table = feature.table(name).unwrap_or(name);
        let counts = self.tables.entry(table.to_string()).or_insert_with(|| Counts::new(found));
        if counts.value_type() != found {
            return Err(Error::config(format!(
                "{reader}: found values of type {found:?}, expected {:?}, as the other features of table `{table}` have; cast it in the SQL",
                counts.value_type()
            )));
        }
        let hashed = self.config.table_owner(table).is_some_and(|owner| owner.hashed_rows().is_some());
        Ok((!hashed).then_some(counts))
    }

    /// Ends the counting, `day` days after 1970.
    pub fn finish(self, user_id_type: IdType, item_id_type: IdType, day: i32) -> Result<Learned> {
        let Learner { config, tables: mut counted, learned, .. } = self;
        let mut vocabularies = Vocabularies::new();
        let mut tables = BTreeMap::new();
        for (side, name, feature) in config.all_features() {
            let (Some(table), Some(dim)) = (feature.table(name), config.table_dim(name, feature)) else { continue };
            if table != name || tables.contains_key(table) {
                continue;
            }
            let spec = if feature.kind == FeatureKind::Bucketized {
                let rows = learned.boundaries(side, name, feature).len() + 2;
                TableSpec {
                    dim,
                    rows,
                    unknown_rows: 0,
                    min_count: 0,
                    value_type: ValueType::Bucket,
                    unknown_hash: None,
                    row_hash: None,
                }
            } else if let Some(rows) = feature.hashed_rows() {
                let value_type = match feature.kind {
                    FeatureKind::Text => ValueType::Trigram,
                    FeatureKind::Crossed => ValueType::Crossed,
                    _ => counted.get(table).map_or(ValueType::Bigint, Counts::value_type),
                };
                let row_hash = Some(RowHash::MixedFnv1a64);
                TableSpec { dim, rows, unknown_rows: 0, min_count: 0, value_type, unknown_hash: None, row_hash }
            } else {
                let (min_count, unknown_rows) = (feature.min_count.unwrap_or(1), feature.unknown_rows.unwrap_or(1));
                let counts = counted.remove(table).unwrap_or(Counts::new(ValueType::Bigint));
                let value_type = counts.value_type();
                let vocabulary = counts.into_vocabulary(min_count, unknown_rows, day);
                if vocabulary.is_empty() {
                    return Err(Error::config(format!(
                        "features.{side}.{name}: no value reaches min_count {min_count} and there are no unknown rows, so its table is empty; lower min_count"
                    )));
                }
                let rows = vocabulary.len();
                vocabularies.insert(table.to_string(), vocabulary);
                let unknown_hash = (unknown_rows > 0).then_some(IdHash::Fnv1a64);
                TableSpec { dim, rows, unknown_rows, min_count, value_type, unknown_hash, row_hash: None }
            };
            tables.insert(table.to_string(), spec);
        }
        let tower = |side: Side| tower_spec(config, side, &tables, &learned);
        let (user, item) = (tower(Side::User)?, tower(Side::Item)?);
        let (dim, normalize, item_bias) = (config.model.dim, config.model.normalize, config.model.item_bias.clone());
        let spec = FeatureSpec { format: 1, dim, normalize, item_bias, user_id_type, item_id_type, tables, user, item };
        Ok(Learned { spec, vocabularies })
    }

    /// Ends the counting, going on from what was learned on an earlier day: vocabularies grow. Means, deviations and boundaries
    /// stay, because the layers behind them were taught with those.
    ///
    /// # Errors
    /// A text that says which feature is of another shape than before.
    pub fn finish_from(
        self,
        before: Learned,
        user_id_type: IdType,
        item_id_type: IdType,
        eviction: Eviction,
    ) -> Result<Grown> {
        let Learner { config, tables: mut counted, learned, .. } = self;
        let Learned { mut spec, vocabularies: mut known } = before;
        let mut tables =
            config.all_features().filter_map(|(side, name, feature)| Some((side, name, feature.table(name)?)));
        if let Some((side, name, table)) = tables.find(|(.., table)| !spec.tables.contains_key(*table)) {
            return Err(Error::config(format!("features.{side}.{name}: there was no table `{table}` before")));
        }
        let tower = |side: Side| tower_spec(config, side, &spec.tables, &learned);
        let now = FeatureSpec {
            user_id_type,
            item_id_type,
            user: tower(Side::User)?,
            item: tower(Side::Item)?,
            ..spec.clone()
        };
        let sides = [(Side::User, &spec.user, &now.user), (Side::Item, &spec.item, &now.item)];
        let towers = sides.into_iter().find_map(|(side, before, now)| growth::difference(side, before, now));
        if let Some(difference) = growth::other_ids(&spec, &now).or(towers) {
            return Err(Error::config(difference));
        }
        spec.item_bias = config.model.item_bias.clone();
        let (mut grown, mut vocabularies) = (BTreeMap::new(), Vocabularies::new());
        for (side, name, feature) in config.all_features() {
            let Some(table) = feature.table(name).filter(|table| *table == name) else { continue };
            let Some(before) = known.remove(table) else { continue };
            let counts = counted.remove(table).unwrap_or(Counts::new(before.value_type()));
            let min_count = feature.min_count.unwrap_or(1);
            let (vocabulary, growth) = counts
                .grow(before, min_count, eviction)
                .map_err(|error| Error::config(format!("features.{side}.{name}: values are {}", error.message)))?;
            let of = spec.tables.get_mut(table).expect("every feature's table was found above");
            (of.rows, of.min_count) = (vocabulary.len(), min_count);
            vocabularies.insert(table.to_string(), vocabulary);
            grown.insert(table.to_string(), growth);
        }
        Ok(Grown { learned: Learned { spec, vocabularies }, growth: grown })
    }
}

/// What is added to the scores of each item of `batch`, a piece of `table`.
pub fn item_biases(bias: &ItemBias, table: &str, batch: &RecordBatch) -> Result<Vec<f32>> {
    let place = Place { table, column: &bias.column, reader: ITEM_BIAS };
    let values = place.numbers(place.find(batch)?)?;
    Ok(values.iter().map(|value| value.map_or(0.0, |value| (bias.weight * value) as f32)).collect())
}

/// A finite number before it is normalised or cut into buckets; within the range of f32, so that its square is finite.
pub(super) fn transformed(transform: NumericTransform, value: f64) -> f64 {
    let value = value.clamp(-f64::from(f32::MAX), f64::from(f32::MAX));
    match transform {
        NumericTransform::None => value,
        NumericTransform::Log1p => value.max(0.0).ln_1p(),
    }
}
