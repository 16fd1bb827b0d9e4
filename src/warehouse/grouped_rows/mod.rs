//! Rows of numbered groups, kept so that those of each group come out together. How a record holds a row is said in
//! `layout.rs`.

mod layout;

use std::iter::repeat_n;

use datafusion::arrow::array::{Array, ArrayRef, new_empty_array};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};

use self::layout::{Column, Growing, Layout, ROW};
use crate::kernels::records::{self, Bucket, Records};

/// Rows of several columns, each of a group.
///
/// Values lie side by side in the records of their rows, which are kept by group: see [`Records`]. What is not of a fixed width, texts and
/// lists, stays where it is until it is given out; a record holds the number of its row.
pub struct GroupedRows {
    columns: Vec<Column>,
    width: usize,
    /// Where a record holds the number of its row, if it does.
    row_at: Option<usize>,
    records: Records,
    rows: usize,
    /// Parts of the columns that stay where they are.
    kept: Vec<Vec<ArrayRef>>,
    kept_bytes: usize,
    /// Records of the rows that are being added.
    adding: Vec<u8>,
}

/// Rows that are given out, group by group.
pub struct Grouped {
    pub columns: Vec<ArrayRef>,
    /// Where each group begins and ends.
    pub offsets: OffsetBuffer<i32>,
}

/// Puts rows in order within groups: from columns and where each group begins and ends in them, the place of each row.
pub type Order<'a> = &'a dyn Fn(&[ArrayRef], &[i32]) -> Result<Vec<u32>>;

impl GroupedRows {
    pub fn new<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Self {
        let Layout { columns, width, row_at, kept } = Layout::new(types);
        GroupedRows {
            columns,
            width,
            row_at,
            records: Records::new(width),
            rows: 0,
            kept: vec![Vec::new(); kept],
            kept_bytes: 0,
            adding: Vec::new(),
        }
    }

    /// Bytes of all that is held.
    pub fn size(&self) -> usize {
        self.records.bytes() + self.kept_bytes
    }

    /// Adds rows: the value of each column, and the group of each row.
    pub fn add(&mut self, columns: &[ArrayRef], groups: &[u32]) -> Result<()> {
        let after = self.rows + groups.len();
        if u32::try_from(after).is_err() {
            return exec_err!(
                "array_agg holds {after} values at once, more than the 4294967295 that it can tell apart"
            );
        }
        self.adding.clear();
        self.adding.resize(groups.len() * self.width, 0);
        if let Some(at) = self.row_at {
            let numbers: Vec<u8> = (self.rows as u32..after as u32).flat_map(u32::to_ne_bytes).collect();
            records::write(&mut self.adding, self.width, at, ROW, &numbers);
        }
        for (column, values) in self.columns.iter_mut().zip(columns) {
            self.kept_bytes += column.write(values, &mut self.adding, self.width, &mut self.kept)?;
        }
        self.records.add(&mut self.adding, groups);
        self.rows = after;
        Ok(())
    }

    /// Takes all rows.
    pub fn take_all(&mut self) -> Self {
        let none = GroupedRows::new(self.columns.iter().map(|column| &column.data_type));
        std::mem::replace(self, none)
    }

    /// Takes the rows of the groups before `first`; those of the others, up to `all`, stay under new numbers.
    pub fn take_first(&mut self, first: usize, all: usize) -> Result<Self> {
        let Grouped { columns, offsets } = self.take_all().group(all)?;
        let mut taken = self.take_all();
        for (to, range) in [(&mut taken, &offsets[..=first]), (self, &offsets[first..])] {
            let (from, until) = (range[0] as usize, range[range.len() - 1] as usize);
            let part: Vec<ArrayRef> = columns.iter().map(|column| column.slice(from, until - from)).collect();
            let lengths = range.windows(2).map(|range| (range[1] - range[0]) as usize);
            let groups: Vec<u32> = (0..).zip(lengths).flat_map(|(group, length)| repeat_n(group, length)).collect();
            to.add(&part, &groups)?;
        }
        Ok(taken)
    }

    /// The rows, which are of the groups before `count`; each group's in the order in which they came.
    pub fn group(self, count: usize) -> Result<Grouped> {
        let wanted = self.columns.len();
        self.grouped(count, wanted, None)
    }

    /// The first column of the rows, which are of the groups before `count`; each group's in the order of the other columns.
    pub fn group_in_order(self, count: usize, order: Order) -> Result<Grouped> {
        self.grouped(count, 1, Some(order))
    }

