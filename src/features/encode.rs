//! Rows of a table as compact columns: table rows as u32, numbers as f32.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use rayon::prelude::*;

use super::columns::{Keys, Place};
use super::learn::{Side, transformed};
use super::spec::{Encoding, FeatureSpec, FeatureSpecEntry, TableSpec, TowerSpec};
use super::vocabulary::{Vocabularies, Vocabulary};
use crate::error::{Error, Result};

/// In place of a row: the value has none.
const NO_ROW: u32 = u32::MAX;

/// Encoded features of many rows, column by column in the order of the tower's features.
#[derive(Debug, Clone, Default)]
pub struct Encoded {
    pub rows: usize,
    pub columns: Vec<EncodedColumn>,
}

#[derive(Debug, Clone)]
pub enum EncodedColumn {
    /// One table row (or none) a row.
    One(Vec<u32>),
    /// A bag of table rows a row: those of row `i` are `ids[offsets[i]..offsets[i + 1]]`.
    Bag { offsets: Vec<u64>, ids: Vec<u32> },
    /// Two numbers a row.
    Numbers(Vec<f32>),
}

/// Encodes one side's features.
pub struct Encoder<'a> {
    side: Side,
    tower: &'a TowerSpec,
    tables: &'a BTreeMap<String, TableSpec>,
    vocabularies: &'a Vocabularies,
}

impl<'a> Encoder<'a> {
    pub fn new(spec: &'a FeatureSpec, side: Side, vocabularies: &'a Vocabularies) -> Self {
        let tower = match side {
            Side::User => &spec.user,
            Side::Item => &spec.item,
        };
        Encoder { side, tower, tables: &spec.tables, vocabularies }
    }

    /// Appends the rows of `batch`, a piece of `table`.
    pub fn encode(&self, table: &str, batch: &RecordBatch, into: &mut Encoded) -> Result<()> {
        if into.columns.is_empty() {
            into.columns = self.tower.features.iter().map(|feature| EncodedColumn::empty(&feature.encoding)).collect();
        }
        for (feature, column) in self.tower.features.iter().zip(&mut into.columns) {
            let reader = format!("features.{}.{}", self.side.name(), feature.name);
            let place = Place { table, column: &feature.column, reader: &reader };
            self.encode_feature(feature, place, batch, column)?;
        }
        into.rows += batch.num_rows();
        Ok(())
    }

    fn encode_feature(
        &self,
        feature: &FeatureSpecEntry,
        place: Place,
        batch: &RecordBatch,
        into: &mut EncodedColumn,
    ) -> Result<()> {
        let found = place.find(batch)?;
        match (&feature.encoding, into) {
            (Encoding::Id { table } | Encoding::Categorical { table }, EncodedColumn::One(rows)) => {
                rows.extend(self.rows_of(table, &place.keys(found)?, place)?);
            }
            (Encoding::Ids { table, max_length, .. }, EncodedColumn::Bag { offsets, ids }) => {
                let lists = place.key_lists(found)?;
                let rows = self.rows_of(table, &lists.keys, place)?;
                for row in 0..lists.len() {
                    let kept = lists.bounds(row).take(max_length.unwrap_or(usize::MAX));
                    ids.extend(
                        kept.filter(|at| !lists.keys.is_null(*at)).map(|at| rows[at]).filter(|row| *row != NO_ROW),
                    );
                    offsets.push(ids.len() as u64);
                }
            }
            (Encoding::Numeric { transform, mean, deviation }, EncodedColumn::Numbers(numbers)) => {
                numbers.extend(place.numbers(found)?.iter().flat_map(|value| {
                    match value.filter(|value| value.is_finite()) {
                        Some(value) => [((transformed(*transform, value) - mean) / deviation) as f32, 0.0],
                        None => [0.0, 1.0],
                    }
                }));
            }
            (Encoding::Boolean, EncodedColumn::Numbers(numbers)) => {
                numbers.extend(place.flags(found)?.iter().flat_map(|value| match value {
                    Some(value) => [f32::from(u8::from(value)), 0.0],
                    None => [0.0, 1.0],
                }));
            }
            (Encoding::Bucketized { boundaries, .. }, EncodedColumn::One(rows)) => {
                rows.extend(place.numbers(found)?.iter().map(|value| match value.filter(|value| !value.is_nan()) {
                    Some(value) => 1 + boundaries.partition_point(|boundary| *boundary <= value) as u32,
                    None => 0,
                }));
            }
            _ => return Err(Error::internal(format!("{}: encoded columns of another model", place.reader))),
        }
        Ok(())
    }

