//! `array_agg(value order by …)` that makes the lists of all groups in one go.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StructArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{SortOptions, and, filter, is_not_null, prep_null_mask_filter};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::Result;
use datafusion::functions_aggregate::array_agg::ArrayAgg;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature};

use super::grouped_rows::{Grouped, GroupedRows};
use super::lists::lists;
use crate::kernels::records::sort;

/// The engine's `array_agg` with another way to put lists in order. The engine keeps each value and what it is ordered by as objects
/// of their own; here they stay columns, and the order is made when the lists are. Whatever else the function does is left to the engine.
///
/// Values that are equal in all that the list is ordered by stand in the order in which they came, which no rerun repeats.
#[derive(Debug, PartialEq, Eq, Hash, Default)]
pub struct OrderedLists {
    engine: ArrayAgg,
}

impl AggregateUDFImpl for OrderedLists {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn signature(&self) -> &Signature {
        self.engine.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.engine.return_type(arguments)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.engine.state_fields(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        // the result has its order wherever the rows come from, so none is asked of them
        AggregateOrderSensitivity::Beneficial
    }

    fn with_beneficial_ordering(self: Arc<Self>, _ordered: bool) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        Ok(Some(self))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::NotSupported
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.engine.accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let value = &args.expr_fields[0];
        let mut keys = Vec::new();
        for key in args.order_bys {
            keys.push(Field::new(key.expr.to_string(), key.expr.data_type(args.schema)?, true));
        }
        let types = std::iter::once(value.data_type()).chain(keys.iter().map(Field::data_type));
        Ok(Box::new(Lists {
            rows: GroupedRows::new(types),
            order: args.order_bys.iter().map(|key| key.options).collect(),
            ignore_nulls: args.ignore_nulls && value.is_nullable(),
            keys: keys.into(),
            count: 0,
        }))
    }

    fn supports_null_handling_clause(&self) -> bool {
        true
    }
}

/// The values of all groups and what they are ordered by.
struct Lists {
    rows: GroupedRows,
    /// What values are ordered by, named as the engine names it.
    keys: Fields,
    order: Vec<SortOptions>,
    ignore_nulls: bool,
    /// How many groups there are, those without a row too.
    count: usize,
}

impl Lists {
    /// The rows that a filter and `ignore nulls` leave, or `None` for all.
    fn wanted(&self, value: &ArrayRef, filter: Option<&BooleanArray>) -> Result<Option<BooleanArray>> {
        let known = if self.ignore_nulls && value.null_count() > 0 { Some(is_not_null(value)?) } else { None };
        let passed =
            filter.map(|filter| if filter.null_count() > 0 { prep_null_mask_filter(filter) } else { filter.clone() });
        Ok(match (known, passed) {
            (Some(known), Some(passed)) => Some(and(&known, &passed)?),
            (one, other) => one.or(other),
        })
    }

    /// Takes the rows of the groups `emit`, and says how many groups these are; those of the others stay, under new numbers.
    fn take(&mut self, emit: EmitTo) -> Result<(GroupedRows, usize)> {
        let all = std::mem::take(&mut self.count);
        let EmitTo::First(first) = emit else { return Ok((self.rows.take_all(), all)) };
        self.count = all.saturating_sub(first);
        Ok((self.rows.take_first(first, all.max(first))?, first))
    }

    /// Values and keys as the lists that one stage hands to the next.
    fn states(
        &self,
        mut columns: Vec<ArrayRef>,
        offsets: &OffsetBuffer<i32>,
        nulls: Option<NullBuffer>,
    ) -> Result<Vec<ArrayRef>> {
        let keys = columns.split_off(1);
        let mut states: Vec<ArrayRef> = vec![Arc::new(lists(columns.remove(0), offsets.clone(), nulls)?)];
        if !keys.is_empty() {
            let keys = StructArray::try_new(self.keys.clone(), keys, None)?;
            states.push(Arc::new(lists(Arc::new(keys), offsets.clone(), None)?));
        }
        Ok(states)
    }

    fn converter(&self) -> Result<RowConverter> {
        let fields = self.keys.iter().zip(&self.order);
        let fields = fields.map(|(key, order)| SortField::new_with_options(key.data_type().clone(), *order));
        Ok(RowConverter::new(fields.collect())?)
    }
}

