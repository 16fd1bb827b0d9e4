//! Both towers, ready to be asked.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use burn::tensor::{Device, Tensor, TensorData};

use super::{Dense, Input, files};
use crate::error::{Error, Result};
use crate::features::{Encoded, Encoder, FeatureBatch, FeatureSpec, Side, TowerSpec, Vocabularies, item_biases};
use crate::kernels::layers::LayersKernel;
use crate::kernels::math::normalize_rows;
use crate::kernels::tables::{EmbeddingTable, RowInit};
use crate::storage::{FileEntry, Store};

/// A norm below this counts as 1, so that a vector of zeros stays one.
pub const NORM_EPSILON: f32 = 1e-12;

/// Rows that go through a tower together.
const ROWS: usize = 4096;

/// Everything that training changes.
#[derive(Clone, Debug)]
pub struct Weights {
    pub tables: BTreeMap<String, EmbeddingTable>,
    pub user: Dense,
    pub item: Dense,
    /// 1 / temperature.
    pub inv_temperature: f64,
}

impl Weights {
    /// Fresh ones. Unknown rows start at zero: until something rare was seen they say nothing.
    pub fn new(spec: &FeatureSpec, seed: u64, temperature: f64, device: &Device) -> Self {
        let tables = spec.tables.iter().zip(1u64..).map(|((name, table), salt)| {
            let init = RowInit::usual(table.dim, seed ^ (salt << 48));
            let mut fresh = EmbeddingTable::new(table.rows, table.dim, &init);
            fresh.rows[..table.unknown_rows * table.dim].fill(0.0);
            (name.clone(), fresh)
        });
        Weights {
            tables: tables.collect(),
            user: Dense::new(&spec.user, seed ^ (1 << 40), device),
            item: Dense::new(&spec.item, seed ^ (2 << 40), device),
            inv_temperature: 1.0 / temperature,
        }
    }

    /// Vectors [rows, dim] of a batch, normalised where the model does.
    pub fn vectors(&self, spec: &FeatureSpec, side: Side, batch: &FeatureBatch, device: &Device) -> Result<Vec<f32>> {
        let (tower, dense) = self.side(spec, side);
        let input = Input::default().rows(tower, dense, &self.tables, batch)?;
        let mut vectors = if dense.is_empty() {
            input
        } else if let Some(layers) = dense.plain_layers()? {
            LayersKernel::new().forward(&layers, &input)
        } else {
            let input = Tensor::<2>::from_data(TensorData::new(input, [batch.rows, tower.width]), device);
            read(dense.forward(input))?
        };
        if spec.normalize {
            normalize_rows(&mut vectors, spec.dim, NORM_EPSILON, &mut vec![0.0; batch.rows]);
        }
        Ok(vectors)
    }

    /// The same of encoded rows.
    pub fn vectors_of(
        &self,
        spec: &FeatureSpec,
        side: Side,
        from: &Encoded,
        rows: &[u32],
        device: &Device,
    ) -> Result<Vec<f32>> {
        let mut vectors = Vec::with_capacity(rows.len() * spec.dim);
        for rows in rows.chunks(ROWS) {
            vectors.extend(self.vectors(spec, side, &from.select(rows, None), device)?);
        }
        Ok(vectors)
    }

    pub fn side<'a>(&'a self, spec: &'a FeatureSpec, side: Side) -> (&'a TowerSpec, &'a Dense) {
        match side {
            Side::User => (&spec.user, &self.user),
            Side::Item => (&spec.item, &self.item),
        }
    }
}

/// A tensor's values, row-major.
pub(crate) fn read(tensor: Tensor<2>) -> Result<Vec<f32>> {
    let read = tensor.into_data().try_into_vec::<f32>();
    read.map_err(|error| Error::internal("cannot read a tensor as f32").caused_by(format!("{error:?}")))
}

/// A trained model, as embedding, evaluation and `recommend` use it.
pub struct Towers {
    spec: FeatureSpec,
    vocabularies: Vocabularies,
    weights: Weights,
    device: Device,
}

impl Towers {
    /// Reads the model in `folder`, each file held against its entry in `files`. It runs on the CPU; training state is
    /// left alone.
    pub async fn load(store: &Store, folder: &str, files: &[FileEntry]) -> Result<Towers> {
        let device = Device::flex();
        let (spec, vocabularies, weights) = files::load(store, folder, files, &device).await?;
        Ok(Towers { spec, vocabularies, weights, device })
    }

    /// A model that is still in memory.
    pub fn new(spec: FeatureSpec, vocabularies: Vocabularies, weights: Weights, device: Device) -> Towers {
        Towers { spec, vocabularies, weights, device }
    }

    pub fn spec(&self) -> &FeatureSpec {
        &self.spec
    }

    /// Dimension of the vectors.
    pub fn dim(&self) -> usize {
        self.spec.vector_dim()
    }

    /// How many numbers of a vector the towers end in: those of norm 1, where they are normalised.
    pub fn learned_dim(&self) -> usize {
        self.spec.dim
    }

    /// Columns that [`Towers::users`] wants of `user_features`, or [`Towers::items`] of `item_features`.
    pub fn feature_columns(&self, side: Side) -> Vec<String> {
        self.spec.columns(side)
    }

    /// User vectors [n, dim] of rows of `user_features`, of norm 1 where the model normalises (or 0 where nothing is known of a user);
    /// then 1, where items have a bias.
    pub fn users(&self, batches: &[RecordBatch]) -> Result<Vec<f32>> {
        self.vectors(Side::User, "user_features", batches)
    }

    /// Item vectors [n, dim] of rows of `item_features`, of norm 1 where the model normalises; then their bias, where they have one.
    pub fn items(&self, batches: &[RecordBatch]) -> Result<Vec<f32>> {
        self.vectors(Side::Item, "item_features", batches)
    }

    fn vectors(&self, side: Side, table: &str, batches: &[RecordBatch]) -> Result<Vec<f32>> {
        let encoder = Encoder::new(&self.spec, side, &self.vocabularies);
        let mut vectors = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum::<usize>() * self.dim());
        for batch in batches {
            let mut encoded = Encoded::default();
            encoder.encode(table, batch, &mut encoded)?;
            let rows: Vec<u32> = (0..encoded.rows as u32).collect();
            let learned = self.weights.vectors_of(&self.spec, side, &encoded, &rows, &self.device)?;
            let Some(bias) = &self.spec.item_bias else {
                vectors.extend(learned);
                continue;
            };
            let last = match side {
                Side::User => vec![1.0; encoded.rows],
                Side::Item => item_biases(bias, table, batch)?,
            };
            for (vector, last) in learned.chunks_exact(self.spec.dim).zip(last) {
                vectors.extend_from_slice(vector);
                vectors.push(last);
            }
        }
        Ok(vectors)
    }
}
