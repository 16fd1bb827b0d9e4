//! Dropout that is a function of its seed.

use burn::tensor::{Device, Tensor, TensorData};

use crate::kernels::tables::{EmbeddingTable, RowInit};

/// Sets hidden values to zero while training; which ones is a function of the seed alone.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    pub share: f64,
    pub seed: u64,
}

impl Dropout {
    /// Zeros, and the inverse of the kept share elsewhere.
    pub(super) fn mask(&self, layer: usize, rows: usize, cols: usize, device: &Device) -> Tensor<2> {
        // uniform in (-1, 1), as a function of seed, row and column
        let init = RowInit { seed: self.seed ^ (layer as u64 + 1) << 56, scale: 1.0, accumulator: 0.0 };
        let mut mask = EmbeddingTable::new(rows, cols, &init).rows;
        let (limit, kept) = ((self.share * 2.0 - 1.0) as f32, (1.0 / (1.0 - self.share)) as f32);
        mask.iter_mut().for_each(|value| *value = if *value < limit { 0.0 } else { kept });
        Tensor::from_data(TensorData::new(mask, [rows, cols]), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropout_keeps_its_share_and_the_mean() {
        let mask = Dropout { share: 0.25, seed: 3 }
            .mask(0, 200, 50, &Device::flex())
            .into_data()
            .try_into_vec::<f32>()
            .unwrap();
        let zeros = mask.iter().filter(|value| **value == 0.0).count() as f64 / mask.len() as f64;
        assert!((zeros - 0.25).abs() < 0.02, "{zeros}");
        assert!((mask.iter().sum::<f32>() / mask.len() as f32 - 1.0).abs() < 0.03);
    }
}