/// A group without a row has no list.
fn without_rows(offsets: &OffsetBuffer<i32>) -> Option<NullBuffer> {
    let has = |range: &[i32]| range[1] > range[0];
    let any = offsets.windows(2).any(|range| !has(range));
    any.then(|| offsets.windows(2).map(has).collect())
}

/// Rows that are put in order at a time, if no list is longer: their keys fit into a near cache, and the keys of all rows never
/// stand in memory as bytes together.
const PORTION: i32 = if cfg!(test) { 64 } else { 1 << 14 };

/// The place of each row when the rows of each list are in order by `keys`; rows that are equal in them stay in their order.
fn places(keys: &[ArrayRef], mut offsets: &[i32], converter: &RowConverter) -> Result<Vec<u32>> {
    let mut places = vec![0; offsets[offsets.len() - 1] as usize];
    while let [first, .., last] = *offsets {
        let end = if last - first <= PORTION { last } else { first + PORTION };
        // whole lists, and at least one
        let lists = offsets.partition_point(|offset| *offset <= end).max(2);
        let places = &mut places[first as usize..offsets[lists - 1] as usize];
        let keys: Vec<ArrayRef> = keys.iter().map(|key| key.slice(first as usize, places.len())).collect();
        let keys = converter.convert_columns(&keys)?;
        // most rows differ in the first bytes of their keys, which are cheaper to compare than what they stand for
        let start = |row: usize| {
            let bytes = keys.row(row);
            let bytes = bytes.as_ref();
            let mut word = [0; 8];
            let length = bytes.len().min(8);
            word[..length].copy_from_slice(&bytes[..length]);
            (u64::from_be_bytes(word), row as u32)
        };
        let mut starts: Vec<(u64, u32)> = (0..places.len()).map(start).collect();
        for range in offsets[..lists].windows(2) {
            let range = (range[0] - first) as usize..(range[1] - first) as usize;
            sort(&mut starts[range], |ties| {
                ties.sort_by(|(_, row), (_, other)| keys.row(*row as usize).cmp(&keys.row(*other as usize)));
            });
        }
        (first as u32..).zip(&starts).for_each(|(place, (_, row))| places[*row as usize] = place);
        offsets = &offsets[lists - 1..];
    }
    Ok(places)
}

