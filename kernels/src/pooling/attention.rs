//! Attention pooling: the rows of a bag summed with learned shares.
//!
//! With `w` of shape `[dim]` and `b` of shape `[positions]`, for the value at place j of its bag (the last position takes all later places):
//!
//! ```text
//! s_j = w . e_j + b_j      a = softmax(s)      pooled = sum a_j e_j
//! ```
//!
//! and, with `g` the gradient of the pooled vector, `ds_j = a_j (g . e_j - sum_k a_k g . e_k)`:
//!
//! ```text
//! de_j = a_j g + ds_j w      dw = sum ds_j e_j      db_j = sum ds_j
//! ```
//!
//! Once the shares are known, pooling is [`Pooling::Sum`](super::Pooling::Sum) with them as weights, and the gradient
//! of the rows that of two such sums: shares with `g`, and `ds` with `w` for every bag.

use rayon::prelude::*;

use super::{BAGS_PER_PIECE, Bag, BagGradient};
use crate::math::{add_scaled, dot, exp2};
use crate::tables::EmbeddingTable;

/// What attention pooling learns.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// `[dim]` of the table.
    pub weight: &'a [f32],
    /// One for each position.
    pub bias: &'a [f32],
}

/// Gradients by the scores and by what is learned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttentionGradients {
    /// One for each id.
    pub scores: Vec<f32>,
    /// `[dim]`.
    pub weight: Vec<f32>,
    /// One for each position.
    pub bias: Vec<f32>,
}

impl Attention<'_> {
    /// The share of each id in its bag; those of a bag add up to 1. The weights of `bag` are not looked at.
    pub fn shares(&self, table: &EmbeddingTable, bag: Bag) -> Vec<f32> {
        self.check(table, &bag);
        let mut shares = vec![0.0; bag.ids.len()];
        pieces(&bag, &mut shares).into_par_iter().for_each(|(bags, shares)| {
            let first = bag.offsets[bags.start] as usize;
            for index in bags {
                let range = bag.range(index);
                let shares = &mut shares[range.start - first..range.end - first];
                for (position, (score, &id)) in shares.iter_mut().zip(&bag.ids[range]).enumerate() {
                    *score = dot(self.weight, table.row(id as usize)) + self.bias[self.position(position)];
                }
                softmax(shares);
            }
        });
        shares
    }

    /// Goes back from the gradient of the pooled vectors; `shares` are those of the forward pass. The pooling that `gradient`
    /// names is not looked at.
    pub fn backward(&self, table: &EmbeddingTable, shares: &[f32], gradient: &BagGradient) -> AttentionGradients {
        let bag = &gradient.bag;
        self.check(table, bag);
        assert_eq!(shares.len(), bag.ids.len(), "want one share for each id");
        let mut scores = vec![0.0; bag.ids.len()];
        let sums: Vec<(Vec<f32>, Vec<f32>)> = pieces(bag, &mut scores)
            .into_par_iter()
            .map(|(bags, scores)| {
                let (mut weight, mut bias) = (vec![0.0; self.weight.len()], vec![0.0; self.bias.len()]);
                let first = bag.offsets[bags.start] as usize;
                for index in bags {
                    let range = bag.range(index);
                    let (ids, shares) = (&bag.ids[range.clone()], &shares[range.clone()]);
                    let scores = &mut scores[range.start - first..range.end - first];
                    let g = gradient.part(index as u32, table.dim);
                    let mut mean = 0.0;
                    for ((score, &share), &id) in scores.iter_mut().zip(shares).zip(ids) {
                        *score = dot(g, table.row(id as usize));
                        mean += share * *score;
                    }
                    for (position, ((score, &share), &id)) in scores.iter_mut().zip(shares).zip(ids).enumerate() {
                        *score = share * (*score - mean);
                        add_scaled(&mut weight, *score, table.row(id as usize));
                        bias[self.position(position)] += *score;
                    }
                }
                (weight, bias)
            })
            .collect();
        let (mut weight, mut bias) = (vec![0.0f64; self.weight.len()], vec![0.0f64; self.bias.len()]);
        for (of_weight, of_bias) in &sums {
            weight.iter_mut().zip(of_weight).for_each(|(sum, part)| *sum += f64::from(*part));
            bias.iter_mut().zip(of_bias).for_each(|(sum, part)| *sum += f64::from(*part));
        }
        let narrow = |sums: Vec<f64>| sums.into_iter().map(|sum| sum as f32).collect();
        let (weight, bias) = (narrow(weight), narrow(bias));
        AttentionGradients { scores, weight, bias }
    }

    fn position(&self, place: usize) -> usize {
        place.min(self.bias.len() - 1)
    }

    fn check(&self, table: &EmbeddingTable, bag: &Bag) {
        bag.check();
        assert!(self.weight.len() == table.dim && !self.bias.is_empty(), "attention of another table");
    }
}

/// The bags of each parallel piece with the part of `values`, one for each id, that is theirs.
fn pieces<'a>(bag: &Bag, mut values: &'a mut [f32]) -> Vec<(std::ops::Range<usize>, &'a mut [f32])> {
    let starts = (0..bag.batch()).step_by(BAGS_PER_PIECE);
    let pieces = starts.map(|start| {
        let bags = start..(start + BAGS_PER_PIECE).min(bag.batch());
        let ids = (bag.offsets[bags.end] - bag.offsets[bags.start]) as usize;
        (bags, values.split_off_mut(..ids).expect("offsets end at the last id"))
    });
    pieces.collect()
}

fn softmax(scores: &mut [f32]) {
    let top = scores.iter().fold(f32::NEG_INFINITY, |top, &score| top.max(score));
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = exp2((*score - top) * std::f32::consts::LOG2_E);
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}
