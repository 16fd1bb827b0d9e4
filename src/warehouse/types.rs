//! The few types that tables have: whatever the files hold becomes one of them.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};

use crate::config::ColumnType;

/// Timestamps are microseconds in UTC, without a zone.
pub const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// The type that SQL sees for a type found in a file: integers are BIGINT, floats DOUBLE, texts VARCHAR.
pub fn normalised(found: &DataType) -> DataType {
    use DataType::*;
    match found {
        Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 => Int64,
        Float16 | Float32 | Float64 => Float64,
        Utf8 | LargeUtf8 | Utf8View => Utf8,
        Timestamp(..) => TIMESTAMP,
        Date32 | Date64 => Date32,
        Dictionary(_, value) => normalised(value),
        List(item) | LargeList(item) | FixedSizeList(item, _) | ListView(item) | LargeListView(item) => {
            list_of(normalised(item.data_type()))
        }
        other => other.clone(),
    }
}

/// The type of a sample table's column, or `None` for one that no later stage could read (structs, intervals …).
pub fn table_type(found: &DataType) -> Option<DataType> {
    use DataType::*;
    let plain = match normalised(found) {
        Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..) => Float64,
        other => other,
    };
    match &plain {
        Int64 | Float64 | Utf8 | Boolean | Date32 | Timestamp(..) => Some(plain),
        List(item) => table_type(item.data_type()).filter(|item| !matches!(item, List(_))).map(list_of),
        _ => None,
    }
}

pub fn list_of(item: DataType) -> DataType {
    DataType::List(item_field(item))
}

/// The type of a list's views.
pub fn view_of(item: DataType) -> DataType {
    DataType::ListView(item_field(item))
}

/// What a list of `item` calls its values.
pub fn item_field(item: DataType) -> FieldRef {
    Arc::new(Field::new("item", item, true))
}

/// The Arrow type of a declared column.
pub fn declared(column: ColumnType) -> DataType {
    match column {
        ColumnType::Bigint => DataType::Int64,
        ColumnType::Varchar => DataType::Utf8,
        ColumnType::Double => DataType::Float64,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Timestamp => TIMESTAMP,
        ColumnType::Date => DataType::Date32,
        ColumnType::BigintList => list_of(DataType::Int64),
        ColumnType::VarcharList => list_of(DataType::Utf8),
        ColumnType::DoubleList => list_of(DataType::Float64),
    }
}

/// Whether a Parquet column of type `found` can be read as a declared one without changing what it says.
pub fn is_compatible(found: &DataType, wanted: &DataType) -> bool {
    use DataType::*;
    match (found, wanted) {
        // ids that bigint may not hold
        (UInt64, Utf8) => return true,
        (Dictionary(_, found), wanted) => return is_compatible(found, wanted),
        (
            List(found) | LargeList(found) | FixedSizeList(found, _) | ListView(found) | LargeListView(found),
            List(wanted),
        ) => return is_compatible(found.data_type(), wanted.data_type()),
        _ => {}
    }
    match (&normalised(found), wanted) {
        (Null, _) => true,
        (Int64, Float64) | (Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..), Float64) => true,
        (Binary | LargeBinary | BinaryView, Utf8) => true,
        (Date32, Timestamp(..)) => true,
        (found, wanted) => found == wanted,
    }
}

/// The integer beyond the largest bigint in an error's words about a value: unsigned ones of 64 bits go twice as far.
pub fn beyond_bigint(cause: &str) -> Option<&str> {
    // the rest of the row, which readers of CSV show too, is none of it
    let about = cause.split("Row data").next().filter(|about| about.contains("Int64"))?;
    let is_beyond = |word: &&str| word.parse().is_ok_and(|value: u64| value > i64::MAX as u64);
    about.split([' ', '\'']).find(is_beyond)
}

/// What to do about such a value of a column of `source`.
pub fn too_large(found: &str, source: &str) -> String {
    format!(
        "found {found}, expected at most {}, the largest bigint; declare the column `varchar` (lists `varchar[]`) in `sources.{source}.columns`, and the same ids elsewhere too; JSON must have them in quotes",
        i64::MAX
    )
}

/// A type as SQL and the config write it.
pub fn sql_name(data_type: &DataType) -> String {
    use DataType::*;
    match data_type {
        Int64 => "bigint".into(),
        Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32 | UInt64 => format!("{data_type} (an integer)"),
        Utf8 | LargeUtf8 | Utf8View => "varchar".into(),
        Float64 => "double".into(),
        Boolean => "boolean".into(),
        Date32 => "date".into(),
        Timestamp(..) => "timestamp".into(),
        List(item) | LargeList(item) => format!("{}[]", sql_name(item.data_type())),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_width_ids_are_bigint_or_varchar() {
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::LargeUtf8));
        assert_eq!(normalised(&DataType::UInt16), DataType::Int64);
        assert_eq!(normalised(&dictionary), DataType::Utf8);
        assert_eq!(normalised(&list_of(DataType::Int32)), list_of(DataType::Int64));
    }

    #[test]
    fn an_integer_that_bigint_does_not_hold_is_found_in_the_words_of_every_reader() {
        for cause in [
            "Arrow error: Cast error: Can't cast value 9223372036854775808 to type Int64",
            "Parser error: Error while parsing value '9223372036854775808' as type 'Int64' for column 0 at line 2",
            "Json error: whilst decoding field 'a': failed to parse 9223372036854775808 as Int64",
        ] {
            assert_eq!(beyond_bigint(cause), Some("9223372036854775808"), "{cause}");
        }
        for cause in [
            "Error while parsing value 'a' as type 'Int64' for column 0 at line 2. Row data: '[a,9223372036854775808 ]'",
            "Can't cast value 9223372036854775807 to type Int64",
            "Can't cast value 9223372036854775808 to type Date32",
        ] {
            assert_eq!(beyond_bigint(cause), None, "{cause}");
        }
    }

    #[test]
    fn a_declared_type_takes_narrower_ones_and_refuses_other_kinds() {
        assert!(is_compatible(&DataType::Int32, &DataType::Int64));
        assert!(is_compatible(&DataType::Float32, &DataType::Float64));
        assert!(!is_compatible(&DataType::Utf8, &DataType::Int64));
        assert!(!is_compatible(&DataType::Int64, &DataType::Utf8));
        assert!(!is_compatible(&DataType::Int64, &TIMESTAMP));
        // only the unsigned ones can be too large for bigint
        assert!(
            is_compatible(&DataType::UInt64, &DataType::Utf8) && !is_compatible(&DataType::UInt32, &DataType::Utf8)
        );
        assert!(is_compatible(&list_of(DataType::UInt64), &list_of(DataType::Utf8)));
    }
}
