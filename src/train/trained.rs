//! What a training leaves, read back to go on from: by a checkpoint's successor, and by a later day's start from its parent.

use burn::tensor::Device;

use super::optimizer::Optimizers;
use crate::artifacts::keys;
use crate::config::Training;
use crate::error::Result;
use crate::features::FeatureSpec;
use crate::model::{Part, Weights, read_weights};
use crate::storage::{FileEntry, Store};

/// Weights, to the bit, with the state of their optimizers.
pub struct Trained {
    pub weights: Weights,
    pub optimizers: Optimizers,
}

impl Trained {
    /// Reads the folder of a model or of a checkpoint that was trained with `spec`, each file held against its entry in
    /// `files`. Tables are read as streams: memory holds them once.
    ///
    /// # Errors
    /// A file that is missing, damaged, of other shapes than `spec` has, or without the state that
    /// `training.table_optimizer` needs.
    pub async fn read(
        store: &Store,
        folder: &str,
        files: &[FileEntry],
        spec: &FeatureSpec,
        training: &Training,
        device: &Device,
    ) -> Result<Trained> {
        let mut weights = read_weights(store, folder, files, spec, device, Part::ToTrain).await?;
        let entry = FileEntry::find(files, store, &format!("{folder}/{}", keys::OPTIMIZER), "train the model anew")?;
        let optimizers = Optimizers::read(store, entry, training, &mut weights).await?;
        Ok(Trained { weights, optimizers })
    }
}