    /// The table row of every key, or [`NO_ROW`].
    fn rows_of(&self, table: &str, keys: &Keys, place: Place) -> Result<Vec<u32>> {
        let known: &Vocabulary = self.vocabularies.get(table).ok_or_else(|| {
            Error::config(format!("{}: the model has no vocabulary for table `{table}`", place.reader))
        })?;
        // a column of nothing but nulls may come as any type
        if known.value_type() != keys.value_type() && (0..keys.len()).any(|at| !keys.is_null(at)) {
            return Err(Error::config(format!(
                "{}: column `{}` of table `{}` holds {:?}, and the embedding table `{table}` holds {:?}; cast it in the SQL",
                place.reader,
                place.column,
                place.table,
                keys.value_type(),
                self.tables[table].value_type
            )));
        }
        let rows = (0..keys.len()).into_par_iter().with_min_len(4096);
        Ok(rows.map(|at| known.row(keys, at).unwrap_or(NO_ROW)).collect())
    }
}

impl EncodedColumn {
    fn empty(encoding: &Encoding) -> Self {
        match encoding {
            Encoding::Id { .. } | Encoding::Categorical { .. } | Encoding::Bucketized { .. } => {
                EncodedColumn::One(Vec::new())
            }
            Encoding::Ids { .. } => EncodedColumn::Bag { offsets: vec![0], ids: Vec::new() },
            Encoding::Numeric { .. } | Encoding::Boolean => EncodedColumn::Numbers(Vec::new()),
        }
    }
}

/// The features of one batch, as the kernels take them.
#[derive(Debug, Clone, Default)]
pub struct FeatureBatch {
    pub rows: usize,
    pub columns: Vec<BatchColumn>,
}

#[derive(Debug, Clone)]
pub enum BatchColumn {
    /// As in [`EncodedColumn::Bag`].
    Bag { offsets: Vec<u32>, ids: Vec<u32> },
    /// [rows, 2].
    Numbers(Vec<f32>),
}

impl Encoded {
    /// Collects `rows` in their order. Of the values of a bag only those stay for which `keep(column, position in
    /// rows, table row, place in the bag)` holds; single values always stay.
    pub fn select(&self, rows: &[u32], keep: Option<&dyn Fn(usize, usize, u32, usize) -> bool>) -> FeatureBatch {
        let columns = self.columns.iter().enumerate().map(|(index, column)| match column {
            EncodedColumn::One(values) => {
                let (mut offsets, mut ids) = (Vec::with_capacity(rows.len() + 1), Vec::with_capacity(rows.len()));
                offsets.push(0);
                for &row in rows {
                    ids.extend(Some(values[row as usize]).filter(|value| *value != NO_ROW));
                    offsets.push(ids.len() as u32);
                }
                BatchColumn::Bag { offsets, ids }
            }
            EncodedColumn::Bag { offsets: from, ids: values } => {
                let (mut offsets, mut ids) = (Vec::with_capacity(rows.len() + 1), Vec::new());
                offsets.push(0);
                for (position, &row) in rows.iter().enumerate() {
                    let bag = &values[from[row as usize] as usize..from[row as usize + 1] as usize];
                    match keep {
                        None => ids.extend_from_slice(bag),
                        Some(keep) => {
                            let kept = bag.iter().enumerate().filter(|(at, id)| keep(index, position, **id, *at));
                            ids.extend(kept.map(|(_, id)| *id));
                        }
                    }
                    offsets.push(ids.len() as u32);
                }
                BatchColumn::Bag { offsets, ids }
            }
            EncodedColumn::Numbers(values) => BatchColumn::Numbers(
                rows.iter().flat_map(|&row| [values[row as usize * 2], values[row as usize * 2 + 1]]).collect(),
            ),
        });
        FeatureBatch { rows: rows.len(), columns: columns.collect() }
    }

