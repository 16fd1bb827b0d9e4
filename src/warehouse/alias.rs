//! `sample_items(key, k)`: item ids drawn from the weighted corpus in constant time each.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::{cast, concat, take};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{Result as DfResult, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use super::lists::lists;
use super::types::list_of;
use crate::error::{Error, Result};
use crate::kernels::random::{GOLDEN, mix};

/// Walker's alias table in Vose's construction: a uniform slot, then its own item or its alias.
#[derive(Debug)]
struct AliasTable {
    items: ArrayRef,
    /// Chance, in units of 2^-64, that a slot yields its own item.
    keep: Vec<u64>,
    alias: Vec<u32>,
}

impl AliasTable {
    fn new(items: ArrayRef, weights: &[f64]) -> Self {
        let n = weights.len();
        let total: f64 = weights.iter().sum();
        let mut share: Vec<f64> = weights.iter().map(|weight| weight / total * n as f64).collect();
        let mut alias: Vec<u32> = (0..n as u32).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..n).partition(|slot| share[*slot] < 1.0);
        while let (Some(low), Some(high)) = (small.pop(), large.last().copied()) {
            alias[low] = high as u32;
            share[high] -= 1.0 - share[low];
            if share[high] < 1.0 {
                large.pop();
                small.push(high);
            }
        }
        // what is left is 1 but for rounding
        let full = |slot: usize| alias[slot] == slot as u32;
        let keep =
            (0..n).map(|slot| if full(slot) { u64::MAX } else { (share[slot] * 2f64.powi(64)) as u64 }).collect();
        AliasTable { items, keep, alias }
    }

    /// The `draw`-th position of the stream that belongs to `key`.
    fn draw(&self, key: u64, draw: u64) -> u32 {
        let slot_bits = mix(key.wrapping_add(GOLDEN.wrapping_mul(2 * draw + 1)));
        let keep_bits = mix(key.wrapping_add(GOLDEN.wrapping_mul(2 * draw + 2)));
        let slot = ((u128::from(slot_bits) * self.keep.len() as u128) >> 64) as usize;
        if keep_bits < self.keep[slot] { slot as u32 } else { self.alias[slot] }
    }
}

/// `sample_items(key, k)`: a list of `k` item ids, drawn with replacement by the weights in `item_frequency`. The BIGINT `key`
/// alone decides the draws, so hash into it whatever they should depend on.
///
/// Holds nothing but the corpus, which [`SampleItems::load`] rebuilds from the rows of `item_frequency` in the store.
#[derive(Debug, Clone)]
pub struct SampleItems {
    item_type: DataType,
    signature: Signature,
    table: Arc<OnceLock<AliasTable>>,
}

impl SampleItems {
    /// The function over a corpus that is loaded later; until then it can be planned with and not run.
    pub fn new(item_type: DataType) -> Self {
        // volatile: an equal call elsewhere in a plan must not make the engine copy or move the draws
        let signature = Signature::new(TypeSignature::Any(2), Volatility::Volatile);
        SampleItems { item_type, signature, table: Arc::default() }
    }

    /// Takes the corpus from the rows of `item_frequency`.
    pub fn load(&self, batches: &[RecordBatch]) -> Result<()> {
        let (items, weights) = weights_of(batches)?;
        let _ = self.table.set(AliasTable::new(items, &weights));
        Ok(())
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
            "item_frequency has no row, so sample_items has nothing to draw from; look at source `items`",
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
            "item_frequency.sampling_weight: all weights are 0, so sample_items has nothing to draw from",
        ));
    }
    Ok((items, weights))
}

impl PartialEq for SampleItems {
    fn eq(&self, other: &Self) -> bool {
        self.item_type == other.item_type && Arc::ptr_eq(&self.table, &other.table)
    }
}

impl Eq for SampleItems {}

impl Hash for SampleItems {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.item_type.hash(state);
    }
}

impl ScalarUDFImpl for SampleItems {
    fn name(&self) -> &str {
        "sample_items"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> DfResult<DataType> {
        if arguments.iter().any(|argument| !argument.is_integer()) {
            return datafusion::common::plan_err!(
                "sample_items(key, k) takes two integers, found ({}, {}); hash other keys with stable_hash",
                arguments[0],
                arguments[1]
            );
        }
        Ok(list_of(self.item_type.clone()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let Some(table) = self.table.get() else {
            return exec_err!("sample_items was called before item_frequency was built");
        };
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let (keys, counts) = (cast(&columns[0], &DataType::Int64)?, cast(&columns[1], &DataType::Int64)?);
        let (keys, counts) = (keys.as_primitive::<Int64Type>(), counts.as_primitive::<Int64Type>());
        let mut drawn = Vec::new();
        let mut lengths = Vec::with_capacity(keys.len());
        for row in 0..keys.len() {
            // no key and no count: nothing drawn
            let count = if keys.is_null(row) || counts.is_null(row) { 0 } else { counts.value(row).max(0) as u64 };
            let key = mix((keys.value(row) as u64).wrapping_add(GOLDEN));
            drawn.extend((0..count).map(|draw| table.draw(key, draw)));
            lengths.push(count as usize);
        }
        let values = take(&table.items, &UInt32Array::from(drawn), None)?;
        Ok(ColumnarValue::Array(Arc::new(lists(values, OffsetBuffer::from_lengths(lengths), None)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Float64Array, Int64Array};

    fn corpus(weights: &[f64]) -> Vec<RecordBatch> {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..weights.len() as i64));
        let weights: ArrayRef = Arc::new(Float64Array::from(weights.to_vec()));
        vec![RecordBatch::try_from_iter([("item_id", ids), ("sampling_weight", weights)]).unwrap()]
    }

    #[test]
    fn items_are_drawn_by_their_weights() {
        let weights = [1.0, 0.0, 2.0, 5.0, 0.5];
        let (items, read) = weights_of(&corpus(&weights)).unwrap();
        let table = AliasTable::new(items, &read);
        let n = 200_000;
        let mut counts = [0f64; 5];
        for key in 0..n / 10 {
            (0..10).for_each(|draw| counts[table.draw(mix(key), draw) as usize] += 1.0);
        }
        let total: f64 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(weights) {
            let (share, expected) = (count / n as f64, weight / total);
            assert!((share - expected).abs() <= 4.0 * (expected / n as f64).sqrt(), "{share} against {expected}");
        }
    }

    #[test]
    fn weights_that_cannot_be_drawn_by_are_refused() {
        assert!(weights_of(&corpus(&[1.0, -1.0])).unwrap_err().to_string().contains("found -1"));
        assert!(weights_of(&corpus(&[0.0])).unwrap_err().to_string().contains("all weights are 0"));
        assert!(weights_of(&corpus(&[])).unwrap_err().to_string().contains("no row"));
    }
}
