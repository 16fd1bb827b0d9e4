//! The input rows of a tower, and the way of their gradients back to the tables.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::Dense;
use super::dense::LearnedAttention;
use crate::config::{Combine, Pooling};
use crate::error::Result;
use crate::features::{BatchColumn, FeatureBatch, TowerSpec};
use crate::kernels::pooling::{self, Attention, Bag, BagGradient, gather};
use crate::kernels::tables::EmbeddingTable;

/// Rows per parallel piece.
const ROWS_PER_PIECE: usize = 64;

/// Makes input rows; keeps its memory from batch to batch, and what the way back needs of the last one.
#[derive(Debug, Default)]
pub struct Input {
    /// [rows, features * width], before a sum.
    apart: Vec<f32>,
    /// By feature.
    attended: Vec<Option<Attended>>,
}

/// A batch's pass through attention pooling.
#[derive(Debug)]
struct Attended {
    learned: LearnedAttention,
    /// One for each id of the batch, as is the gradient by the scores behind them.
    shares: Vec<f32>,
    d_scores: Vec<f32>,
}

impl Input {
    /// The input [rows, `tower.width`] of a batch.
    pub fn rows(
        &mut self,
        tower: &TowerSpec,
        dense: &Dense,
        tables: &BTreeMap<String, EmbeddingTable>,
        batch: &FeatureBatch,
    ) -> Result<Vec<f32>> {
        self.attend(tower, dense, tables, batch)?;
        let attended = &self.attended;
        let mut out = vec![0.0; batch.rows * tower.width];
        match tower.combine {
            Combine::Concat => {
                fill(tower, tables, batch, attended, &mut out, tower.width, |at| tower.features[at].offset)
            }
            Combine::Sum => {
                let stride = tower.width * tower.features.len();
                self.apart.clear();
                self.apart.resize(batch.rows * stride, 0.0);
                fill(tower, tables, batch, attended, &mut self.apart, stride, |at| at * tower.width);
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
        Ok(out)
    }

    fn attend(
        &mut self,
        tower: &TowerSpec,
        dense: &Dense,
        tables: &BTreeMap<String, EmbeddingTable>,
        batch: &FeatureBatch,
    ) -> Result<()> {
        self.attended.clear();
        for ((learned, feature), column) in dense.attention()?.into_iter().zip(&tower.features).zip(&batch.columns) {
            self.attended.push(match (learned, column, feature.encoding.table()) {
                (Some(learned), BatchColumn::Bag { offsets, ids, weights }, Some(table)) => {
                    let shares = learned.kernel().shares(&tables[table], bag(offsets, ids, weights));
                    Some(Attended { learned, shares, d_scores: Vec::new() })
                }
                _ => None,
            });
        }
        Ok(())
    }

    /// Goes back through attention pooling from `grad` [rows, `tower.width`], the gradient of the last batch's input rows: the
    /// gradients of what each feature's has learned, weight and bias, in the order of the features.
    pub fn attention_gradients(
        &mut self,
        tower: &TowerSpec,
        tables: &BTreeMap<String, EmbeddingTable>,
        batch: &FeatureBatch,
        grad: &[f32],
    ) -> Vec<Vec<f32>> {
        let mut gradients = Vec::new();
        for ((attended, feature), column) in self.attended.iter_mut().zip(&tower.features).zip(&batch.columns) {
            let (Some(attended), BatchColumn::Bag { offsets, ids, weights }) = (attended, column) else { continue };
            let Some(table) = feature.encoding.table() else { continue };
            let source = BagGradient {
                bag: bag(offsets, ids, weights),
                pooling: pooling::Pooling::Sum,
                grad,
                stride: tower.width,
                col_offset: feature.offset,
            };
            let found = attended.learned.kernel().backward(&tables[table], &attended.shares, &source);
            attended.d_scores = found.scores;
            gradients.extend([found.weight, found.bias]);
        }
        gradients
    }

    /// The bags that read `table`, in the order of [`Input::table_gradients`], without weights.
    pub fn table_bags<'a>(&'a self, tower: &TowerSpec, batch: &'a FeatureBatch, table: &str) -> Vec<Bag<'a>> {
        let sources = self.table_gradients(tower, batch, table, &[]);
        sources.into_iter().map(|source| Bag { weights: None, ..source.bag }).collect()
    }

    /// The bags that read `table`, with `grad` [rows, `tower.width`], the gradient of the input rows of the last batch.
    pub fn table_gradients<'a>(
        &'a self,
        tower: &TowerSpec,
        batch: &'a FeatureBatch,
        table: &str,
        grad: &'a [f32],
    ) -> Vec<BagGradient<'a>> {
        let mut sources = Vec::new();
        for ((feature, column), attended) in tower.features.iter().zip(&batch.columns).zip(&self.attended) {
            let BatchColumn::Bag { offsets, ids, weights } = column else { continue };
            if feature.encoding.table() != Some(table) {
                continue;
            }
            let bag = bag(offsets, ids, weights);
            let pooling = kernel_pooling(feature.encoding.pooling());
            let source = BagGradient { bag, pooling, grad, stride: tower.width, col_offset: feature.offset };
            match attended {
                None => sources.push(source),
                Some(attended) => {
                    sources.push(BagGradient { bag: Bag { weights: Some(&attended.shares), ..bag }, ..source });
                    // through the scores every row gets its part of the one learned weight
                    let by_scores = Bag { weights: Some(&attended.d_scores), ..bag };
                    let grad = &attended.learned.weight;
                    sources.push(BagGradient { bag: by_scores, grad, stride: 0, col_offset: 0, ..source });
                }
            }
        }
        sources
    }
}

impl LearnedAttention {
    fn kernel(&self) -> Attention<'_> {
        Attention { weight: &self.weight, bias: &self.bias }
    }
}

fn fill(
    tower: &TowerSpec,
    tables: &BTreeMap<String, EmbeddingTable>,
    batch: &FeatureBatch,
    attended: &[Option<Attended>],
    out: &mut [f32],
    stride: usize,
    offset: impl Fn(usize) -> usize,
) {
    for (at, (feature, column)) in tower.features.iter().zip(&batch.columns).enumerate() {
        match (column, feature.encoding.table().map(|table| &tables[table])) {
            (BatchColumn::Bag { offsets, ids, weights }, Some(table)) => {
                let weights = attended[at].as_ref().map_or(weights, |attended| &attended.shares);
                gather(
                    table,
                    bag(offsets, ids, weights),
                    kernel_pooling(feature.encoding.pooling()),
                    out,
                    stride,
                    offset(at),
                );
            }
            (BatchColumn::Numbers { width, values }, _) => {
                for (row, values) in out.chunks_exact_mut(stride).zip(values.chunks_exact(*width)) {
                    row[offset(at)..offset(at) + width].copy_from_slice(values);
                }
            }
            (BatchColumn::Bag { .. }, None) => unreachable!("the encoder makes bags only for features with a table"),
        }
    }
}

/// Where no id has a weight all are 1.
fn bag<'a>(offsets: &'a [u32], ids: &'a [u32], weights: &'a [f32]) -> Bag<'a> {
    Bag { offsets, ids, weights: (!weights.is_empty()).then_some(weights) }
}

fn kernel_pooling(pooling: Pooling) -> pooling::Pooling {
    match pooling {
        Pooling::Mean => pooling::Pooling::Mean,
        // its shares stand in the place of weights
        Pooling::Sum | Pooling::Attention => pooling::Pooling::Sum,
        Pooling::Max => pooling::Pooling::Max,
        Pooling::Sqrtn => pooling::Pooling::SqrtN,
    }
}