    /// Gives back memory that was reserved for more rows.
    pub fn shrink(&mut self) {
        for column in &mut self.columns {
            match column {
                EncodedColumn::One(rows) => rows.shrink_to_fit(),
                EncodedColumn::Bag { offsets, ids } => {
                    offsets.shrink_to_fit();
                    ids.shrink_to_fit();
                }
                EncodedColumn::Numbers(numbers) => numbers.shrink_to_fit(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BooleanArray, DictionaryArray, Float32Array, Int32Array, Int64Array, ListArray};
    use arrow::datatypes::{Int32Type, Int64Type};

    use super::*;
    use crate::artifacts::IdType;
    use crate::config::{Config, Overrides};
    use crate::features::{Learned, Learner};

    const CONFIG: &str = "
version: 1
name: encode
output: out
sources: {impressions: {path: logs}}
features:
  user:
    history: {kind: ids, table: item_id, max_length: 2}
    country: {kind: categorical, min_count: 2}
    plan: {kind: categorical}
    visits: {kind: numeric, transform: log1p}
    age: {kind: bucketized, boundaries: [20, 40]}
    paying: {kind: boolean}
  item:
    item_id: {kind: id}
";

    fn positives() -> RecordBatch {
        let lists = [Some(vec![Some(5), Some(6), Some(5)]), None, Some(vec![Some(77), None, Some(6)])];
        let country: DictionaryArray<Int32Type> = vec![Some("de"), Some("de"), None].into_iter().collect();
        let columns: [(&str, ArrayRef); 7] = [
            ("item_id", Arc::new(Int32Array::from(vec![6, 5, 6]))),
            ("history", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))),
            ("country", Arc::new(country)),
            ("plan", Arc::new(Float32Array::from(vec![2.0, 1.0, 2.0]))),
            ("visits", Arc::new(Int64Array::from(vec![Some(0), None, Some(2)]))),
            ("age", Arc::new(Float32Array::from(vec![Some(20.0), Some(19.9), None]))),
            ("paying", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn encoded() -> (Learned, Encoded) {
        let config = Config::parse(CONFIG, "encode.yaml", &Overrides::default()).unwrap();
        let items: ArrayRef = Arc::new(Int64Array::from(vec![5, 6, 7]));
        let mut learner = Learner::new(&config);
        learner.positives(&positives()).unwrap();
        learner.items(&RecordBatch::try_from_iter([("item_id", items)]).unwrap()).unwrap();
        let learned = learner.finish(IdType::Bigint, IdType::Bigint).unwrap();
        let mut encoded = Encoded::default();
        let encoder = Encoder::new(&learned.spec, Side::User, &learned.vocabularies);
        encoder.encode("positives", &positives(), &mut encoded).unwrap();
        (learned, encoded)
    }

    #[test]
    fn every_kind_is_encoded_as_the_spec_says() {
        let (learned, encoded) = encoded();
        let one = |at: usize| match &encoded.columns[at] {
            EncodedColumn::One(rows) => rows.clone(),
            other => panic!("{other:?}"),
        };
        let numbers = |at: usize| match &encoded.columns[at] {
            EncodedColumn::Numbers(numbers) => numbers.clone(),
            other => panic!("{other:?}"),
        };
        // item 6 was liked twice and stands first, 7 never and is not there; of a list the first two count, and 77 is unknown
        let EncodedColumn::Bag { offsets, ids } = &encoded.columns[0] else { panic!("a list is a bag") };
        assert_eq!((offsets.as_slice(), ids.as_slice()), ([0u64, 2, 2, 3].as_slice(), [2u32, 1, 0].as_slice()));
        assert_eq!(one(1), [1, 1, 0]);
        assert_eq!(one(2), [1, 2, 1]);
        let visits = numbers(3);
        assert_eq!((visits[0], visits[4]), (-1.0, 1.0));
        assert_eq!(visits[2..4], [0.0, 1.0]);
        assert_eq!(one(4), [2, 1, 0]);
        assert_eq!(numbers(5), [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(learned.spec.tables["item_id"].rows, 3);
        assert_eq!(learned.spec.user.features.iter().map(|f| f.offset).collect::<Vec<_>>(), [0, 64, 72, 80, 82, 90]);
        assert_eq!(learned.spec.user.width, 92);
    }

    #[test]
    fn a_batch_takes_the_rows_asked_for_and_leaves_out_what_it_is_told_to() {
        let (_, encoded) = encoded();
        let keep = |_: usize, position: usize, row: u32, _: usize| !(position == 1 && row == 1);
        let batch = encoded.select(&[1, 0, 0], Some(&keep));
        let BatchColumn::Bag { offsets, ids } = &batch.columns[0] else { panic!("a list is a bag") };
        assert_eq!((offsets.as_slice(), ids.as_slice()), ([0u32, 0, 1, 3].as_slice(), [2u32, 2, 1].as_slice()));
    }

    #[test]
    fn numbers_that_are_not_finite_or_too_large_to_square_leave_the_others_usable() {
        let config = CONFIG.replace("{kind: bucketized, boundaries: [20, 40]}", "{kind: numeric}");
        let config = Config::parse(&config, "encode.yaml", &Overrides::default()).unwrap();
        let items: ArrayRef = Arc::new(Int64Array::from(vec![5, 6, 7]));
        let numbers: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![f64::NAN, f64::INFINITY, 3.0]));
        let huge: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![1e300, -1e300, 0.0]));
        let given = positives();
        let schema = given.schema();
        let columns = schema.fields().iter().map(|field| field.name().clone()).zip(given.columns().to_vec());
        let columns = columns.map(|(name, column)| match &name[..] {
            "visits" => (name, numbers.clone()),
            "age" => (name, huge.clone()),
            _ => (name, column),
        });
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut learner = Learner::new(&config);
        learner.positives(&batch).unwrap();
        learner.items(&RecordBatch::try_from_iter([("item_id", items)]).unwrap()).unwrap();
        let learned = learner.finish(IdType::Bigint, IdType::Bigint).unwrap();
        let text = serde_json::to_string(&learned.spec).unwrap();
        assert!(serde_json::from_str::<FeatureSpec>(&text).is_ok(), "an infinite deviation would be null: {text}");
        let mut encoded = Encoded::default();
        Encoder::new(&learned.spec, Side::User, &learned.vocabularies)
            .encode("positives", &batch, &mut encoded)
            .unwrap();
        let numbers = |at: usize| match &encoded.columns[at] {
            EncodedColumn::Numbers(numbers) => numbers.clone(),
            other => panic!("{other:?}"),
        };
        // the mean is that of the only number there is
        assert_eq!(numbers(3), [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
        let huge = numbers(4);
        assert!((huge[0] - 1.5f32.sqrt()).abs() < 1e-6 && huge[2] == -huge[0] && huge[4] == 0.0, "{huge:?}");
    }

    #[test]
    fn a_spec_reads_back_as_written() {
        let (learned, _) = encoded();
        let text = serde_json::to_string(&learned.spec).unwrap();
        assert_eq!(serde_json::from_str::<FeatureSpec>(&text).unwrap(), learned.spec);
    }
}