impl GroupsAccumulator for Lists {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.count = total_num_groups;
        let groups = group_indices.iter().map(|group| *group as u32);
        let Some(wanted) = self.wanted(&values[0], opt_filter)? else {
            return self.rows.add(values, &groups.collect::<Vec<_>>());
        };
        if wanted.true_count() == 0 {
            return Ok(());
        }
        let columns = values.iter().map(|column| filter(column, &wanted)).collect::<Result<Vec<_>, _>>()?;
        let groups = groups.zip(wanted.values()).filter(|(_, wanted)| *wanted).map(|(group, _)| group);
        self.rows.add(&columns, &groups.collect::<Vec<_>>())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (rows, count) = self.take(emit_to)?;
        let Grouped { mut columns, offsets } = if self.keys.is_empty() {
            rows.group(count)?
        } else {
            let converter = self.converter()?;
            rows.group_in_order(count, &|keys, offsets| places(keys, offsets, &converter))?
        };
        let nulls = without_rows(&offsets);
        Ok(Arc::new(lists(columns.remove(0), offsets, nulls)?))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (rows, count) = self.take(emit_to)?;
        let Grouped { columns, offsets } = rows.group(count)?;
        self.states(columns, &offsets, without_rows(&offsets))
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.count = total_num_groups;
        let mut states = values.to_vec();
        let mut groups: Vec<u32> = group_indices.iter().map(|group| *group as u32).collect();
        if values[0].null_count() > 0 {
            // what lies behind a null is no value
            let known = is_not_null(&values[0])?;
            states = values.iter().map(|state| filter(state, &known)).collect::<Result<Vec<_>, _>>()?;
            groups =
                groups.into_iter().zip(known.values()).filter(|(_, known)| *known).map(|(group, _)| group).collect();
        }
        let offsets = states[0].as_list::<i32>().value_offsets();
        let lengths = offsets.windows(2).map(|range| (range[1] - range[0]) as usize);
        let groups = groups.into_iter().zip(lengths).flat_map(|(group, length)| std::iter::repeat_n(group, length));
        let inner = |state: &ArrayRef| {
            let list = state.as_list::<i32>();
            let (first, last) = (list.value_offsets()[0], list.value_offsets()[list.len()]);
            list.values().slice(first as usize, (last - first) as usize)
        };
        let mut columns = vec![inner(&states[0])];
        if let Some(keys) = states.get(1) {
            columns.extend(inner(keys).as_struct().columns().iter().cloned());
        }
        self.rows.add(&columns, &groups.collect::<Vec<_>>())
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let offsets = OffsetBuffer::from_repeated_length(1, values[0].len());
        let nulls = self.wanted(&values[0], opt_filter)?.map(|wanted| NullBuffer::new(wanted.values().clone()));
        self.states(values.to_vec(), &offsets, nulls)
    }

    /// Half more than what is held: while lists are made, they stand beside the rows that are not in them yet.
    fn size(&self) -> usize {
        self.rows.size() / 2 * 3
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, RecordBatch, StringArray};
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::datasource::MemTable;
    use datafusion::execution::SessionStateBuilder;
    use datafusion::logical_expr::AggregateUDF;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;
    use crate::warehouse::one_step::LISTS_IN_ONE_STEP;

    #[derive(PartialEq, Clone, Copy)]
    enum Lists {
        Engine,
        Ours,
        OursInOneStep,
    }

    /// What a query answers over 20 batches of the rows `n`, with groups, keys that repeat, and nulls.
    async fn answer(query: &str, lists: Lists) -> String {
        let settings = SessionConfig::new().with_target_partitions(3);
        let mut state = SessionStateBuilder::new().with_config(settings).with_default_features();
        if lists == Lists::OursInOneStep {
            state = state.with_physical_optimizer_rule(Arc::new(LISTS_IN_ONE_STEP));
        }
        let context = SessionContext::new_with_state(state.build());
        if lists != Lists::Engine {
            context.register_udaf(AggregateUDF::new_from_impl(OrderedLists::default()));
        }
        let batches = (0..20i64).map(|batch| {
            let rows = (batch * 50..batch * 50 + 50).map(|n| n * 7919 % 1000);
            let known = |n: i64| (n % 5 != 0).then_some(n);
            let columns: Vec<(&str, ArrayRef)> = vec![
                ("n", Arc::new(Int64Array::from_iter_values(rows.clone()))),
                ("user", Arc::new(Int64Array::from_iter(rows.clone().map(|n| (n % 13 != 0).then_some(n % 17))))),
                ("time", Arc::new(Int64Array::from_iter(rows.clone().map(|n| known(n).map(|n| n % 10))))),
                ("item", Arc::new(StringArray::from_iter(rows.map(|n| known(n + 1).map(|n| format!("i{n}")))))),
            ];
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        });
        let batches = batches.collect::<Result<Vec<_>, _>>().unwrap();
        let table = MemTable::try_new(batches[0].schema(), vec![batches[..7].to_vec(), batches[7..].to_vec()]).unwrap();
        context.register_table("rows", Arc::new(table)).unwrap();
        let found = context.sql(query).await.unwrap().collect().await.unwrap();
        pretty_format_batches(&found).unwrap().to_string()
    }

    #[tokio::test]
    async fn lists_are_those_of_the_engine() {
        for aggregate in [
            "array_agg(item order by time, n)",
            "array_agg(item order by time desc nulls last, n desc)",
            "array_agg(n order by item nulls first, n) filter (where time > 3)",
            "array_agg(item order by n) filter (where item is not null and n < 3)",
            "array_agg(named_struct('a', n, 'b', item) order by time, n)",
            "array_sort(array_agg(n))",
        ] {
            for group in ["", " group by user order by user", " group by user, time order by user, time"] {
                let query = format!("select {aggregate} as list from rows{group}");
                let engine = answer(&query, Lists::Engine).await;
                assert_eq!(answer(&query, Lists::Ours).await, engine, "{query}");
                assert_eq!(answer(&query, Lists::OursInOneStep).await, engine, "{query}");
            }
        }
        let nobody = "select array_agg(item order by n) as list from rows where n < 0 group by user";
        assert_eq!(answer(nobody, Lists::Ours).await, answer(nobody, Lists::Engine).await);
        let plan = answer(&format!("explain {nobody}"), Lists::OursInOneStep).await;
        assert!(plan.contains("mode=SinglePartitioned") && !plan.contains("mode=Partial"), "{plan}");
    }
}
