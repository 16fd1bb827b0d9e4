//! How a record holds the values of a row, column by column: laid out, written, and put together to columns again.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BooleanArray, StructArray, UInt32Array, make_array, new_empty_array,
};
use datafusion::arrow::buffer::{BooleanBuffer, MutableBuffer, NullBuffer, ScalarBuffer};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Fields};
use datafusion::common::Result;

use crate::kernels::records::{self, Bucket};

/// Bytes in front of each record that are not ours.
const GROUP: usize = 1;
/// Bytes of a row's number.
pub const ROW: usize = size_of::<u32>();

/// Where everything lies in a record.
pub struct Layout {
    pub columns: Vec<Column>,
    /// Bytes of a record.
    pub width: usize,
    /// Where a record holds the number of its row, if it does.
    pub row_at: Option<usize>,
    /// How many columns stay where they are.
    pub kept: usize,
}

impl Layout {
    pub fn new<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Self {
        let mut given = Given { width: GROUP, bits: 0, kept: 0 };
        let mut columns: Vec<Column> = types.into_iter().map(|data_type| given.column(data_type)).collect();
        let row_at = (given.kept > 0).then(|| given.bytes(ROW));
        // bits lie behind all bytes
        columns.iter_mut().for_each(|column| column.move_bits(given.width));
        Layout { columns, width: given.width + given.bits.div_ceil(8), row_at, kept: given.kept }
    }
}

/// What of a record is given away.
struct Given {
    width: usize,
    bits: usize,
    kept: usize,
}

impl Given {
    fn column(&mut self, data_type: &DataType) -> Column {
        let kind = match data_type {
            DataType::Boolean => Kind::Bit(self.bit()),
            DataType::Struct(fields) if !fields.is_empty() => {
                Kind::Struct(fields.clone(), fields.iter().map(|field| self.column(field.data_type())).collect())
            }
            _ => match data_type.primitive_width() {
                Some(width @ (1 | 2 | 4 | 8 | 16 | 32)) => Kind::Fixed { at: self.bytes(width), width },
                _ => {
                    self.kept += 1;
                    Kind::Kept(self.kept - 1)
                }
            },
        };
        let null = (!matches!(kind, Kind::Kept(_))).then(|| self.bit());
        Column { data_type: data_type.clone(), kind, null, any_null: false }
    }

    fn bytes(&mut self, width: usize) -> usize {
        self.width += width;
        self.width - width
    }

    fn bit(&mut self) -> Bit {
        self.bits += 1;
        ((self.bits - 1) / 8, 1 << ((self.bits - 1) % 8))
    }
}

/// How a record holds a column.
pub struct Column {
    pub data_type: DataType,
    kind: Kind,
    /// The bit that is set where the value is null.
    null: Option<Bit>,
    /// Whether one was.
    any_null: bool,
}

enum Kind {
    /// So many bytes from here on.
    Fixed {
        at: usize,
        width: usize,
    },
    Bit(Bit),
    Struct(Fields, Vec<Column>),
    /// The place in `kept`.
    Kept(usize),
}

/// A byte, and the bit in it.
type Bit = (usize, u8);

/// A column that is being put together.
pub struct Growing {
    values: Values,
    /// Bits that are set where it is null.
    nulls: Option<MutableBuffer>,
}

enum Values {
    Fixed(MutableBuffer),
    Bits(MutableBuffer),
    Struct(Vec<Growing>),
    /// Numbers of rows of what is kept.
    Rows(MutableBuffer),
}

impl Column {
    fn move_bits(&mut self, by: usize) {
        if let Some((at, _)) = &mut self.null {
            *at += by;
        }
        match &mut self.kind {
            Kind::Bit((at, _)) => *at += by,
            Kind::Struct(_, columns) => columns.iter_mut().for_each(|column| column.move_bits(by)),
            Kind::Fixed { .. } | Kind::Kept(_) => {}
        }
    }

