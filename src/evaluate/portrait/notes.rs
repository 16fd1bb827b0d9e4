//! What `item_features` says of items in words: a title, and the group an item belongs to.

use std::collections::{HashMap, HashSet};

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use futures::StreamExt;

use super::super::catalogue::Catalogue;
use crate::artifacts::{Ids, SampleFacts};
use crate::config::{FeatureKind, Features};
use crate::error::{Error, Result};
use crate::retrieval::table;
use crate::storage::{Store, parquet_schema, read_parquet_stream, sorted_parts};

/// Columns that are taken for a title, the best first.
const TITLES: [&str; 7] = ["title", "name", "item_title", "item_name", "product_name", "headline", "label"];
/// Letters that are kept of a title or a group.
const LETTERS: usize = 60;

#[derive(Default)]
pub struct Notes {
    /// Their columns, where there are any.
    pub title: Option<String>,
    pub group: Option<String>,
    /// By position in the catalogue.
    of: HashMap<u32, [Option<String>; 2]>,
}

impl Notes {
    pub fn title_of(&self, item: u32) -> Option<String> {
        self.of.get(&item)?[0].clone()
    }

    pub fn group_of(&self, item: u32) -> Option<String> {
        self.of.get(&item)?[1].clone()
    }

    /// Reads what is said of the items at `wanted`. The group is the first categorical feature of the item tower.
    pub async fn read(
        store: &Store,
        samples: &SampleFacts,
        features: &Features,
        catalogue: &Catalogue,
        wanted: &[u32],
    ) -> Result<Notes> {
        let keys = samples.tables.get("item_features").map(|table| sorted_parts(&table.files)).unwrap_or_default();
        let Some(first) = keys.first() else { return Ok(Notes::default()) };
        let schema = parquet_schema(store, first).await?;
        let plain = |column: &str| schema.field_with_name(column).is_ok_and(|field| !field.data_type().is_nested());
        let is_text = |column: &str| schema.field_with_name(column).is_ok_and(|field| field.data_type().is_string());
        let title = TITLES.iter().find(|column| is_text(column)).map(|column| column.to_string());
        let categorical = features.item.iter().filter(|(_, feature)| feature.kind == FeatureKind::Categorical);
        let group = categorical
            .map(|(name, feature)| feature.column.clone().unwrap_or_else(|| name.clone()))
            .find(|column| plain(column) && title.as_ref() != Some(column));
        let mut notes = Notes { title, group, of: HashMap::new() };
        let columns: Vec<String> = notes.title.iter().chain(&notes.group).cloned().collect();
        if columns.is_empty() {
            return Ok(notes);
        }
        let wanted: HashSet<u32> = wanted.iter().copied().collect();
        let mut batches = read_parquet_stream(store, keys, Some([vec!["item_id".into()], columns].concat()), 65_536);
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            let mut ids = Ids::new(samples.item_id_type);
            ids.extend_from(table::column(&batch, "item_features", "item_id")?, "item_features.item_id")?;
            let text = |column: &Option<String>| -> Result<_> {
                let Some(column) = column else { return Ok(None) };
                let values =
                    cast(table::column(&batch, "item_features", column)?, &DataType::Utf8).map_err(|error| {
                        Error::internal(format!("item_features.{column} cannot be written as text")).caused_by(error)
                    })?;
                Ok(Some(values))
            };
            let columns = [text(&notes.title)?, text(&notes.group)?];
            for at in 0..ids.len() {
                let Some(item) = catalogue.positions.get(&ids, at).filter(|item| wanted.contains(item)) else {
                    continue;
                };
                let value = |column: &Option<arrow::array::ArrayRef>| {
                    let values = column.as_ref().filter(|values| values.is_valid(at))?.as_string::<i32>();
                    Some(values.value(at).chars().take(LETTERS).collect::<String>())
                };
                notes.of.entry(item).or_insert([value(&columns[0]), value(&columns[1])]);
            }
        }
        Ok(notes)
    }
}
