//! Rows in order, from rows that come in order of the first columns: what an unnested list needs after its rows are sorted.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, make_comparator};
use datafusion::arrow::compute::{SortOptions, concat_batches};
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::apply_expression_roots;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::sorts::sort::sort_batch;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
    ReplaceChildrenOptions, SendableRecordBatchStream,
};
use futures::{StreamExt, stream};

/// Sorts each run of rows that are equal in the first keys of an order, in which the input comes already. Runs that are in order pass as
/// they are: lists that were sorted when they were made cost a look at each pair of neighbours, where `PartialSortExec` moves every row.
#[derive(Debug, Clone)]
pub struct OrderedRunsExec {
    input: Arc<dyn ExecutionPlan>,
    order: LexOrdering,
    /// How many keys of `order` the input is in order of.
    given: usize,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl OrderedRunsExec {
    /// Each partition of `input` comes in order of the first `given` keys of `order`.
    pub fn try_new(input: Arc<dyn ExecutionPlan>, order: LexOrdering, given: usize) -> Result<Self> {
        let mut equivalences = input.equivalence_properties().clone();
        equivalences.reorder(order.clone())?;
        let partitioning = input.output_partitioning().clone();
        let properties =
            PlanProperties::new(equivalences, partitioning, input.pipeline_behavior(), input.boundedness());
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(OrderedRunsExec { input, order, given, metrics, properties: Arc::new(properties) })
    }
}

impl DisplayAs for OrderedRunsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "OrderedRunsExec: expr=[{}], given={}", self.order, self.given)
    }
}

impl ExecutionPlan for OrderedRunsExec {
    fn name(&self) -> &'static str {
        "OrderedRunsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(self.order.iter().map(|key| &key.expr), f)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(OrderedRunsExec::try_new(children.swap_remove(0), self.order.clone(), self.given)?))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let (given, rest) = self.order.split_at(self.given);
        let runs = Runs { order: self.order.clone(), shared: shared(given), rest: rest.to_vec(), open: Vec::new() };
        let ordered = stream::unfold(Some((input, runs, metrics)), |state| async move {
            let (mut input, mut runs, metrics) = state?;
            let next = input.next().await;
            let timer = metrics.elapsed_compute().timer();
            let (closed, more) = match next {
                Some(batch) => (batch.and_then(|batch| runs.take_in(batch)), true),
                None => (runs.close().map(|last| last.into_iter().collect()), false),
            };
            let closed: Vec<Result<RecordBatch>> = match closed {
                Ok(closed) => closed.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            };
            closed.iter().flatten().for_each(|batch| metrics.record_output(batch.num_rows()));
            drop(timer);
            Some((stream::iter(closed), more.then_some((input, runs, metrics))))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), ordered.flatten())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The keys whose values rows of one run share, without those that are computed from others of them: these are equal where the others are.
fn shared(given: &[PhysicalSortExpr]) -> Vec<Arc<dyn PhysicalExpr>> {
    let plain = |key: &PhysicalSortExpr| key.expr.downcast_ref::<Column>().cloned();
    let columns: Vec<Column> = given.iter().filter_map(plain).collect();
    let adds = |key: &&PhysicalSortExpr| {
        plain(key).is_some() || !collect_columns(&key.expr).iter().all(|column| columns.contains(column))
    };
    given.iter().filter(adds).map(|key| key.expr.clone()).collect()
}

/// The runs of one partition.
struct Runs {
    order: LexOrdering,
    /// What rows of one run have in common.
    shared: Vec<Arc<dyn PhysicalExpr>>,
    /// What rows of one run are to be in order of.
    rest: Vec<PhysicalSortExpr>,
    /// The run that the next rows may belong to.
    open: Vec<RecordBatch>,
}

impl Runs {
    /// Adds the next rows; returns those of runs that ended, in order.
    fn take_in(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(Vec::new());
        }
        let keys = values(&self.shared, &batch)?;
        let equal = equality(&keys, &keys)?;
        let mut closed = Vec::new();
        let mut from = 0;
        if let Some(open) = self.open.last() {
            let before = values(&self.shared, open)?;
            if equality(&before, &keys)?(open.num_rows() - 1, 0) {
                from = (1..rows).find(|row| !equal(0, *row)).unwrap_or(rows);
                self.open.push(batch.slice(0, from));
                if from == rows {
                    return Ok(closed);
                }
            }
            closed.extend(self.close()?);
        }
        let last = (from..rows - 1).rev().find(|row| !equal(*row, rows - 1)).map_or(from, |row| row + 1);
        if last > from {
            closed.push(self.in_order(batch.slice(from, last - from))?);
        }
        self.open.push(batch.slice(last, rows - last));
        Ok(closed)
    }

    /// The open run, in order.
    fn close(&mut self) -> Result<Option<RecordBatch>> {
        let Some(first) = self.open.first() else { return Ok(None) };
        let run = concat_batches(&first.schema(), &self.open)?;
        self.open.clear();
        self.in_order(run).map(Some)
    }

    fn in_order(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let keys = values(&self.shared, &batch)?;
        let equal = equality(&keys, &keys)?;
        let rest = values(self.rest.iter().map(|key| &key.expr), &batch)?;
        let options: Vec<SortOptions> = self.rest.iter().map(|key| key.options).collect();
        let compare = comparison(&rest, &rest, &options)?;
        let in_order = (1..batch.num_rows()).all(|row| compare(row - 1, row).is_le() || !equal(row - 1, row));
        if in_order { Ok(batch) } else { sort_batch(&batch, &self.order, None) }
    }
}

