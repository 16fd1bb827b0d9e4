//! The files of a model: towers, tables, vocabularies, feature spec, optimizer state.

use std::collections::{BTreeMap, HashMap};

use arrow::array::RecordBatch;
use burn::tensor::Device;

use super::tensors::{self, Named};
use super::{Dense, Weights};
use crate::artifacts::keys;
use crate::error::{Error, Result};
use crate::features::vocabulary::{self, Rows, Vocabulary};
use crate::features::{FeatureSpec, ValueType, Vocabularies};
use crate::kernels::tables::EmbeddingTable;
use crate::storage::{FileEntry, ShardWriter, Store, decode_parquet};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What to do with a file of a model that cannot be used.
const ADVICE: &str = "train the model anew";

/// Writes the files of one folder: a model's, or a checkpoint's.
pub struct Files<'a> {
    store: &'a Store,
    folder: &'a str,
    written: Vec<FileEntry>,
}

impl<'a> Files<'a> {
    pub fn new(store: &'a Store, folder: &'a str) -> Self {
        Files { store, folder, written: Vec::new() }
    }

    /// Towers and tables. The tables go straight from memory to the store, piece by piece.
    pub async fn weights(&mut self, weights: &Weights) -> Result<()> {
        let mut values = weights.user.tensors()?;
        values.extend(weights.item.tensors()?);
        let temperature = [(1.0 / weights.inv_temperature) as f32];
        let mut towers = vec![Named::f32("temperature", &[1], &temperature)];
        towers.extend(values.iter().map(|(name, shape, values)| Named::f32(*name, shape, values)));
        self.tensors(keys::TOWERS, towers).await?;
        let mut tables = Vec::new();
        for (name, table) in &weights.tables {
            tables.push(Named::f32(format!("{name}.accumulator"), &[table.len()], &table.accumulator));
            tables.push(Named::f32(format!("{name}.rows"), &[table.len(), table.dim], &table.rows));
        }
        self.tensors(keys::TABLES, tables).await
    }

    /// What says how the weights are to be used.
    pub async fn spec(&mut self, spec: &FeatureSpec, vocabularies: &Vocabularies) -> Result<()> {
        let mut known = ShardWriter::new(self.store, self.folder, vocabulary::schema(), 0).named(keys::VOCABULARY);
        for (table, vocabulary) in vocabularies {
            for batch in vocabulary::to_arrow(table, vocabulary) {
                known.write(&batch?).await?;
            }
        }
        self.written.extend(known.finish().await?);
        let text = serde_json::to_vec_pretty(spec)
            .map_err(|error| Error::internal("cannot write the spec").caused_by(error))?;
        self.put(keys::FEATURE_SPEC, text, None).await
    }

    /// Tensors as one safetensors file.
    pub async fn tensors(&mut self, name: &str, tensors: Vec<Named<'_>>) -> Result<()> {
        self.written.push(tensors::write(self.store, format!("{}/{name}", self.folder), tensors).await?);
        Ok(())
    }

    /// Copies a file of another folder under its own name.
    pub async fn copy(&mut self, entry: &FileEntry) -> Result<()> {
        let name = entry.key.rsplit('/').next().unwrap_or(&entry.key);
        self.written.push(self.store.copy_file(entry, format!("{}/{name}", self.folder)).await?);
        Ok(())
    }

    /// One small file.
    pub async fn put(&mut self, name: &str, bytes: Vec<u8>, rows: Option<u64>) -> Result<()> {
        self.written.push(self.store.put_file(format!("{}/{name}", self.folder), bytes, rows).await?);
        Ok(())
    }

    /// What was written, in the order of its keys.
    pub fn finish(mut self) -> Vec<FileEntry> {
        self.written.sort_by(|a, b| a.key.cmp(&b.key));
        self.written
    }
}

/// Reads a model as it is used: without what only training needs. `files` are the entries of its manifest.
pub(super) async fn load(
    store: &Store,
    folder: &str,
    files: &[FileEntry],
    device: &Device,
) -> Result<(FeatureSpec, Vocabularies, Weights)> {
    let (spec, vocabularies) = read_spec(store, folder, files).await?;
    let weights = read_weights(store, folder, files, &spec, device, Part::ToUse).await?;
    Ok((spec, vocabularies, weights))
}

