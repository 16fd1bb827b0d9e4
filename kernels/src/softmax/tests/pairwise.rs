//! The losses with a margin or a sigmoid against their definitions in f64, and those against finite differences.

use super::*;

const LOSSES: [Loss; 6] = [
    Loss::CosineContrastive { margin: 0.1, negative_weight: 30.0 },
    Loss::CosineContrastive { margin: 0.9, negative_weight: 1.0 },
    Loss::Bpr,
    Loss::Triplet { margin: 0.3 },
    Loss::BinaryCrossEntropy { negative_weight: 1.0 },
    Loss::BinaryCrossEntropy { negative_weight: 7.5 },
];

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// -ln sigmoid(x), without loss of digits on either side.
fn minus_ln_sigmoid(x: f64) -> f64 {
    (-x).max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Loss of one negative, and its slopes by the positive's score, by its own, and by inv_temperature.
fn of_negative(loss: Loss, positive: f64, negative: f64, heat: f64) -> (f64, [f64; 3]) {
    let step = |x: f64| if x > 0.0 { 1.0 } else { 0.0 };
    match loss {
        Loss::Softmax => unreachable!(),
        Loss::CosineContrastive { margin, negative_weight } => {
            let (over, weight) = (negative - f64::from(margin), f64::from(negative_weight));
            (weight * over.max(0.0), [0.0, weight * step(over), 0.0])
        }
        Loss::Triplet { margin } => {
            let over = negative - positive + f64::from(margin);
            (over.max(0.0), [-step(over), step(over), 0.0])
        }
        Loss::Bpr => {
            let ahead = positive - negative;
            let slope = -sigmoid(-heat * ahead);
            (minus_ln_sigmoid(heat * ahead), [slope * heat, -slope * heat, slope * ahead])
        }
        Loss::BinaryCrossEntropy { negative_weight } => {
            let (weight, slope) = (f64::from(negative_weight), sigmoid(heat * negative));
            (weight * minus_ln_sigmoid(-heat * negative), [0.0, weight * slope * heat, weight * slope * negative])
        }
    }
}

/// Loss of the positive alone, and its slopes by its score and by inv_temperature.
fn of_positive(loss: Loss, positive: f64, heat: f64) -> (f64, [f64; 2]) {
    match loss {
        Loss::CosineContrastive { .. } => (1.0 - positive, [-1.0, 0.0]),
        Loss::BinaryCrossEntropy { .. } => {
            let slope = -sigmoid(-heat * positive);
            (minus_ln_sigmoid(heat * positive), [slope * heat, slope * positive])
        }
        _ => (0.0, [0.0, 0.0]),
    }
}

fn reference(batch: &Batch, users: &[f64], items: &[f64], heat: f64) -> Reference {
    let (dim, rows) = (batch.dim, batch.rows());
    let inputs = batch.inputs();
    let weight = |row: usize| batch.weights.as_ref().map_or(1.0, |w| f64::from(w[row]));
    let total: f64 = (0..rows).map(weight).sum();
    let mut result = Reference::zeros(users, items);
    for row in 0..rows {
        let (negatives, hardest) = batch.negatives(row, users, items);
        let count = |col: &usize| if hardest.contains(col) { batch.hardest.1 } else { 1.0 };
        let mut counted: Vec<(usize, f64)> = negatives.iter().map(|col| (*col, count(col))).collect();
        let owned = inputs.hard.of(row);
        counted.extend(owned.iter().map(|&col| (col as usize, batch.hard_weight)));
        let mass: f64 = counted.iter().map(|(_, count)| count).sum();
        let share = weight(row) / total;
        let positive = product(users, row, items, row, dim);
        let (mut loss, own) = of_positive(batch.loss, positive, heat);
        let mut slopes = vec![(row, own[0])];
        let mut by_heat = vec![own[1]];
        for (col, count) in counted {
            let negative = product(users, row, items, col, dim);
            let (value, slope) = of_negative(batch.loss, positive, negative, heat);
            loss += count / mass * value;
            slopes.extend([(row, count / mass * slope[0]), (col, count / mass * slope[1])]);
            by_heat.push(count / mass * slope[2]);
        }
        for (col, slope) in slopes {
            for k in 0..dim {
                result.d_users[row * dim + k] += share * slope * items[col * dim + k];
                result.d_items[col * dim + k] += share * slope * users[row * dim + k];
            }
        }
        result.d_inv_temperature += share * by_heat.iter().sum::<f64>();
        result.slope_size += share * by_heat.iter().map(|slope| slope.abs()).sum::<f64>();
        result.loss += share * loss;
        result.row_losses.push(loss);
    }
    result
}

fn agrees(batch: &Batch, name: &str) {
    let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    let slow = reference(batch, &wide(&batch.users), &wide(&batch.items), f64::from(batch.inv_temperature));
    batch.near(&format!("{:?} {name}", batch.loss), &batch.run(), &slow);
}

#[test]
fn the_references_agree_with_finite_differences() {
    for loss in LOSSES {
        let batch = Batch::new(5, 9, 3, 0.3).with_weights().with_hard(4, 3).with_masks(3).with_hardest(2, 4.0);
        let batch = batch.with_loss(loss);
        let users: Vec<f64> = batch.users.iter().map(|&v| f64::from(v)).collect();
        let items: Vec<f64> = batch.items.iter().map(|&v| f64::from(v)).collect();
        let heat = f64::from(batch.inv_temperature);
        let exact = reference(&batch, &users, &items, heat);
        let step = 1e-6;
        let moved = |v: &[f64], k: usize, by: f64| {
            let mut v = v.to_vec();
            v[k] += by;
            v
        };
        let near = |plus: f64, minus: f64, slope: f64| {
            assert!(((plus - minus) / (2.0 * step) - slope).abs() < 1e-7, "{loss:?}");
        };
        for (k, &slope) in exact.d_users.iter().enumerate() {
            let loss = |by| reference(&batch, &moved(&users, k, by), &items, heat).loss;
            near(loss(step), loss(-step), slope);
        }
        for (k, &slope) in exact.d_items.iter().enumerate() {
            let loss = |by| reference(&batch, &users, &moved(&items, k, by), heat).loss;
            near(loss(step), loss(-step), slope);
        }
        let loss = |by| reference(&batch, &users, &items, heat + by).loss;
        near(loss(step), loss(-step), exact.d_inv_temperature);
    }
}

#[test]
fn every_option_of_every_loss_agrees_with_its_reference_alone_and_together() {
    for loss in LOSSES {
        for temperature in [0.02, 0.07, 0.3, 1.0] {
            let plain = || Batch::new(70, 150, 12, temperature).with_loss(loss);
            agrees(&plain(), "plain");
            agrees(&plain().with_log_q(), "a logQ that it does not use");
            agrees(&plain().with_weights(), "weights");
            agrees(&plain().with_hard(40, 4), "hard");
            agrees(&plain().with_masks(9), "masks");
            agrees(&plain().with_all_masked(), "all masked");
            agrees(&plain().with_all_masked().with_hard(40, 4), "only hard");
            agrees(&plain().without_in_batch().with_masks(9), "no in-batch negatives");
            agrees(&plain().with_hardest(1, 3.0), "the hardest");
            agrees(&plain().with_all_masked().with_hardest(2, 3.0), "none to be the hardest");
            let together = plain().with_weights().with_hard(40, 4).with_masks(9).with_hardest(2, 30.0);
            agrees(&together, "together");
            agrees(&together.without_in_batch(), "together without in-batch negatives");
        }
    }
}

#[test]
fn every_shape_agrees_with_its_reference() {
    for loss in LOSSES {
        for (rows, shared, dim) in
            [(1, 1, 8), (1, 2, 1), (2, 700, 5), (63, 63, 7), (64, 64, 64), (65, 1100, 33), (200, 713, 16)]
        {
            let plain = Batch::new(rows, shared, dim, 0.1).with_loss(loss).with_hardest(2, 2.0);
            agrees(&plain, &format!("{rows} x {shared} x {dim}"));
            let all = plain.with_weights().with_hard(9, 3).with_masks(4);
            agrees(&all, &format!("{rows} x {shared} x {dim} with options"));
            agrees(&all.without_in_batch(), &format!("{rows} x {shared} x {dim} without in-batch negatives"));
        }
        let many = Batch::new(900, 950, 4, 0.05).with_loss(loss);
        agrees(&many.with_hard(100, 2).with_masks(2).with_hardest(1, 5.0), "many blocks a task");
    }
}

#[test]
fn a_trained_model_keeps_its_small_gradients() {
    for loss in LOSSES {
        let mut batch = Batch::new(80, 120, 32, 0.05).with_loss(loss);
        // scores of 0.9 or more
        for (item, user) in batch.items.iter_mut().zip(&batch.users) {
            *item = 0.95 * user + 0.05 * *item;
        }
        agrees(&batch, "certain");
        agrees(&batch.with_hard(20, 2), "certain, with hard negatives");
    }
}

#[test]
fn a_row_without_negatives_has_the_loss_of_its_positive_alone() {
    for (loss, expected) in LOSSES.into_iter().zip([0.5, 0.5, 0.0, 0.0, 0.0486, 0.0486]) {
        let mut batch = Batch::new(1, 1, 2, 1.0 / 6.0).with_loss(loss);
        (batch.users, batch.items) = (vec![1.0, 0.0], vec![0.5, 0.75f32.sqrt()]);
        let outputs = batch.run();
        assert!((outputs.loss - expected).abs() < 1e-4, "{loss:?}: {}", outputs.loss);
        assert!(outputs.d_users.iter().all(|g| g.is_finite()));
    }
}

#[test]
fn the_bits_are_the_same_for_any_thread_count_and_for_reused_memory() {
    for loss in LOSSES {
        let batch = Batch::new(1100, 1300, 24, 0.05).with_loss(loss).with_hardest(2, 9.0).with_weights();
        let batch = batch.with_hard(300, 3).with_masks(5);
        let in_pool = |threads: usize, used_before: &Batch| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| {
                let (mut kernel, mut outputs) = (SoftmaxKernel::new(), SoftmaxOutputs::default());
                kernel.run(&used_before.inputs(), &mut outputs);
                kernel.run(&batch.inputs(), &mut outputs);
                outputs
            })
        };
        let one = in_pool(1, &batch);
        for (threads, loss) in [(2, Loss::Softmax), (5, Loss::Bpr)] {
            let many = in_pool(threads, &Batch::new(100, 2000, 40, 0.5).with_loss(loss).without_in_batch());
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(one.loss.to_bits(), many.loss.to_bits());
            assert_eq!(one.d_inv_temperature.to_bits(), many.d_inv_temperature.to_bits());
            assert!(bits(&one.row_losses) == bits(&many.row_losses));
            assert!(bits(&one.d_users) == bits(&many.d_users) && bits(&one.d_items) == bits(&many.d_items));
        }
    }
}

#[test]
fn a_nan_in_a_user_shows_in_its_row_and_never_as_a_number() {
    for loss in LOSSES {
        let mut batch = Batch::new(70, 90, 8, 0.1).with_loss(loss).with_hardest(2, 3.0);
        batch.users[66 * 8] = f32::NAN;
        let losses = batch.run().row_losses;
        let bad: Vec<usize> = (0..70).filter(|&row| losses[row].is_nan()).collect();
        assert_eq!(bad, [66], "{loss:?}");
    }
}
