//! Draws from the weighted corpus: `sample_items`, `sample_unknown`, and what they drew, `corpus_item` and `corpus_probability`.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int32Array, ListArray, RecordBatch, UInt32Array,
};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::compute::{cast, concat, sort_to_indices, take};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};
use datafusion::common::{Result as DfResult, exec_datafusion_err, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use super::hash::hash_columns;
use super::histories::range_of;
use super::lists::lists;
use super::sample_draws::drawn_for_samples;
use super::types::{list_of, sql_name};
use crate::error::{Error, Result};
use crate::kernels::draws::{AliasTable, NumberSet};
use crate::kernels::random::{GOLDEN, mix};

/// The rows of `item_frequency`, in the order of their ids: item number 0 has the smallest.
#[derive(Debug)]
struct Loaded {
    items: ArrayRef,
    /// What stands for an item where it is looked for among others: see [`fingerprints`].
    prints: ScalarBuffer<i64>,
    /// Chance of each item to be what one draw yields.
    probabilities: Float64Array,
    table: AliasTable,
}

/// What to draw from. Can be planned with at once, and run once it is loaded.
#[derive(Debug, Clone)]
pub struct Corpus {
    item_type: DataType,
    loaded: Arc<OnceLock<Loaded>>,
}

impl Corpus {
    pub fn new(item_type: DataType) -> Self {
        Corpus { item_type, loaded: Arc::default() }
    }

    /// Takes the corpus from the rows of `item_frequency`.
    pub fn load(&self, batches: &[RecordBatch]) -> Result<()> {
        let (items, weights) = weights_of(batches)?;
        let internal = |error| Error::internal("cannot put the items of item_frequency in order").caused_by(error);
        let order = sort_to_indices(&items, None, None).map_err(internal)?;
        let items = take(&items, &order, None).map_err(internal)?;
        let weights: Vec<f64> = order.values().iter().map(|row| weights[*row as usize]).collect();
        let total: f64 = weights.iter().sum();
        let prints = fingerprints(&items).map_err(|error| {
            Error::internal("cannot hash the items of item_frequency").caused_by(error.strip_backtrace())
        })?;
        let table = AliasTable::new(&weights);
        let probabilities = Float64Array::from_iter_values(weights.iter().map(|weight| weight / total));
        let _ = self.loaded.set(Loaded { items, prints, probabilities, table });
        Ok(())
    }

    fn loaded(&self) -> DfResult<&Loaded> {
        self.loaded
            .get()
            .ok_or_else(|| exec_datafusion_err!("the corpus is drawn from before item_frequency was built"))
    }
}

/// Item ids and drawing weights (`sampling_weight`, or all alike) in the rows of `item_frequency`.
pub fn weights_of(batches: &[RecordBatch]) -> Result<(ArrayRef, Vec<f64>)> {
    let internal = |error| Error::internal("cannot read the weights of item_frequency").caused_by(error);
    let column =
        |name: &str| -> Option<Vec<&ArrayRef>> { batches.iter().map(|batch| batch.column_by_name(name)).collect() };
    let join = |parts: Vec<&ArrayRef>| concat(&parts.into_iter().map(|part| part.as_ref()).collect::<Vec<_>>());
    let Some(items) = column("item_id").filter(|items| items.iter().any(|part| !part.is_empty())) else {
        return Err(Error::config(
            "item_frequency has no row, so there is nothing to draw random negatives from; look at source `items`",
        ));
    };
    let items = join(items).map_err(internal)?;
    let weights = match column("sampling_weight") {
        None => vec![1.0; items.len()],
        Some(parts) => {
            let weights = cast(&join(parts).map_err(internal)?, &DataType::Float64).map_err(internal)?;
            weights.as_primitive::<Float64Type>().iter().map(|weight| weight.unwrap_or(f64::NAN)).collect()
        }
    };
    if let Some(bad) = weights.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
        return Err(Error::config(format!(
            "item_frequency.sampling_weight: found {bad}, expected a number of at least 0 in every row"
        )));
    }
    if weights.iter().sum::<f64>() <= 0.0 {
        return Err(Error::config(
            "item_frequency.sampling_weight: all weights are 0, so there is nothing to draw random negatives from",
        ));
    }
    Ok((items, weights))
}