/// Reads what [`Files::spec`] wrote.
pub async fn read_spec(store: &Store, folder: &str, files: &[FileEntry]) -> Result<(FeatureSpec, Vocabularies)> {
    let key = |name: &str| format!("{folder}/{name}");
    let checked = async |name: &str| store.get_file(FileEntry::find(files, store, &key(name), ADVICE)?).await;
    let text = checked(keys::FEATURE_SPEC).await?;
    let spec: FeatureSpec = serde_json::from_slice(&text).map_err(|error| {
        Error::config(format!(
            "{} is not a feature spec of this program; {ADVICE}",
            store.url_of(&key(keys::FEATURE_SPEC))
        ))
        .caused_by(error)
    })?;
    let broken = |error: BoxError| {
        let url = store.url_of(&key(keys::VOCABULARY));
        Error::config(format!("{url} is not a readable Parquet file; write it anew")).caused_by(error)
    };
    let (_, batches) = decode_parquet(checked(keys::VOCABULARY).await?).map_err(|error| broken(error.into()))?;
    let vocabularies = read_vocabularies(&spec, batches.map(|batch| batch.map_err(|error| broken(error.into()))))?;
    Ok((spec, vocabularies))
}

/// Which part of the weights' files is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What computes vectors.
    ToUse,
    /// The state of the tables' optimizer too.
    ToTrain,
}

/// Reads what [`Files::weights`] wrote. Every file is read once, as a stream, and held against its entry.
pub async fn read_weights(
    store: &Store,
    folder: &str,
    files: &[FileEntry],
    spec: &FeatureSpec,
    device: &Device,
    part: Part,
) -> Result<Weights> {
    let entry = |name: &str| FileEntry::find(files, store, &format!("{folder}/{name}"), ADVICE);
    let mut towers = tensors::read(store, entry(keys::TOWERS)?, ADVICE, |_| true).await?;
    let mut dense = |tower| Dense::from_values(tower, device, |name, shape| towers.f32(name, shape));
    let (user, item) = (dense(&spec.user)?, dense(&spec.item)?);
    let inv_temperature = 1.0 / f64::from(towers.f32("temperature", &[1])?[0]);
    let wanted = |name: &str| part == Part::ToTrain || !name.ends_with(".accumulator");
    let mut file = tensors::read(store, entry(keys::TABLES)?, ADVICE, wanted).await?;
    let mut tables = BTreeMap::new();
    for (name, table) in &spec.tables {
        let rows = file.f32(&format!("{name}.rows"), &[table.rows, table.dim])?;
        let accumulator = match part {
            Part::ToUse => vec![0.0; table.rows],
            Part::ToTrain => file.f32(&format!("{name}.accumulator"), &[table.rows])?,
        };
        tables.insert(name.clone(), EmbeddingTable { dim: table.dim, rows, accumulator });
    }
    Ok(Weights { tables, user, item, inv_temperature })
}

fn read_vocabularies(spec: &FeatureSpec, batches: impl Iterator<Item = Result<RecordBatch>>) -> Result<Vocabularies> {
    let mut vocabularies = Vocabularies::new();
    for (name, table) in spec.tables.iter().filter(|(_, table)| table.row_hash.is_none()) {
        let rows = match table.value_type {
            ValueType::Bigint => Rows::Int(HashMap::new()),
            ValueType::Varchar => Rows::Text(HashMap::new()),
            ValueType::Bucket | ValueType::Trigram | ValueType::Crossed => continue,
        };
        vocabularies.insert(name.clone(), Vocabulary { unknown_rows: table.unknown_rows, rows });
    }
    for batch in batches {
        vocabulary::extend(&mut vocabularies, &batch?)?;
    }
    for (name, known) in &vocabularies {
        let (found, expected) = (known.len(), spec.tables[name].rows);
        if found != expected {
            return Err(Error::config(format!(
                "vocabulary.parquet has {found} rows for table `{name}`, and feature_spec.json {expected}; the files are of two models"
            )));
        }
        if let Some(row) = known.rows().find(|row| *row as usize >= expected) {
            return Err(Error::config(format!(
                "vocabulary.parquet names row {row} of table `{name}`, which has {expected}; {ADVICE}"
            )));
        }
    }
    Ok(vocabularies)
}
