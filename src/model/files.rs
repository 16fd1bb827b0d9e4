//! The files of a model: towers, tables, vocabularies, feature spec, optimizer state.

use std::collections::{BTreeMap, HashMap};

use arrow::array::RecordBatch;
use burn::tensor::Device;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

use super::dense::Layer;
use super::towers::read;
use super::{Dense, Weights};
use crate::artifacts::keys;
use crate::error::{Error, Result};
use crate::features::vocabulary::{self, Rows, Vocabulary};
use crate::features::{FeatureSpec, LayerSpec, ValueType, Vocabularies};
use crate::kernels::tables::EmbeddingTable;
use crate::storage::{FileEntry, Store, decode_parquet, encode_parquet};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Writes the files of one model folder.
pub struct Files<'a> {
    store: &'a Store,
    folder: &'a str,
    written: Vec<FileEntry>,
}

/// Named f32 tensors with their shapes.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

impl<'a> Files<'a> {
    pub fn new(store: &'a Store, folder: &'a str) -> Self {
        Files { store, folder, written: Vec::new() }
    }

    /// Everything that [`super::Towers::load`] reads.
    pub async fn model(&mut self, spec: &FeatureSpec, vocabularies: &Vocabularies, weights: &Weights) -> Result<()> {
        let mut towers = Tensors::new();
        for (layers, dense) in [(&spec.user.layers, &weights.user), (&spec.item.layers, &weights.item)] {
            for (layer, values) in layers.iter().zip(&dense.layers) {
                towers.insert(layer.weight.clone(), (vec![layer.inputs, layer.outputs], read(values.weight.clone())?));
                towers.insert(layer.bias.clone(), (vec![layer.outputs], read(values.bias.clone())?));
            }
        }
        towers.insert("temperature".into(), (vec![1], vec![(1.0 / weights.inv_temperature) as f32]));
        self.tensors(keys::TOWERS, &towers).await?;
        let mut tables = Vec::new();
        for (name, table) in &weights.tables {
            tables.push((format!("{name}.accumulator"), vec![table.len()], bytes_of(&table.accumulator)));
            tables.push((format!("{name}.rows"), vec![table.len(), table.dim], bytes_of(&table.rows)));
        }
        let bytes = safetensors_bytes(tables)?;
        self.put(keys::TABLES, bytes, None).await?;
        let (bytes, rows) = vocabulary_bytes(vocabularies)?;
        self.put(keys::VOCABULARY, bytes, Some(rows)).await?;
        let text = serde_json::to_vec_pretty(spec)
            .map_err(|error| Error::internal("cannot write the spec").caused_by(error))?;
        self.put(keys::FEATURE_SPEC, text, None).await
    }

    /// Tensors as one safetensors file.
    pub async fn tensors(&mut self, name: &str, tensors: &Tensors) -> Result<()> {
        let views = tensors.iter().map(|(name, (shape, values))| (name.clone(), shape.clone(), bytes_of(values)));
        let bytes = safetensors_bytes(views.collect())?;
        self.put(name, bytes, None).await
    }

    /// What was written, in the order of its keys.
    pub fn finish(mut self) -> Vec<FileEntry> {
        self.written.sort_by(|a, b| a.key.cmp(&b.key));
        self.written
    }

