//! Item vectors as the embed stage left them.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type};
use futures::{Stream, StreamExt};

use super::users::table;
use crate::artifacts::{Embeddings, Ids};
use crate::error::{Error, Result};
use crate::storage::{Store, read_parquet_stream, sorted_parts};

/// Some rows of the item vectors, in the order of the files.
pub struct ItemVectors {
    pub ids: Ids,
    /// `[ids.len(), dim]`
    pub vectors: Vec<f32>,
}

/// Streams the item vectors in blocks of at most `rows`. The position of an item is its row, counted over all files.
pub fn item_vectors<'a>(
    store: &Store,
    embeddings: &'a Embeddings,
    rows: usize,
) -> impl Stream<Item = Result<ItemVectors>> + Unpin + use<'a> {
    let keys = sorted_parts(&embeddings.record.files);
    read_parquet_stream(store, keys, None, rows).map(|batch| decode(&batch?, embeddings))
}

fn decode(batch: &RecordBatch, embeddings: &Embeddings) -> Result<ItemVectors> {
    let facts = &embeddings.record.facts;
    let mut ids = Ids::new(facts.item_id_type);
    ids.extend_from(table::column(batch, "embeddings", "item_id")?, "embeddings.item_id")?;
    let column = table::column(batch, "embeddings", "vector")?;
    let right = match column.data_type() {
        DataType::FixedSizeList(item, size) => *item.data_type() == DataType::Float32 && *size as usize == facts.dim,
        _ => false,
    };
    if !right || column.null_count() > 0 {
        return Err(Error::config(format!(
            "{}: column `vector` has type {} with {} nulls, expected {} 32-bit floats in each row; run the embed stage again",
            embeddings.folder,
            column.data_type(),
            column.null_count(),
            facts.dim
        )));
    }
    let vectors = column.as_fixed_size_list().values().as_primitive::<Float32Type>().values().to_vec();
    Ok(ItemVectors { ids, vectors })
}