fn values<'a>(
    expressions: impl IntoIterator<Item = &'a Arc<dyn PhysicalExpr>>,
    batch: &RecordBatch,
) -> Result<Vec<ArrayRef>> {
    let value = |expression: &Arc<dyn PhysicalExpr>| expression.evaluate(batch)?.into_array(batch.num_rows());
    expressions.into_iter().map(value).collect()
}

/// Whether a row of some columns equals a row of others; null equals null.
fn equality(left: &[ArrayRef], right: &[ArrayRef]) -> Result<impl Fn(usize, usize) -> bool + use<>> {
    let compare = comparison(left, right, &vec![SortOptions::default(); left.len()])?;
    Ok(move |a, b| compare(a, b).is_eq())
}

/// Compares rows by one pair of columns after the other.
fn comparison(
    left: &[ArrayRef],
    right: &[ArrayRef],
    options: &[SortOptions],
) -> Result<impl Fn(usize, usize) -> Ordering + use<>> {
    let pairs = left.iter().zip(right).zip(options);
    let each: Vec<_> = pairs
        .map(|((left, right), options)| make_comparator(left, right, *options))
        .collect::<std::result::Result<_, _>>()?;
    Ok(move |a, b| each.iter().map(|compare| compare(a, b)).find(|found| found.is_ne()).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, Int64Array};
    use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use datafusion::datasource::memory::MemorySourceConfig;
    use datafusion::physical_expr::expressions::{NegativeExpr, col};
    use datafusion::physical_plan::collect;

    use super::*;

    type Row = (Option<i64>, i64);

    /// What comes of `rows` in batches of `size`: rows and number of batches.
    async fn ordered(rows: &[Row], size: usize) -> (Vec<Row>, usize) {
        let batch = |rows: &[Row]| {
            let shared: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0)));
            let rest: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)));
            RecordBatch::try_from_iter_with_nullable([("k", shared, true), ("v", rest, true)]).unwrap()
        };
        let batches: Vec<RecordBatch> = rows.chunks(size).map(batch).collect();
        let schema = batch(&[]).schema();
        let input = MemorySourceConfig::try_new_exec(&[batches], schema.clone(), None).unwrap();
        let key = |expr, descending| PhysicalSortExpr { expr, options: SortOptions { descending, nulls_first: false } };
        let (k, v) = (col("k", &schema).unwrap(), col("v", &schema).unwrap());
        let negative: Arc<dyn PhysicalExpr> = Arc::new(NegativeExpr::new(k.clone()));
        let order = LexOrdering::new([key(negative, true), key(k, false), key(v, true)]).unwrap();
        let exec = OrderedRunsExec::try_new(input, order, 2).unwrap();
        let found = collect(Arc::new(exec), Arc::default()).await.unwrap();
        let numbers = |batch: &RecordBatch, at: usize| -> Vec<Option<i64>> {
            batch.column(at).as_primitive::<Int64Type>().iter().collect()
        };
        let rows = |batch: &RecordBatch| -> Vec<Row> {
            let rest = numbers(batch, 1).into_iter().flatten();
            numbers(batch, 0).into_iter().zip(rest).collect()
        };
        (found.iter().flat_map(rows).collect(), found.len())
    }

    #[tokio::test]
    async fn runs_are_put_in_order_wherever_batches_end() {
        let keys = [Some(1), Some(2), Some(2), Some(3), Some(3), Some(3), Some(3), Some(9), None, None, None];
        let rows: Vec<Row> = keys.iter().enumerate().map(|(at, key)| (*key, (at as i64 * 7) % 11)).collect();
        let mut expected = rows.clone();
        expected.sort_by_key(|(key, value)| (key.is_none(), *key, -value));
        assert_ne!(rows, expected);
        for size in 1..=rows.len() {
            assert_eq!(ordered(&rows, size).await.0, expected, "batches of {size}");
            // what is in order stays so
            assert_eq!(ordered(&expected, size).await.0, expected, "batches of {size}");
        }
        assert_eq!(ordered(&[], 3).await, (Vec::new(), 0));
    }

    #[test]
    fn a_key_that_is_computed_from_others_tells_no_runs_apart() {
        let schema = Schema::new(["a", "b"].map(|name| Field::new(name, DataType::Int64, true)).to_vec());
        let [a, b] = ["a", "b"].map(|name| col(name, &schema).unwrap());
        let negative =
            |of: &Arc<dyn PhysicalExpr>| -> Arc<dyn PhysicalExpr> { Arc::new(NegativeExpr::new(of.clone())) };
        let keys = |exprs: &[Arc<dyn PhysicalExpr>]| -> Vec<PhysicalSortExpr> {
            exprs.iter().map(|expr| PhysicalSortExpr::new_default(expr.clone())).collect()
        };
        let told = |exprs: &[Arc<dyn PhysicalExpr>]| {
            shared(&keys(exprs)).iter().map(|expr| expr.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(told(&[negative(&a), a.clone()]), ["a@0"]);
        assert_eq!(told(&[negative(&a), b.clone()]), ["(- a@0)", "b@1"]);
    }
}