    async fn put(&mut self, name: &str, bytes: Vec<u8>, rows: Option<u64>) -> Result<()> {
        self.written.push(self.store.put_file(format!("{}/{name}", self.folder), bytes, rows).await?);
        Ok(())
    }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn safetensors_bytes(tensors: Vec<(String, Vec<usize>, Vec<u8>)>) -> Result<Vec<u8>> {
    let failed = |error: safetensors::SafeTensorError| Error::internal("cannot write safetensors").caused_by(error);
    let mut views = Vec::new();
    for (name, shape, bytes) in &tensors {
        views.push((name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(failed)?));
    }
    serialize(views, None).map_err(failed)
}

fn vocabulary_bytes(vocabularies: &Vocabularies) -> Result<(Vec<u8>, u64)> {
    let batches = vocabularies.iter().map(|(table, known)| vocabulary::to_arrow(table, known));
    let batches = batches.collect::<Result<Vec<_>>>()?;
    let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    let bytes = encode_parquet(vocabulary::schema(), &batches)
        .map_err(|error| Error::internal("cannot encode the vocabulary").caused_by(error))?;
    Ok((bytes, rows))
}

/// Reads what [`Files::model`] wrote, without the accumulators. `files` are the entries of its manifest.
pub(super) async fn load(
    store: &Store,
    folder: &str,
    files: &[FileEntry],
    device: &Device,
) -> Result<(FeatureSpec, Vocabularies, Weights)> {
    let key = |name: &str| format!("{folder}/{name}");
    let checked =
        async |name: &str| store.get_file(FileEntry::find(files, store, &key(name), "train the model anew")?).await;
    let text = checked(keys::FEATURE_SPEC).await?;
    let spec: FeatureSpec = serde_json::from_slice(&text).map_err(|error| {
        Error::config(format!(
            "{} is not a feature spec of this program; train the model anew",
            store.url_of(&key(keys::FEATURE_SPEC))
        ))
        .caused_by(error)
    })?;
    let broken = |error: BoxError| {
        let url = store.url_of(&key(keys::VOCABULARY));
        Error::config(format!("{url} is not a readable Parquet file; write it anew")).caused_by(error)
    };
    let batches = decode_parquet(checked(keys::VOCABULARY).await?).map_err(|error| broken(error.into()))?;
    let batches = batches.collect::<Result<Vec<_>, _>>().map_err(|error| broken(error.into()))?;
    let vocabularies = read_vocabularies(&spec, &batches)?;
    let towers = checked(keys::TOWERS).await?;
    let towers = Reader::new(&towers, store.url_of(&key(keys::TOWERS)))?;
    let dense = |layers: &[LayerSpec]| -> Result<Dense> {
        let layer = |spec: &LayerSpec| {
            let weight = towers.values(&spec.weight, &[spec.inputs, spec.outputs])?;
            Ok(Layer::new(spec, weight, towers.values(&spec.bias, &[spec.outputs])?, device))
        };
        Ok(Dense { layers: layers.iter().map(layer).collect::<Result<_>>()? })
    };
    let (user, item) = (dense(&spec.user.layers)?, dense(&spec.item.layers)?);
    let inv_temperature = 1.0 / f64::from(towers.values("temperature", &[1])?[0]);
    let bytes = checked(keys::TABLES).await?;
    let file = Reader::new(&bytes, store.url_of(&key(keys::TABLES)))?;
    let mut tables = BTreeMap::new();
    for (name, table) in &spec.tables {
        let rows = file.values(&format!("{name}.rows"), &[table.rows, table.dim])?;
        tables.insert(name.clone(), EmbeddingTable { dim: table.dim, rows, accumulator: vec![0.0; table.rows] });
    }
    Ok((spec, vocabularies, Weights { tables, user, item, inv_temperature }))
}

fn read_vocabularies(spec: &FeatureSpec, batches: &[RecordBatch]) -> Result<Vocabularies> {
    let mut vocabularies = Vocabularies::new();
    for (name, table) in &spec.tables {
        let rows = match table.value_type {
            ValueType::Bigint => Rows::Int(HashMap::new()),
            ValueType::Varchar => Rows::Text(HashMap::new()),
            ValueType::Bucket => continue,
        };
        vocabularies.insert(name.clone(), Vocabulary { unknown_rows: table.unknown_rows, rows });
    }
    batches.iter().try_for_each(|batch| vocabulary::extend(&mut vocabularies, batch))?;
    for (name, known) in &vocabularies {
        let (found, expected) = (known.len(), spec.tables[name].rows);
        if found != expected {
            return Err(Error::config(format!(
                "vocabulary.parquet has {found} rows for table `{name}`, and feature_spec.json {expected}; the files are of two models"
            )));
        }
    }
    Ok(vocabularies)
}

/// A safetensors file.
struct Reader<'a> {
    tensors: SafeTensors<'a>,
    url: String,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8], url: String) -> Result<Self> {
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|error| Error::config(format!("{url} is damaged; train the model anew")).caused_by(error))?;
        Ok(Reader { tensors, url })
    }

    fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let tensor = self
            .tensors
            .tensor(name)
            .map_err(|error| Error::config(format!("{} has no tensor `{name}`", self.url)).caused_by(error))?;
        if tensor.shape() != shape || tensor.dtype() != Dtype::F32 {
            return Err(Error::config(format!(
                "{}: tensor `{name}`: found {:?} {:?}, expected F32 {shape:?}, as in feature_spec.json",
                self.url,
                tensor.dtype(),
                tensor.shape()
            )));
        }
        let (values, _) = tensor.data().as_chunks::<4>();
        Ok(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
    }
}
