//! The tables of the logs, as Arrow batches.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray,
    StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::day::Impression;
use super::world::World;
use crate::artifacts::IdType;
use crate::error::{Error, Result};

/// Builds batches with ids of one type.
#[derive(Clone, Copy)]
pub struct Tables(pub IdType);

impl Tables {
    fn ids(self, letter: char, numbers: impl Iterator<Item = usize>) -> ArrayRef {
        match self.0 {
            // not from 0, so that a row number taken for an id shows
            IdType::Bigint => Arc::new(Int64Array::from_iter_values(numbers.map(|n| n as i64 + 1001))),
            IdType::Varchar => Arc::new(StringArray::from_iter_values(numbers.map(|n| format!("{letter}{n:06}")))),
        }
    }

    pub fn impressions(self, rows: &[Impression], day_start: i64) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = vec![
            self.ids('u', rows.iter().map(|row| row.user)),
            self.ids('i', rows.iter().map(|row| row.item)),
            Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| day_start + row.micros))),
            Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.clicked)))),
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.position))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.device))),
        ];
        batch(self.impressions_schema(), columns)
    }

    pub fn impressions_schema(self) -> SchemaRef {
        schema([
            ("user_id", self.0.arrow()),
            ("item_id", self.0.arrow()),
            ("event_time", DataType::Timestamp(TimeUnit::Microsecond, None)),
            ("clicked", DataType::Boolean),
            ("position", DataType::Int32),
            ("device", DataType::Utf8),
        ])
    }

    pub fn items(self, world: &World, range: std::ops::Range<usize>) -> Result<RecordBatch> {
        let items = &world.items[range.clone()];
        let mut tags = ListBuilder::new(StringBuilder::new());
        for item in items {
            for tag in &item.tags {
                tags.values().append_value(format!("tag_{tag:03}"));
            }
            tags.append(true);
        }
        let columns: Vec<ArrayRef> = vec![
            self.ids('i', range),
            Arc::new(StringArray::from_iter_values(items.iter().map(|item| format!("category_{:02}", item.category)))),
            Arc::new(Float64Array::from_iter(items.iter().map(|item| item.price))),
            Arc::new(Int64Array::from_iter_values(items.iter().map(|item| item.publisher))),
            Arc::new(tags.finish()),
        ];
        batch(self.items_schema(), columns)
    }

    pub fn items_schema(self) -> SchemaRef {
        schema([
            ("item_id", self.0.arrow()),
            ("category", DataType::Utf8),
            ("price", DataType::Float64),
            ("publisher_id", DataType::Int64),
            ("tags", DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)))),
        ])
    }

    pub fn users(self, world: &World, numbers: &[usize]) -> Result<RecordBatch> {
        let users = || numbers.iter().map(|user| &world.users[*user]);
        let columns: Vec<ArrayRef> = vec![
            self.ids('u', numbers.iter().copied()),
            Arc::new(Int64Array::from_iter(users().map(|user| user.age))),
            Arc::new(StringArray::from_iter_values(users().map(|user| user.country))),
            Arc::new(BooleanArray::from_iter(users().map(|user| user.premium))),
        ];
        batch(self.users_schema(), columns)
    }

    pub fn users_schema(self) -> SchemaRef {
        schema([
            ("user_id", self.0.arrow()),
            ("age", DataType::Int64),
            ("country", DataType::Utf8),
            ("premium", DataType::Boolean),
        ])
    }

    /// Rows of (user, item, score).
    pub fn ranker_scores(self, rows: &[(usize, usize, f32)]) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = vec![
            self.ids('u', rows.iter().map(|row| row.0)),
            self.ids('i', rows.iter().map(|row| row.1)),
            Arc::new(Float32Array::from_iter_values(rows.iter().map(|row| row.2))),
        ];
        batch(self.ranker_scores_schema(), columns)
    }

    pub fn ranker_scores_schema(self) -> SchemaRef {
        schema([("user_id", self.0.arrow()), ("item_id", self.0.arrow()), ("score", DataType::Float32)])
    }
}

fn schema<const N: usize>(columns: [(&str, DataType); N]) -> SchemaRef {
    Arc::new(Schema::new(columns.map(|(name, kind)| Field::new(name, kind, true)).to_vec()))
}

fn batch(schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(schema, columns)
        .map_err(|error| Error::internal("a generated table does not fit its schema").caused_by(error))
}