    /// Writes values into records; returns the bytes of those that stay where they are.
    pub fn write(
        &mut self,
        values: &ArrayRef,
        records: &mut [u8],
        record: usize,
        kept: &mut [Vec<ArrayRef>],
    ) -> Result<usize> {
        let mut write_bits = |bit: Bit, bits: &BooleanBuffer, of: bool| {
            records::write_bits(records, record, bit, (bits.values(), bits.offset()), of);
        };
        if let (Some(bit), Some(nulls)) = (self.null, values.nulls().filter(|nulls| nulls.null_count() > 0)) {
            self.any_null = true;
            write_bits(bit, nulls.inner(), false);
        }
        match &mut self.kind {
            Kind::Fixed { at, width } => {
                let data = values.to_data();
                records::write(records, record, *at, *width, &data.buffers()[0][data.offset() * *width..]);
            }
            Kind::Bit(bit) => write_bits(*bit, values.as_boolean().values(), true),
            Kind::Struct(_, columns) => {
                let mut bytes = 0;
                for (column, values) in columns.iter_mut().zip(values.as_struct().columns()) {
                    bytes += column.write(values, records, record, kept)?;
                }
                return Ok(bytes);
            }
            Kind::Kept(place) => {
                kept[*place].push(values.clone());
                return Ok(values.to_data().get_slice_memory_size()?);
            }
        }
        Ok(0)
    }

    /// A column of `rows` rows without values.
    pub fn start(&self, rows: usize) -> Growing {
        let bits = || MutableBuffer::from_len_zeroed(rows.div_ceil(8));
        let values = match &self.kind {
            Kind::Fixed { width, .. } => Values::Fixed(MutableBuffer::from_len_zeroed(rows * width)),
            Kind::Bit(_) => Values::Bits(bits()),
            Kind::Struct(_, columns) => Values::Struct(columns.iter().map(|column| column.start(rows)).collect()),
            Kind::Kept(_) => Values::Rows(MutableBuffer::from_len_zeroed(rows * ROW)),
        };
        Growing { values, nulls: self.any_null.then(bits) }
    }

    /// Brings the values of a bucket's records to their places.
    pub fn place(&self, bucket: &Bucket, row_at: Option<usize>, places: &[u32], growing: &mut Growing) {
        if let (Some((at, mask)), Some(nulls)) = (self.null, &mut growing.nulls) {
            bucket.place_bits(at, mask, places, nulls);
        }
        match (&self.kind, &mut growing.values) {
            (Kind::Fixed { at, width }, Values::Fixed(values)) => bucket.place(*at, *width, places, values),
            (Kind::Bit((at, mask)), Values::Bits(bits)) => bucket.place_bits(*at, *mask, places, bits),
            (Kind::Struct(_, columns), Values::Struct(growing)) => {
                columns.iter().zip(growing).for_each(|(column, growing)| column.place(bucket, row_at, places, growing));
            }
            (Kind::Kept(_), Values::Rows(rows)) => {
                let at = row_at.expect("records hold their row where a column is kept");
                bucket.place(at, ROW, places, rows);
            }
            _ => unreachable!("a column grows as it was started"),
        }
    }

    pub fn finish(&self, Growing { values, nulls }: Growing, rows: usize, kept: &[ArrayRef]) -> Result<ArrayRef> {
        let bits = |bits: MutableBuffer| BooleanBuffer::new(bits.into(), 0, rows);
        let nulls = nulls.map(|nulls| NullBuffer::new(!&bits(nulls))).filter(|nulls| nulls.null_count() > 0);
        Ok(match (&self.kind, values) {
            (Kind::Fixed { .. }, Values::Fixed(values)) => {
                let data = ArrayData::builder(self.data_type.clone()).len(rows).nulls(nulls);
                make_array(data.add_buffer(values.into()).build()?)
            }
            (Kind::Bit(_), Values::Bits(values)) => Arc::new(BooleanArray::new(bits(values), nulls)),
            (Kind::Struct(fields, columns), Values::Struct(growing)) => {
                let columns = columns.iter().zip(growing).map(|(column, growing)| column.finish(growing, rows, kept));
                Arc::new(StructArray::try_new(fields.clone(), columns.collect::<Result<_>>()?, nulls)?)
            }
            (Kind::Kept(_), Values::Rows(_)) if rows == 0 => new_empty_array(&self.data_type),
            (Kind::Kept(place), Values::Rows(numbers)) => {
                take(&kept[*place], &UInt32Array::new(ScalarBuffer::new(numbers.into(), 0, rows), None), None)?
            }
            _ => unreachable!("a column grows as it was started"),
        })
    }
}