/// A number for each id: an integer itself, another id its hash.
fn fingerprints(ids: &ArrayRef) -> DfResult<ScalarBuffer<i64>> {
    Ok(match ids.as_primitive_opt::<Int64Type>() {
        Some(integers) => integers.values().clone(),
        None => hash_columns(std::slice::from_ref(ids), ids.len())?.into(),
    })
}

/// A function over the corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Draws {
    /// `sample_items(key, k)`: a list of `k` item ids, drawn with replacement by the weights in `item_frequency`. The BIGINT `key`
    /// alone decides the draws, so hash into it whatever they should depend on.
    Items,
    /// `sample_unknown(key, samples, known, k)`, of one user: for each of the list `samples` of BIGINT sample ids, `k` draws like those of
    /// `sample_items`, without those that yield an item id of the list `known`. They are numbers of items, in order; `corpus_item` and
    /// `corpus_probability` tell what is behind them. A list of lists, to be unnested along with `samples`. `key` and the sample decide
    /// the draws.
    ///
    /// Known items are looked for in a set of the user's own, which lies in a near cache: a join of draws and known pairs has to go to
    /// memory for each of both.
    Unknown,
    /// `corpus_item(number)`: the item id.
    Item,
    /// `corpus_probability(number)`: the chance of the item to be what one draw yields.
    Probability,
}

/// Every function over the corpus.
pub const DRAWING_FUNCTIONS: [&str; 4] = ["sample_items", "sample_unknown", "corpus_item", "corpus_probability"];

/// The function `draws` over one corpus.
#[derive(Debug, Clone)]
pub struct DrawingFunction {
    draws: Draws,
    corpus: Corpus,
    signature: Signature,
}

impl DrawingFunction {
    /// All functions over `corpus`.
    pub fn all(corpus: &Corpus) -> [Self; 4] {
        [Draws::Items, Draws::Unknown, Draws::Item, Draws::Probability].map(|draws| {
            let arguments = match draws {
                Draws::Items => 2,
                Draws::Unknown => 4,
                Draws::Item | Draws::Probability => 1,
            };
            // volatile: an equal call elsewhere in a plan must not make the engine copy or move the draws, nor run them before they are loaded
            let signature = Signature::new(TypeSignature::Any(arguments), Volatility::Volatile);
            DrawingFunction { draws, corpus: corpus.clone(), signature }
        })
    }
}

impl PartialEq for DrawingFunction {
    fn eq(&self, other: &Self) -> bool {
        self.draws == other.draws
            && self.corpus.item_type == other.corpus.item_type
            && Arc::ptr_eq(&self.corpus.loaded, &other.corpus.loaded)
    }
}

impl Eq for DrawingFunction {}

impl Hash for DrawingFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.draws.hash(state);
        self.corpus.item_type.hash(state);
    }
}

