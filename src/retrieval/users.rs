//! User vectors: rows of `user_features` through the user tower.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use futures::StreamExt;

use crate::artifacts::{Ids, SampleFacts};
use crate::error::Result;
use crate::features::Side;
use crate::model::Towers;
use crate::storage::{FileEntry, Store, read_parquet_stream, sorted_parts};

/// The user half of a model, as far as retrieval needs it.
pub trait UserTower {
    /// Columns of `user_features` that it reads.
    fn columns(&self) -> Vec<String>;

    /// Length of a vector.
    fn dim(&self) -> usize;

    /// Vectors `[rows, dim]` in the order of the rows, L2-normalised where the model does, but for the 1 that meets an item's bias.
    fn vectors(&self, rows: &[RecordBatch]) -> Result<Vec<f32>>;
}

impl UserTower for Towers {
    fn columns(&self) -> Vec<String> {
        self.feature_columns(Side::User)
    }

    fn dim(&self) -> usize {
        self.dim()
    }

    fn vectors(&self, rows: &[RecordBatch]) -> Result<Vec<f32>> {
        self.users(rows)
    }
}

/// Columns of batches, with an error that names the table.
pub mod table {
    use arrow::array::{ArrayRef, RecordBatch};

    use crate::error::{Error, Result};

    pub fn column<'a>(batch: &'a RecordBatch, table: &str, name: &str) -> Result<&'a ArrayRef> {
        batch.column_by_name(name).ok_or_else(|| Error::config(format!("table `{table}` has no column `{name}`")))
    }
}

fn user_files(samples: &SampleFacts) -> Vec<FileEntry> {
    samples.tables.get("user_features").map(|table| sorted_parts(&table.files)).unwrap_or_default()
}

fn ids_of(batch: &RecordBatch, samples: &SampleFacts) -> Result<Ids> {
    let mut ids = Ids::new(samples.user_id_type);
    ids.extend_from(table::column(batch, "user_features", "user_id")?, "user_features.user_id")?;
    Ok(ids)
}

/// Calls `visit` with the ids of `user_features`, block after block in the order of the rows.
pub async fn user_ids(store: &Store, samples: &SampleFacts, mut visit: impl FnMut(&Ids)) -> Result<()> {
    let mut batches = read_parquet_stream(store, user_files(samples), Some(vec!["user_id".into()]), 65_536);
    while let Some(batch) = batches.next().await {
        visit(&ids_of(&batch?, samples)?);
    }
    Ok(())
}

/// Calls `visit` with ids and vectors of the users that `keep` says, about `block` at a time, in the order of the rows.
pub async fn each_user_block(
    store: &Store,
    samples: &SampleFacts,
    tower: &impl UserTower,
    block: usize,
    mut keep: impl FnMut(&Ids, usize) -> bool,
    mut visit: impl FnMut(&Ids, &[f32]) -> Result<()>,
) -> Result<()> {
    let mut columns = tower.columns();
    if !columns.iter().any(|column| column == "user_id") {
        columns.push("user_id".into());
    }
    let mut batches = read_parquet_stream(store, user_files(samples), Some(columns), block.clamp(1, 8192));
    let (mut rows, mut count) = (Vec::new(), 0);
    let mut ids = Ids::new(samples.user_id_type);
    let mut flush = |rows: &mut Vec<RecordBatch>, ids: &mut Ids| -> Result<()> {
        visit(ids, &tower.vectors(rows)?)?;
        (*rows, *ids) = (Vec::new(), Ids::new(samples.user_id_type));
        Ok(())
    };
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let found = ids_of(&batch, samples)?;
        let kept: BooleanArray = (0..found.len()).map(|at| Some(keep(&found, at))).collect();
        let kept = filter_record_batch(&batch, &kept)
            .map_err(|error| crate::error::Error::internal("cannot filter user_features").caused_by(error))?;
        if kept.num_rows() == 0 {
            continue;
        }
        ids.extend_from(table::column(&kept, "user_features", "user_id")?, "user_features.user_id")?;
        count += kept.num_rows();
        rows.push(kept);
        if count >= block {
            flush(&mut rows, &mut ids)?;
            count = 0;
        }
    }
    if count > 0 {
        flush(&mut rows, &mut ids)?;
    }
    Ok(())
}