    fn grouped(self, count: usize, wanted: usize, order: Option<Order>) -> Result<Grouped> {
        let GroupedRows { columns, row_at, records, rows, kept, .. } = self;
        if i32::try_from(rows).is_err() {
            return exec_err!(
                "array_agg makes lists of {rows} values at once, more than the 2147483647 that lists may hold"
            );
        }
        let kept: Vec<ArrayRef> = kept.into_iter().map(|parts| together(&parts)).collect::<Result<_>>()?;
        let (columns, keys) = columns.split_at(wanted);
        let start = |columns: &[Column], rows| columns.iter().map(|column| column.start(rows)).collect();
        let place = |columns: &[Column], bucket: &Bucket, places: &[u32], growing: &mut Vec<Growing>| {
            columns.iter().zip(growing).for_each(|(column, growing)| column.place(bucket, row_at, places, growing));
        };
        let finish = |columns: &[Column], growing: Vec<Growing>, rows| {
            let columns = columns.iter().zip(growing).map(|(column, growing)| column.finish(growing, rows, &kept));
            columns.collect::<Result<Vec<ArrayRef>>>()
        };
        let mut growing = start(columns, rows);
        let mut offsets = Vec::with_capacity(count + 1);
        offsets.push(0i32);
        for (bucket, groups) in records.into_buckets(count) {
            let base = offsets[offsets.len() - 1];
            let (mut places, local) = bucket.places(groups);
            if let Some(order) = order {
                let mut growing = start(keys, places.len());
                place(keys, &bucket, &places, &mut growing);
                let ordered = order(&finish(keys, growing, places.len())?, &local)?;
                places.iter_mut().for_each(|place| *place = ordered[*place as usize]);
            }
            places.iter_mut().for_each(|place| *place += base as u32);
            place(columns, &bucket, &places, &mut growing);
            offsets.extend(local[1..].iter().map(|end| end + base));
        }
        Ok(Grouped { columns: finish(columns, growing, rows)?, offsets: OffsetBuffer::new(offsets.into()) })
    }
}

