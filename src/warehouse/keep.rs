//! `keep('rule', condition, …)`: a filter that counts what each of its rules leaves out.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};

use datafusion::arrow::array::{Array, AsArray, BooleanArray};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// How many rows each rule left out, since it was last taken.
#[derive(Debug, Clone, Default)]
pub struct Dropped(Arc<Mutex<BTreeMap<String, u64>>>);

impl Dropped {
    /// The counts so far, which start from nothing again.
    pub fn take(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.0.lock().expect("no holder of this lock panics"))
    }

    fn add(&self, counts: Vec<(String, u64)>) {
        let mut all = self.0.lock().expect("no holder of this lock panics");
        for (rule, count) in counts {
            *all.entry(rule).or_default() += count;
        }
    }
}

/// `keep('rule', condition, 'rule', condition, …)`: whether all conditions hold, for use in `where`. A row counts for the first rule
/// whose condition does not hold (null does not), and for no other; a rule named '' is not counted. The counts of a table stand
/// in the samples' manifest.
///
/// The counts are sums over rows, so that neither threads nor the size of batches change them; where a plan runs in several processes,
/// each has its own part.
#[derive(Debug, Clone)]
pub struct Keep {
    dropped: Dropped,
    signature: Signature,
}

impl Keep {
    pub fn new(dropped: Dropped) -> Self {
        // volatile: evaluated once for each row that comes to the filter, never moved or copied
        Keep { dropped, signature: Signature::variadic_any(Volatility::Volatile) }
    }
}

impl PartialEq for Keep {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.dropped.0, &other.dropped.0)
    }
}

impl Eq for Keep {}

impl Hash for Keep {
    fn hash<H: Hasher>(&self, state: &mut H) {
        "keep".hash(state);
    }
}

/// Where a condition holds; `None` for everywhere.
fn holding(condition: &ColumnarValue, rows: usize) -> Result<Option<BooleanBuffer>> {
    match condition {
        ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))) => Ok(None),
        ColumnarValue::Scalar(_) => Ok(Some(BooleanBuffer::new_unset(rows))),
        ColumnarValue::Array(array) => match array.as_boolean_opt() {
            Some(array) if array.null_count() == 0 => Ok(Some(array.values().clone())),
            Some(array) => Ok(array.nulls().map(|nulls| nulls.inner() & array.values())),
            None => Ok(Some(BooleanBuffer::new_unset(rows))),
        },
    }
}

impl ScalarUDFImpl for Keep {
    fn name(&self) -> &str {
        "keep"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let pair = |pair: &[DataType]| {
            matches!(
                pair,
                [DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8, DataType::Boolean | DataType::Null]
            )
        };
        if arguments.is_empty() || !arguments.chunks(2).all(pair) {
            return plan_err!("keep('rule', condition, …) takes pairs of a rule's name and a condition");
        }
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let mut kept = BooleanBuffer::new_set(rows);
        let mut counts = Vec::new();
        for pair in args.args.chunks(2) {
            let rule = match &pair[0] {
                ColumnarValue::Scalar(name) => name.try_as_str().flatten(),
                ColumnarValue::Array(_) => None,
            };
            let Some(rule) = rule else {
                return exec_err!("keep('rule', condition, …): the name of a rule must be a text, not a column");
            };
            let Some(holds) = holding(&pair[1], rows)? else {
                counts.push((rule.to_string(), 0));
                continue;
            };
            let next = &kept & &holds;
            counts.push((rule.to_string(), (kept.count_set_bits() - next.count_set_bits()) as u64));
            kept = next;
        }
        counts.retain(|(rule, _)| !rule.is_empty());
        self.dropped.add(counts);
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(kept, None))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::SessionContext;

    #[tokio::test]
    async fn a_row_counts_for_the_first_rule_that_leaves_it_out() {
        let dropped = Dropped::default();
        let context = SessionContext::new();
        context.register_udf(datafusion::logical_expr::ScalarUDF::new_from_impl(Keep::new(dropped.clone())));
        let query = "select x from (select value as x from generate_series(1, 1000)) \
            where keep('small', x > 10, 'null', case when x = 20 then null else true end, '', x <> 30, 'odd', x % 2 = 0, 'all', true)";
        let found: usize =
            context.sql(query).await.unwrap().collect().await.unwrap().iter().map(|b| b.num_rows()).sum();
        let counts: BTreeMap<String, u64> =
            [("small", 10), ("null", 1), ("odd", 495), ("all", 0)].map(|(rule, n)| (rule.into(), n)).into();
        assert_eq!((found, dropped.take()), (1000 - 10 - 1 - 1 - 495, counts));
        assert_eq!(dropped.take(), BTreeMap::new());
    }
}
