//! The published index, as a service uses it.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use bytes::Bytes;

use super::faiss::Faiss;
use crate::artifacts::{IdType, Ids, keys};
use crate::error::{Context, Error, Result};
use crate::retrieval::{IdNumbers, table};
use crate::storage::{FileEntry, Store, decode_parquet};

/// An index and the ids of its positions.
pub struct SearchIndex {
    index: Faiss,
    ids: Ids,
    /// By place in the index, the position that is told for it, where that is another one.
    positions: Option<Vec<u32>>,
}

impl SearchIndex {
    /// Loads the index in `folder`. `files` are its manifest's (or release's) entries: each file is held against its SHA-256 before
    /// it is read. `parameters` as in `nprobe=16`.
    pub async fn load(store: &Store, folder: &str, files: &[FileEntry], parameters: &str) -> Result<Self> {
        let (mut index, ids) = load_files(store, folder, files).await?;
        index.set_parameters(parameters)?;
        Ok(SearchIndex { index, ids, positions: None })
    }

    /// The same with the positions that its items have among `ids`; none where these are not the same items. An index that was updated
    /// has an order of its own.
    pub fn in_order_of(mut self, ids: &Ids) -> Option<Self> {
        if self.ids != *ids {
            let numbers = IdNumbers::of(ids);
            let positions: Vec<u32> = (0..self.ids.len()).map_while(|place| numbers.get(&self.ids, place)).collect();
            let mut there = vec![false; ids.len()];
            positions.iter().for_each(|position| there[*position as usize] = true);
            if positions.len() != self.ids.len() || there.len() != positions.len() || there.contains(&false) {
                return None;
            }
            self.ids.clone_from(ids);
            self.positions = Some(positions);
        }
        Some(self)
    }

    /// The best `k` items of each of `[n, dim]` queries: scores and positions `[n, k]`, best first. A position is -1 where the
    /// index found no more.
    pub fn search(&self, queries: &[f32], k: usize) -> Result<(Vec<f32>, Vec<i64>)> {
        let (scores, mut found) = self.index.search(queries, k)?;
        if let Some(positions) = &self.positions {
            let position = |place: i64| usize::try_from(place).ok().map_or(-1, |place| i64::from(positions[place]));
            found.iter_mut().for_each(|place| *place = position(*place));
        }
        Ok((scores, found))
    }

    /// The item id of each position.
    pub fn item_ids(&self) -> &Ids {
        &self.ids
    }

    pub fn dim(&self) -> usize {
        self.index.dim()
    }
}

/// The index in `folder` and the ids of its places, each file held against its entry.
pub async fn load_files(store: &Store, folder: &str, files: &[FileEntry]) -> Result<(Faiss, Ids)> {
    let entry = |name| FileEntry::find(files, store, &format!("{folder}/{name}"), "build the index again");
    let (vectors, ids) = (entry(keys::FAISS)?, entry(keys::ITEM_IDS)?);
    let ids_url = store.url_of(&ids.key);
    let ids = read_ids(store.get_file(ids).await?).while_(|| format!("reading {ids_url}"))?;

    let url = store.url_of(&vectors.key);
    let local = tempfile::NamedTempFile::new().map_err(|error| {
        Error::config("cannot make a temporary file; set TMPDIR to a writable folder").caused_by(error)
    })?;
    let (size, sha256) = store.get_to_file(&vectors.key, local.path()).await?;
    vectors.compare(&url, size, &sha256)?;
    let index = Faiss::load(local.path()).map_err(|error| {
        Error::config(format!("{url} is not an index that faiss can read; build it again")).caused_by(error)
    })?;
    if index.len() != ids.len() {
        return Err(Error::config(format!(
            "{url} has {} vectors and {ids_url} {} ids; build the index again",
            index.len(),
            ids.len()
        )));
    }
    Ok((index, ids))
}

pub(super) fn read_ids(bytes: Bytes) -> Result<Ids> {
    let broken = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::config("it is not a readable Parquet file; build the index again").caused_by(error)
    };
    let (schema, batches) = decode_parquet(bytes).map_err(|error| broken(error.into()))?;
    let id_type = match schema.field_with_name("item_id").map(|field| field.data_type()) {
        Ok(DataType::Int64) => IdType::Bigint,
        _ => IdType::Varchar,
    };
    let mut ids = Ids::new(id_type);
    for batch in batches {
        let batch = batch.map_err(|error| broken(error.into()))?;
        let positions = table::column(&batch, "item_ids", "position")?;
        let ordered = *positions.data_type() == DataType::Int64
            && positions
                .as_primitive::<Int64Type>()
                .values()
                .iter()
                .zip(ids.len() as i64..)
                .all(|(found, next)| *found == next);
        if !ordered || positions.null_count() > 0 {
            return Err(Error::config("its positions are not 0, 1, 2 …; build the index again"));
        }
        ids.extend_from(table::column(&batch, "item_ids", "item_id")?, "item_ids.item_id")?;
    }
    Ok(ids)
}
