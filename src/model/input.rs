//! The input rows of a tower, and the way of their gradients back to the tables.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::config::{Combine, Pooling};
use crate::features::{BatchColumn, FeatureBatch, TowerSpec};
use crate::kernels::pooling::{self, Bag, BagGradient, gather};
use crate::kernels::tables::EmbeddingTable;

/// Rows per parallel piece.
const ROWS_PER_PIECE: usize = 64;

/// Makes input rows; keeps its memory from batch to batch.
#[derive(Debug, Default)]
pub struct Input {
    /// [rows, features * width], before a sum.
    apart: Vec<f32>,
}

impl Input {
    /// The input [rows, `tower.width`] of a batch.
    pub fn rows(
        &mut self,
        tower: &TowerSpec,
        tables: &BTreeMap<String, EmbeddingTable>,
        batch: &FeatureBatch,
    ) -> Vec<f32> {
        let mut out = vec![0.0; batch.rows * tower.width];
        match tower.combine {
            Combine::Concat => fill(tower, tables, batch, &mut out, tower.width, |at| tower.features[at].offset),
            Combine::Sum => {
                let stride = tower.width * tower.features.len();
                self.apart.clear();
                self.apart.resize(batch.rows * stride, 0.0);
                fill(tower, tables, batch, &mut self.apart, stride, |at| at * tower.width);
                let pieces = out.par_chunks_mut(ROWS_PER_PIECE * tower.width);
                pieces.zip(self.apart.par_chunks(ROWS_PER_PIECE * stride)).for_each(|(out, apart)| {
                    for (out, apart) in out.chunks_exact_mut(tower.width).zip(apart.chunks_exact(stride)) {
                        for part in apart.chunks_exact(tower.width) {
                            out.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
                        }
                    }
                });
            }
        }
        out
    }
}

fn fill(
    tower: &TowerSpec,
    tables: &BTreeMap<String, EmbeddingTable>,
    batch: &FeatureBatch,
    out: &mut [f32],
    stride: usize,
    offset: impl Fn(usize) -> usize,
) {
    for (at, (feature, column)) in tower.features.iter().zip(&batch.columns).enumerate() {
        match (column, feature.encoding.table().map(|table| &tables[table])) {
            (BatchColumn::Bag { offsets, ids }, Some(table)) => {
                let bag = Bag { offsets, ids, weights: None };
                gather(table, bag, kernel_pooling(feature.encoding.pooling()), out, stride, offset(at));
            }
            (BatchColumn::Numbers(numbers), _) => {
                for (row, pair) in out.chunks_exact_mut(stride).zip(numbers.chunks_exact(2)) {
                    row[offset(at)..offset(at) + 2].copy_from_slice(pair);
                }
            }
            (BatchColumn::Bag { .. }, None) => unreachable!("the encoder makes bags only for features with a table"),
        }
    }
}

/// The bags that read `table`, with `grad` [rows, `tower.width`], the gradient of the input rows.
pub fn table_gradients<'a>(
    tower: &TowerSpec,
    batch: &'a FeatureBatch,
    table: &str,
    grad: &'a [f32],
) -> Vec<BagGradient<'a>> {
    let features =
        tower.features.iter().zip(&batch.columns).filter(|(feature, _)| feature.encoding.table() == Some(table));
    let gradient = |(feature, column): (&crate::features::FeatureSpecEntry, &'a BatchColumn)| match column {
        BatchColumn::Bag { offsets, ids } => Some(BagGradient {
            bag: Bag { offsets, ids, weights: None },
            pooling: kernel_pooling(feature.encoding.pooling()),
            grad,
            stride: tower.width,
            col_offset: feature.offset,
        }),
        BatchColumn::Numbers(_) => None,
    };
    features.filter_map(gradient).collect()
}

fn kernel_pooling(pooling: Pooling) -> pooling::Pooling {
    match pooling {
        Pooling::Mean => pooling::Pooling::Mean,
        Pooling::Sum => pooling::Pooling::Sum,
        Pooling::Max => pooling::Pooling::Max,
        Pooling::Sqrtn => pooling::Pooling::SqrtN,
    }
}