/// Parts of one column, put together.
fn together(parts: &[ArrayRef]) -> Result<ArrayRef> {
    let parts: Vec<&dyn Array> = parts.iter().map(|part| part.as_ref()).collect();
    Ok(if parts.is_empty() { new_empty_array(&DataType::Null) } else { concat(&parts)? })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{
        AsArray, BooleanArray, Decimal256Array, Float64Array, Int8Array, Int64Array, StringArray, StructArray,
        TimestampMicrosecondArray, UInt32Array,
    };
    use datafusion::arrow::buffer::NullBuffer;
    use datafusion::arrow::compute::take;
    use datafusion::arrow::datatypes::{Field, Fields, i256};

    use super::*;

    const ROWS: i64 = 300;

    /// Rows of a type, every third of them null where `nulls` says so.
    fn rows(data_type: &DataType, nulls: bool) -> ArrayRef {
        let known = (0..ROWS).map(move |n| (!nulls || n % 3 != 0).then_some(n));
        match data_type {
            DataType::Int8 => Arc::new(Int8Array::from_iter(known.map(|n| n.map(|n| n as i8)))),
            DataType::Int64 => Arc::new(Int64Array::from_iter(known)),
            DataType::Float64 => Arc::new(Float64Array::from_iter(known.map(|n| n.map(|n| n as f64 / 2.0)))),
            DataType::Boolean => Arc::new(BooleanArray::from_iter(known.map(|n| n.map(|n| n % 2 == 0)))),
            DataType::Utf8 => Arc::new(StringArray::from_iter(known.map(|n| n.map(|n| n.to_string())))),
            DataType::Decimal256(..) => {
                let wide = known.map(|n| n.map(|n| i256::from_parts(n as u128, n as i128)));
                Arc::new(Decimal256Array::from_iter(wide).with_data_type(data_type.clone()))
            }
            DataType::Struct(fields) => {
                let columns = fields.iter().enumerate();
                // a field of a row that is not null may be null, too
                let columns = columns.map(|(at, field)| rows(field.data_type(), nulls || at == 1)).collect();
                let valid = NullBuffer::from_iter((0..ROWS).map(|n| !nulls || n % 4 != 0));
                Arc::new(StructArray::new(fields.clone(), columns, Some(valid)))
            }
            _ => Arc::new(TimestampMicrosecondArray::from_iter(known).with_timezone("UTC")),
        }
    }

    fn group(row: i64) -> u32 {
        // none in group 50, and twice as many in group 30
        let group = (row * 7919 % 97) as u32;
        if group == 50 { 30 } else { group }
    }

    fn types() -> Vec<DataType> {
        let inner = [DataType::Int64, DataType::Boolean, DataType::Utf8].into_iter().enumerate();
        let fields: Fields = inner.map(|(at, data_type)| Field::new(at.to_string(), data_type, true)).collect();
        let zoned = rows(&DataType::Null, false).data_type().clone();
        let wide = DataType::Decimal256(70, 2);
        let plain = [DataType::Int8, DataType::Int64, DataType::Float64, DataType::Boolean, DataType::Utf8];
        plain.into_iter().chain([wide, zoned, DataType::Struct(fields)]).collect()
    }

    fn filled(types: &[DataType], nulls: bool, part: usize) -> GroupedRows {
        let mut all = GroupedRows::new(types);
        let groups: Vec<u32> = (0..ROWS).map(group).collect();
        let columns: Vec<ArrayRef> = types.iter().map(|data_type| rows(data_type, nulls)).collect();
        for from in (0..ROWS as usize).step_by(part) {
            let many = part.min(ROWS as usize - from);
            let part: Vec<ArrayRef> = columns.iter().map(|column| column.slice(from, many)).collect();
            all.add(&part, &groups[from..from + many]).unwrap();
        }
        all
    }

    #[test]
    fn rows_come_out_group_by_group_whatever_their_types() {
        let types = types();
        for (nulls, part) in [(false, 300), (false, 1), (true, 7), (true, 300), (true, 64)] {
            let all = filled(&types, nulls, part);
            assert!(all.size() > 0);
            let mut order: Vec<i64> = (0..ROWS).collect();
            order.sort_by_key(|row| group(*row));
            let lengths = (0..99).map(|of| order.iter().filter(|row| group(**row) == of).count());
            let found = all.group(99).unwrap();
            assert_eq!(found.offsets, OffsetBuffer::from_lengths(lengths));
            let order = UInt32Array::from_iter_values(order.iter().map(|row| *row as u32));
            for (data_type, found) in types.iter().zip(&found.columns) {
                let expected = take(&rows(data_type, nulls), &order, None).unwrap();
                assert_eq!(found, &expected, "{data_type}, nulls: {nulls}, {part} rows a part");
            }
        }
        let nothing = GroupedRows::new(&types).group(2).unwrap();
        assert_eq!(nothing.offsets[..], [0, 0, 0]);
        nothing
            .columns
            .iter()
            .zip(&types)
            .for_each(|(column, of)| assert_eq!((column.len(), column.data_type()), (0, of)));
    }

    #[test]
    fn the_first_groups_go_and_the_others_stay() {
        let types = types();
        let mut all = filled(&types, true, 50);
        let expected = filled(&types, true, 50).group(97).unwrap();
        for (first, of) in [(0, 97), (2, 97), (70, 95), (0, 25), (25, 25)] {
            let before = 97 - of;
            let found = all.take_first(first, of).unwrap().group(first).unwrap();
            let (from, until) = (expected.offsets[before] as usize, expected.offsets[before + first] as usize);
            for (found, expected) in found.columns.iter().zip(&expected.columns) {
                assert_eq!(found, &expected.slice(from, until - from), "{first} of {of}");
            }
        }
        assert_eq!(all.group(0).unwrap().columns[0].len(), 0);
    }

    #[test]
    fn the_first_column_comes_out_in_the_order_of_the_others() {
        let types = types();
        let backwards = |keys: &[ArrayRef], offsets: &[i32]| -> Result<Vec<u32>> {
            // the second column holds the number of the row
            let rows = keys[0].as_primitive::<datafusion::arrow::datatypes::Int64Type>().values().to_vec();
            let mut places = vec![0; rows.len()];
            for range in offsets.windows(2) {
                for at in range[0]..range[1] {
                    let newer =
                        rows[range[0] as usize..range[1] as usize].iter().filter(|row| **row > rows[at as usize]);
                    places[at as usize] = range[0] as u32 + newer.count() as u32;
                }
            }
            Ok(places)
        };
        let mut order: Vec<i64> = (0..ROWS).rev().collect();
        order.sort_by_key(|row| group(*row));
        let order = UInt32Array::from_iter_values(order.iter().map(|row| *row as u32));
        for first in types {
            let of = [first.clone(), DataType::Int64, DataType::Utf8];
            let found = filled(&of, false, 50).group_in_order(97, &backwards).unwrap();
            assert_eq!(found.columns.len(), 1);
            assert_eq!(&found.columns[0], &take(&rows(&first, false), &order, None).unwrap(), "{first}");
        }
    }
}