impl ScalarUDFImpl for DrawingFunction {
    fn name(&self) -> &str {
        DRAWING_FUNCTIONS[self.draws as usize]
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> DfResult<DataType> {
        let item = &self.corpus.item_type;
        match (self.draws, arguments) {
            (Draws::Items, [key, k]) if key.is_integer() && k.is_integer() => Ok(list_of(item.clone())),
            (Draws::Unknown, [key, DataType::List(samples), DataType::List(known), k])
                if key.is_integer()
                    && *samples.data_type() == DataType::Int64
                    && known.data_type() == item
                    && k.is_integer() =>
            {
                Ok(list_of(list_of(DataType::Int32)))
            }
            (Draws::Item, [DataType::Int32]) => Ok(item.clone()),
            (Draws::Probability, [DataType::Int32]) => Ok(DataType::Float64),
            _ => {
                let expected = match self.draws {
                    Draws::Items => "(key, k) takes two integers; hash other keys with stable_hash".to_string(),
                    Draws::Unknown => format!(
                        "(key, samples, known, k) takes an integer, a list of BIGINT, a list of item ids ({}) and an integer",
                        sql_name(item)
                    ),
                    Draws::Item | Draws::Probability => "(number) takes what sample_unknown gives".to_string(),
                };
                let found: Vec<String> = arguments.iter().map(sql_name).collect();
                plan_err!("{}{expected}; found ({})", self.name(), found.join(", "))
            }
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let corpus = self.corpus.loaded()?;
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        Ok(ColumnarValue::Array(match self.draws {
            Draws::Items => Arc::new(corpus.items(&columns)?),
            Draws::Unknown => Arc::new(corpus.unknown(&columns)?),
            Draws::Item => take(&corpus.items, &corpus.numbers(&columns[0])?, None)?,
            Draws::Probability => take(&corpus.probabilities, &corpus.numbers(&columns[0])?, None)?,
        }))
    }
}

impl Loaded {
    fn items(&self, columns: &[ArrayRef]) -> DfResult<ListArray> {
        let (keys, counts) = (cast(&columns[0], &DataType::Int64)?, cast(&columns[1], &DataType::Int64)?);
        let (keys, counts) = (keys.as_primitive::<Int64Type>(), counts.as_primitive::<Int64Type>());
        let mut drawn = Vec::new();
        let mut lengths = Vec::with_capacity(keys.len());
        for row in 0..keys.len() {
            // no key and no count: nothing drawn
            let count = if keys.is_null(row) || counts.is_null(row) { 0 } else { counts.value(row).max(0) as u64 };
            let key = mix((keys.value(row) as u64).wrapping_add(GOLDEN));
            drawn.extend((0..count).map(|draw| self.table.draw(key, draw)));
            lengths.push(count as usize);
        }
        let values = take(&self.items, &UInt32Array::from(drawn), None)?;
        lists(values, OffsetBuffer::from_lengths(lengths), None)
    }

    fn unknown(&self, columns: &[ArrayRef]) -> DfResult<ListArray> {
        let known = columns[2].as_list::<i32>();
        let prints = fingerprints(known.values())?;
        // what the user of one row knows
        let (mut of_user, mut filled_for) = (NumberSet::default(), None);
        drawn_for_samples(
            DRAWING_FUNCTIONS[Draws::Unknown as usize],
            [&columns[0], &columns[1], &columns[3]],
            |_, count| count,
            |row, key, count, drawn| {
                if filled_for != Some(row) {
                    let knows = range_of(known, row);
                    if known.values().null_count() == 0 {
                        of_user.fill(&prints[knows]);
                    } else {
                        let valid = knows.filter(|at| known.values().is_valid(*at));
                        of_user.fill(&valid.map(|at| prints[at]).collect::<Vec<_>>());
                    }
                    filled_for = Some(row);
                }
                self.table.draw_unknown(key, count, &self.prints, &of_user, drawn);
            },
            |drawn| Ok(Arc::new(Int32Array::from(drawn))),
        )
    }

    /// Numbers of items, which must be of this corpus.
    fn numbers(&self, column: &ArrayRef) -> DfResult<UInt32Array> {
        let numbers = column.as_primitive::<Int32Type>();
        let inside = |number: &i32| (*number as u32 as usize) < self.items.len();
        // what stands under a null may be anything; a whole column is looked at faster than its first number outside is found
        if !numbers.values().iter().fold(true, |all, number| all & inside(number))
            && let Some(number) = numbers.iter().flatten().find(|number| !inside(number))
        {
            return exec_err!(
                "found item number {number} in a corpus of {} items; only sample_unknown gives numbers",
                self.items.len()
            );
        }
        // none is negative, but for what stands under a null
        let values = ScalarBuffer::from(numbers.values().inner().clone());
        Ok(UInt32Array::new(values, numbers.nulls().cloned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Int64Array, StringArray};

    fn rows(ids: ArrayRef, weights: &[f64]) -> Vec<RecordBatch> {
        let weights: ArrayRef = Arc::new(Float64Array::from(weights.to_vec()));
        vec![RecordBatch::try_from_iter([("item_id", ids), ("sampling_weight", weights)]).unwrap()]
    }

    fn numbered(weights: &[f64]) -> Vec<RecordBatch> {
        rows(Arc::new(Int64Array::from_iter_values(0..weights.len() as i64)), weights)
    }

    #[test]
    fn weights_that_cannot_be_drawn_by_are_refused() {
        assert!(weights_of(&numbered(&[1.0, -1.0])).unwrap_err().to_string().contains("found -1"));
        assert!(weights_of(&numbered(&[0.0])).unwrap_err().to_string().contains("all weights are 0"));
        assert!(weights_of(&numbered(&[])).unwrap_err().to_string().contains("no row"));
    }

    fn int_lists(rows: &[Option<Vec<Option<i64>>>]) -> ListArray {
        ListArray::from_iter_primitive::<Int64Type, _, _>(rows.iter().cloned())
    }

    /// The draws of each sample of each row.
    fn unknown(corpus: &Loaded, samples: ListArray, known: ArrayRef, k: i64) -> Vec<Vec<Vec<i32>>> {
        let constant = |value: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![value; samples.len()])) };
        let columns = [constant(3), Arc::new(samples.clone()), known, constant(k)];
        let found = corpus.unknown(&columns).unwrap();
        let numbers = |list: ArrayRef| list.as_primitive::<Int32Type>().values().to_vec();
        found
            .iter()
            .map(|row| row.unwrap().as_list::<i32>().iter().map(|list| numbers(list.unwrap())).collect())
            .collect()
    }

    #[test]
    fn what_is_known_is_not_drawn_and_all_else_as_before() {
        let corpus = Corpus::new(DataType::Int64);
        corpus.load(&numbered(&[1.0, 2.0, 3.0, 4.0, 0.0])).unwrap();
        let corpus = corpus.loaded().unwrap();
        let samples = int_lists(&[Some(vec![Some(7), Some(8)]), None, Some(vec![]), Some(vec![Some(7), None])]);
        let nothing = Arc::new(int_lists(&[Some(vec![]), None, None, None]));
        let all = unknown(corpus, samples.clone(), nothing, 500);
        assert_eq!(
            all.iter().map(|row| row.iter().map(Vec::len).collect()).collect::<Vec<Vec<_>>>(),
            [vec![500; 2], vec![], vec![], vec![500, 0]]
        );
        assert!(all[0].iter().all(|list| list.is_sorted() && !list.contains(&4)));
        // the sample alone decides, not the user that it stands with
        assert_eq!(all[0][0], all[3][0]);
        assert_ne!(all[0][0], all[0][1]);
        let known = Arc::new(int_lists(&[
            Some(vec![Some(3), Some(1), Some(3), Some(99)]),
            None,
            None,
            Some(vec![None, Some(0)]),
        ]));
        let less = unknown(corpus, samples, known, 500);
        let without =
            |list: &[i32], known: &[i32]| list.iter().copied().filter(|item| !known.contains(item)).collect::<Vec<_>>();
        assert_eq!(less[0], [without(&all[0][0], &[1, 3]), without(&all[0][1], &[1, 3])]);
        assert_eq!(less[3], [without(&all[3][0], &[0]), vec![]]);
    }

    #[test]
    fn numbers_follow_the_order_of_ids_of_any_type() {
        let corpus = Corpus::new(DataType::Utf8);
        corpus.load(&rows(Arc::new(StringArray::from(vec!["b", "c", "a"])), &[1.0, 6.0, 3.0])).unwrap();
        let corpus = corpus.loaded().unwrap();
        assert_eq!(corpus.items.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(corpus.probabilities.values().to_vec(), [0.3, 0.1, 0.6]);
        let mut known = datafusion::arrow::array::ListBuilder::new(datafusion::arrow::array::StringBuilder::new());
        known.append_value([Some("c"), Some("nothing of the corpus")]);
        let draws = unknown(corpus, int_lists(&[Some(vec![Some(1)])]), Arc::new(known.finish()), 1000);
        let count = |number: i32| draws[0][0].iter().filter(|drawn| **drawn == number).count() as f64;
        assert_eq!(count(2), 0.0);
        // 300 and 100 of 1000 are expected, with deviations of 14 and 9
        assert!((count(0) - 300.0).abs() < 60.0 && (count(1) - 100.0).abs() < 40.0);
        assert!(corpus.numbers(&(Arc::new(Int32Array::from(vec![3])) as ArrayRef)).is_err());
        assert!(corpus.numbers(&(Arc::new(Int32Array::from(vec![-1])) as ArrayRef)).is_err());
    }
}
