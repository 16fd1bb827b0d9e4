//! `training.vector_decay`: the L2 penalty on the vectors of a batch, as often as its loss compares them.

use super::batches::Batch;
use crate::config::Training;
use crate::kernels::math::add_scaled;
use crate::kernels::softmax::Csr;

/// Adds the penalty's gradient to that of the loss; each side is its vectors and their gradient, [rows, dim].
pub fn add(
    training: &Training,
    batch: &Batch,
    dim: usize,
    (users, d_users): (&[f32], &mut [f32]),
    (items, d_items): (&[f32], &mut [f32]),
) {
    let (of_users, of_items) = counts(training, batch, items.len() / dim);
    for (counts, vectors, gradients) in [(of_users, users, d_users), (of_items, items, d_items)] {
        let vectors = vectors.chunks_exact(dim).zip(gradients.chunks_exact_mut(dim));
        for (count, (vector, gradient)) in counts.into_iter().zip(vectors) {
            add_scaled(gradient, (training.vector_decay * count) as f32, vector);
        }
    }
}

/// How often the mean loss of a batch compares each user's vector, and that of each of its `columns` items.
fn counts(training: &Training, batch: &Batch, columns: usize) -> (Vec<f64>, Vec<f64>) {
    let (rows, shared) = (batch.rows.len(), batch.log_q.len());
    let (masked, hard) = (Csr::from(&batch.masked), Csr::from(&batch.hard));
    let weight = |row: usize| batch.weights.as_ref().map_or(1.0, |weights| f64::from(weights[row]));
    let total: f64 = (0..rows).map(weight).sum();
    let first = if batch.in_batch { 0 } else { rows };
    let negative = |column: &u32| *column as usize >= first && batch.log_q[*column as usize] != f32::INFINITY;
    let negatives = (0..shared as u32).filter(negative).count();
    let (mut of_users, mut of_items) = (vec![0.0; rows], vec![0.0; columns]);
    // what each negative counts for to all rows together, but for those that leave it out
    let mut to_all = 0.0;
    for (row, of_user) in of_users.iter_mut().enumerate() {
        let share = if total > 0.0 { weight(row) / total } else { 0.0 };
        let own = batch.positives[row];
        *of_user += share;
        of_items[own as usize] += share;
        let left_out = masked.of(row).iter().chain([&own]).copied().filter(negative);
        let hard = hard.of(row);
        let mass = (negatives - left_out.clone().count()) as f64 + hard.len() as f64 * training.hard_weight;
        if mass > 0.0 {
            let share = share * training.loss.negative_weight();
            *of_user += share;
            to_all += share / mass;
            left_out.for_each(|column| of_items[column as usize] -= share / mass);
            hard.iter().for_each(|column| of_items[*column as usize] += share / mass * training.hard_weight);
        }
    }
    (0..shared as u32).filter(negative).for_each(|column| of_items[column as usize] += to_all);
    (of_users, of_items)
}
