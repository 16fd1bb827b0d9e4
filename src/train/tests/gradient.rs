//! One step against the loss in f64, from the weights alone: towers, normalisation, softmax, as the formulas say.

use std::collections::BTreeMap;

use super::planted::{AUDIENCE, Planted};
use crate::config::{Activation, Config, LossKind, Pooling};
use crate::features::{BatchColumn, FeatureBatch, LayerSpec, NormalizationSpec, TowerSpec};
use crate::model::{Weights, read};
use crate::train::batches::{Batch, Batches};
use crate::train::data::Data;
use crate::train::random;
use crate::train::step::Trainer;

/// Input rows -> vectors, of norm 1 with `normalized`.
fn tower(
    (spec, normalized): (&TowerSpec, bool),
    dense: &crate::model::Dense,
    tables: &BTreeMap<String, Vec<f64>>,
    dims: &BTreeMap<String, usize>,
    batch: &FeatureBatch,
) -> Vec<Vec<f64>> {
    let tensors = dense.tensors().unwrap().into_iter();
    let named: BTreeMap<String, Vec<f64>> =
        tensors.map(|(name, _, values)| (name.to_string(), values.into_iter().map(f64::from).collect())).collect();
    let mut rows: Vec<Vec<f64>> = (0..batch.rows).map(|row| input(spec, &named, tables, dims, batch, row)).collect();
    if let Some(gating) = &spec.gating {
        for x in &mut rows {
            let blocks = spec.features.iter().map(|feature| feature.offset..feature.offset + feature.width);
            let means: Vec<f64> =
                blocks.clone().map(|block| x[block.clone()].iter().sum::<f64>() / block.len() as f64).collect();
            let squeezed = linear(&gating.squeeze, &named, &means).into_iter().map(|z| z.max(0.0)).collect::<Vec<_>>();
            let factors = linear(&gating.excite, &named, &squeezed).into_iter().map(|z| 2.0 / (1.0 + (-z).exp()));
            blocks.zip(factors).for_each(|(block, factor)| x[block].iter_mut().for_each(|value| *value *= factor));
        }
    }
    for layer in &spec.layers {
        let mut outputs: Vec<Vec<f64>> = rows.iter().map(|x| linear(layer, &named, x)).collect();
        normalize(&mut outputs, layer, &named);
        for (output, x) in outputs.iter_mut().zip(&rows) {
            output.iter_mut().for_each(|z| *z = activated(*z, layer.activation));
            if layer.residual {
                output.iter_mut().zip(x).for_each(|(y, x)| *y += x);
            }
        }
        rows = outputs;
    }
    let norm = |x: &[f64]| if normalized { square(x).sqrt().max(1e-12) } else { 1.0 };
    rows.into_iter().map(|x| x.iter().map(|value| value / norm(&x)).collect()).collect()
}

/// The square of a vector's length.
fn square(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum()
}

fn input(
    spec: &TowerSpec,
    named: &BTreeMap<String, Vec<f64>>,
    tables: &BTreeMap<String, Vec<f64>>,
    dims: &BTreeMap<String, usize>,
    batch: &FeatureBatch,
    row: usize,
) -> Vec<f64> {
    let mut x = vec![0.0; spec.width];
    for (feature, column) in spec.features.iter().zip(&batch.columns) {
        match column {
            BatchColumn::Numbers { width, values } => {
                (0..*width).for_each(|k| x[feature.offset + k] = f64::from(values[row * width + k]));
            }
            BatchColumn::Bag { offsets, ids, weights } => {
                let table = feature.encoding.table().unwrap();
                let dim = dims[table];
                let place = offsets[row] as usize..offsets[row + 1] as usize;
                let bag = &ids[place.clone()];
                let given: Vec<f64> =
                    place.map(|at| weights.get(at).map_or(1.0, |weight| f64::from(*weight))).collect();
                let of = |id: u32| &tables[table][id as usize * dim..(id as usize + 1) * dim];
                let shares: Vec<f64> = match feature.encoding.attention() {
                    None => {
                        let divisor = match feature.encoding.pooling() {
                            Pooling::Mean => given.iter().sum(),
                            Pooling::Sqrtn => square(&given).sqrt(),
                            Pooling::Sum | Pooling::Max | Pooling::Attention => 1.0,
                        };
                        given.iter().map(|weight| if divisor > 0.0 { weight / divisor } else { 0.0 }).collect()
                    }
                    Some(learned) => {
                        let (weight, bias) = (&named[&learned.weight], &named[&learned.bias]);
                        let score = |(place, id): (usize, &u32)| {
                            let product: f64 = of(*id).iter().zip(weight).map(|(e, w)| e * w).sum();
                            (product + bias[place.min(bias.len() - 1)]).exp()
                        };
                        let scores: Vec<f64> = bag.iter().enumerate().map(score).collect();
                        scores.iter().map(|score| score / scores.iter().sum::<f64>()).collect()
                    }
                };
                if feature.encoding.pooling() == Pooling::Max {
                    for k in (0..dim).filter(|_| !bag.is_empty()) {
                        let largest = bag.iter().map(|id| of(*id)[k]).fold(f64::NEG_INFINITY, f64::max);
                        x[feature.offset + k] = largest;
                    }
                    continue;
                }
                for (id, share) in bag.iter().zip(shares) {
                    (0..dim).for_each(|k| x[feature.offset + k] += of(*id)[k] * share);
                }
            }
        }
    }
    x
}

fn linear(layer: &LayerSpec, named: &BTreeMap<String, Vec<f64>>, x: &[f64]) -> Vec<f64> {
    let (weight, bias) = (&named[&layer.weight], &named[&layer.bias]);
    let sum = |out: usize| x.iter().enumerate().map(|(k, x)| x * weight[k * layer.outputs + out]).sum::<f64>();
    (0..layer.outputs).map(|out| sum(out) + bias[out]).collect()
}

fn normalize(rows: &mut [Vec<f64>], layer: &LayerSpec, named: &BTreeMap<String, Vec<f64>>) {
    let moments = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64)
    };
    let (scale, shift) = match &layer.normalization {
        None => return,
        Some(NormalizationSpec::Layer { scale, shift, epsilon }) => {
            for row in rows.iter_mut() {
                let (mean, variance) = moments(row);
                row.iter_mut().for_each(|z| *z = (*z - mean) / (variance + epsilon).sqrt());
            }
            (scale, shift)
        }
        Some(NormalizationSpec::Batch { scale, shift, epsilon, .. }) => {
            for at in 0..layer.outputs {
                let (mean, variance) = moments(&rows.iter().map(|row| row[at]).collect::<Vec<_>>());
                rows.iter_mut().for_each(|row| row[at] = (row[at] - mean) / (variance + epsilon).sqrt());
            }
            (scale, shift)
        }
    };
    for row in rows.iter_mut() {
        row.iter_mut().zip(&named[scale]).zip(&named[shift]).for_each(|((z, scale), shift)| *z = *z * scale + shift);
    }
}

fn activated(z: f64, by: Option<Activation>) -> f64 {
    match by {
        Some(Activation::Relu) => z.max(0.0),
        Some(Activation::LeakyRelu) => z.max(0.01 * z),
        Some(Activation::Tanh) => z.tanh(),
        Some(Activation::Silu) => z / (1.0 + (-z).exp()),
        Some(Activation::Gelu) => z * (1.0 + erf(z / 2f64.sqrt())) / 2.0,
        None => z,
    }
}

/// The error function, by its series around 0: exact enough where the values of towers lie.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..120 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

/// The loss of a batch, and the penalty on its vectors.
fn loss(
    data: &Data,
    config: &Config,
    weights: &Weights,
    tables: &BTreeMap<String, Vec<f64>>,
    batch: &Batch,
) -> (f64, f64) {
    let (training, normalize) = (&config.training, config.model.normalize);
    let dims = weights.tables.iter().map(|(name, table)| (name.clone(), table.dim)).collect();
    let users = tower((&data.spec.user, normalize), &weights.user, tables, &dims, &batch.users);
    let items = tower((&data.spec.item, normalize), &weights.item, tables, &dims, &batch.items);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let softplus = |x: f64| x.exp().ln_1p();
    let list = |csr: &(Vec<u32>, Vec<u32>), row: usize| csr.1[csr.0[row] as usize..csr.0[row + 1] as usize].to_vec();
    let (mut total, mut penalty, mut mass) = (0.0, 0.0, 0.0);
    for row in 0..users.len() {
        let (own, masked, hard) = (batch.positives[row] as usize, list(&batch.masked, row), list(&batch.hard, row));
        let logit = |col: usize| dot(&users[row], &items[col]) * weights.inv_temperature;
        let first = if batch.in_batch { 0 } else { users.len() };
        let shared = (first..batch.log_q.len())
            .filter(|col| *col != own && batch.log_q[*col].is_finite() && !masked.contains(&(*col as u32)));
        let mut negatives: Vec<(usize, f64)> = shared.map(|col| (col, 1.0)).collect();
        negatives.extend(hard.iter().map(|col| (*col as usize, training.hard_weight)));
        let counted: f64 = negatives.iter().map(|(_, count)| count).sum();
        let mean = |of: &dyn Fn(usize) -> f64| {
            training.loss.negative_weight() * negatives.iter().map(|(col, count)| count * of(*col)).sum::<f64>()
                / counted
        };
        let lost = match training.loss.kind {
            LossKind::Softmax => {
                let log_q = |col: usize| batch.log_q.get(col).map_or(0.0, |log_q| f64::from(*log_q));
                let others = negatives.iter().map(|(col, count)| count * (logit(*col) - log_q(*col)).exp());
                let positive = logit(own) - f64::from(batch.positive_log_q[row]);
                (others.sum::<f64>() + positive.exp()).ln() - positive
            }
            LossKind::BinaryCrossEntropy => softplus(-logit(own)) + mean(&|col| softplus(logit(col))),
            other => panic!("no reference for {}", other.name()),
        };
        let weight = batch.weights.as_ref().map_or(1.0, |weights| f64::from(weights[row]));
        total += weight * lost;
        let pairs = square(&users[row]) + square(&items[own]);
        penalty += weight * (pairs + mean(&|col| square(&users[row]) + square(&items[col])));
        mass += weight;
    }
    (total / mass, training.vector_decay / 2.0 * penalty / mass)
}

/// The mean of `1 - s+ + negative_weight * mean max(0, s- - margin)`, with all kinds of negatives.
fn cosine_contrastive(data: &Data, config: &Config, weights: &Weights, batch: &Batch) -> f64 {
    let wide = |rows: &[f32]| rows.iter().map(|v| f64::from(*v)).collect();
    let tables = weights.tables.iter().map(|(name, table)| (name.clone(), wide(&table.rows))).collect();
    let dims = weights.tables.iter().map(|(name, table)| (name.clone(), table.dim)).collect();
    let users = tower((&data.spec.user, true), &weights.user, &tables, &dims, &batch.users);
    let items = tower((&data.spec.item, true), &weights.item, &tables, &dims, &batch.items);
    let list = |csr: &(Vec<u32>, Vec<u32>), row: usize| csr.1[csr.0[row] as usize..csr.0[row + 1] as usize].to_vec();
    let training = &config.training;
    let (mut total, mut mass) = (0.0, 0.0);
    for (row, user) in users.iter().enumerate() {
        let score = |col: usize| user.iter().zip(&items[col]).map(|(a, b)| a * b).sum::<f64>();
        let masked = list(&batch.masked, row);
        let first = if batch.in_batch { 0 } else { users.len() };
        let shared = (first..batch.log_q.len()).filter(|col| *col != row && !masked.contains(&(*col as u32)));
        let mut shared: Vec<f64> = shared.map(score).collect();
        shared.sort_by(|a, b| b.total_cmp(a));
        let count = |rank: usize| if rank < training.online_hard { training.online_hard_weight } else { 1.0 };
        let mut negatives: Vec<(f64, f64)> =
            shared.into_iter().enumerate().map(|(rank, score)| (score, count(rank))).collect();
        negatives.extend(list(&batch.hard, row).iter().map(|col| (score(*col as usize), training.hard_weight)));
        let counted: f64 = negatives.iter().map(|(_, count)| count).sum();
        let over: f64 = negatives.iter().map(|(score, count)| count * (score - training.loss.margin()).max(0.0)).sum();
        let weight = batch.weights.as_ref().map_or(1.0, |weights| f64::from(weights[row]));
        total += weight * (1.0 - score(row) + training.loss.negative_weight() * over / counted);
        mass += weight;
    }
    total / mass
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_another_loss_takes_every_setting_of_its_negatives() {
    let loss = "training.loss={kind: cosine_contrastive, margin: 0.1, negative_weight: 3}";
    let shared = ["model.temperature=0.07", "training.batch_size=24", "training.random_negatives=8", loss];
    for more in [
        ["training.hard_weight=0.5", "training.online_hard=0"],
        ["training.online_hard=2", "training.online_hard_weight=7"],
        ["training.in_batch_negatives=false", "training.hard_weight=4"],
        [AUDIENCE[0], AUDIENCE[1]],
    ] {
        let planted = Planted::new("another-loss", 600, &[&shared[..], &more[..], &AUDIENCE[2..]].concat()).await;
        let config = &planted.job.config;
        let data = Data::load(&planted.job, &planted.samples, None).await.unwrap();
        let mut batches = Batches::new(&data, &config.training);
        batches.start_epoch(1);
        let batch = batches.batch(0);
        let mut trainer = Trainer::new(config, &data.spec, crate::model::device("cpu").unwrap(), 100);
        let expected = cosine_contrastive(&data, config, &trainer.weights, &batch);
        let found = trainer.step(&batch).unwrap();
        assert!((found - expected).abs() < 1e-5, "{more:?}: loss {found}, expected {expected}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_has_the_loss_and_the_gradient_of_the_formulas() {
    check("gradient", &["model.user_tower.activation=tanh"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gelu_is_the_exact_one_and_has_its_gradient() {
    check("gelu", &["model.user_tower.activation=gelu", "model.item_tower.activation=gelu"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pooling_of_a_list_with_weights_and_without_has_the_gradient_of_its_formula() {
    for pooling in ["mean", "sum", "sqrtn", "max"] {
        let pooled = format!("features.user.history.pooling={pooling}");
        check(&format!("pooled-{pooling}"), &[&pooled]).await;
        if pooling != "max" {
            let weighted = "features.user.history.weights=strengths";
            check(&format!("weighted-{pooling}"), &[&pooled, weighted]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attention_gating_normalisation_and_residuals_have_the_gradient_of_their_formulas() {
    let user = "{layers: [12, 12], activation: silu, normalization: layer, residual: true, gating: true}";
    let item = "{layers: [12, 12], activation: leaky_relu, normalization: batch, residual: true, gating: true}";
    let (user, item) = (format!("model.user_tower={user}"), format!("model.item_tower={item}"));
    check("options", &["features.user.history.pooling=attention", &user, &item]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attention_learns_in_a_tower_without_layers_too() {
    let plain = "{combine: sum, layers: []}";
    let (user, item) = (format!("model.user_tower={plain}"), format!("model.item_tower={plain}"));
    let user_features = "features.user={history: {kind: ids, table: item_id, max_length: 3, pooling: attention}}";
    check("summed", &[user_features, "features.item={item_id: {kind: id, dim: 8}}", &user, &item]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_user_in_the_list_of_his_item_a_step_has_the_loss_and_the_gradient_of_the_formulas() {
    check("audience", &AUDIENCE).await;
    check("audience-random", &[&AUDIENCE[..], &["training.in_batch_negatives=false"]].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_any_length_have_the_gradient_of_the_loss_and_of_their_penalty() {
    let free = ["model.normalize=false", "model.temperature=0.8", "training.vector_decay=0.3"];
    let crossed = "training.loss={kind: binary_cross_entropy, negative_weight: 5}";
    check("free-softmax", &free).await;
    check("free-crossed", &[&free[..], &[crossed]].concat()).await;
    let random = ["training.in_batch_negatives=false", "training.hard_weight=4"];
    check("free-random", &[&free[..], &random].concat()).await;
    check("free-crossed-random", &[&free[..], &random, &[crossed]].concat()).await;
    check("free-audience", &[&free[..], &AUDIENCE].concat()).await;
    check("free-undecayed", &[free[0], crossed]).await;
}

async fn check(name: &str, changes: &[&str]) {
    let mut all = vec![
        "training.batch_size=24",
        "training.random_negatives=8",
        "training.hard_weight=0.5",
        "training.clip=0",
        "training.learning_rate.warmup_steps=0",
        "training.weight_decay=0",
    ];
    all.extend(changes);
    let planted = Planted::new(name, 600, &all).await;
    let config = &planted.job.config;
    let data = Data::load(&planted.job, &planted.samples, None).await.unwrap();
    let mut batches = Batches::new(&data, &config.training);
    batches.start_epoch(1);
    let batch = batches.batch(0);
    let mut trainer = Trainer::new(config, &data.spec, crate::model::device("cpu").unwrap(), 100);
    // away from where parameters start, so that none has a gradient of zero by its place
    let Weights { user, item, .. } = &mut trainer.weights;
    for (at, parameter) in user.parameters_mut().chain(item.parameters_mut()).enumerate() {
        let [rows, cols] = parameter.dims();
        let noise = (0..rows * cols).map(|k| random::unit(random::bits(3, &[at as u64, k as u64])) as f32 * 0.4 - 0.2);
        let noise = crate::train::optimizer::tensor(noise.collect(), cols, &parameter.device());
        *parameter = parameter.clone() + noise;
    }
    let before = trainer.weights.clone();
    let tables: BTreeMap<String, Vec<f64>> = before
        .tables
        .iter()
        .map(|(name, table)| (name.clone(), table.rows.iter().map(|v| f64::from(*v)).collect()))
        .collect();
    let found = trainer.step(&batch).unwrap();
    let (expected, _) = loss(&data, config, &before, &tables, &batch);
    let objective = |weights: &Weights, tables: &BTreeMap<String, Vec<f64>>| {
        let (loss, penalty) = loss(&data, config, weights, tables, &batch);
        loss + penalty
    };
    assert!((found - expected).abs() < 1e-5, "loss {found}, expected {expected}");
    // row-wise Adagrad's first step is learning_rate * g / rms(g): its direction is that of the gradient
    let rate = config.training.learning_rate.tables;
    let mut checked = 0;
    for (name, table) in &trainer.weights.tables {
        for row in 0..table.len() {
            let moved: Vec<f64> =
                (0..table.dim).map(|k| f64::from(before.tables[name].row(row)[k] - table.row(row)[k])).collect();
            if moved.iter().all(|v| *v == 0.0) || !random::bits(1, &[row as u64]).is_multiple_of(4) {
                continue;
            }
            let gradient: Vec<f64> = (0..table.dim)
                .map(|k| {
                    let at = row * table.dim + k;
                    let nudged = |by: f64| {
                        let mut tables = tables.clone();
                        tables.get_mut(name).unwrap()[at] += by;
                        objective(&before, &tables)
                    };
                    (nudged(1e-5) - nudged(-1e-5)) / 2e-5
                })
                .collect();
            let rms = (gradient.iter().map(|g| g * g).sum::<f64>() / table.dim as f64).sqrt();
            // below it the step's f32 is all there is
            if rms < 1e-5 {
                continue;
            }
            for (moved, g) in moved.iter().zip(&gradient) {
                assert!((moved - rate * g / rms).abs() < 0.01 * rate, "{name} row {row}: {moved} for {g} of rms {rms}");
            }
            checked += 1;
        }
    }
    assert!(checked >= 10, "only {checked} rows were touched");
    check_dense(config, &before, &trainer.weights, |weights| objective(weights, &tables));
}

/// Adam's first step is learning_rate * sign(g), wherever g is not tiny.
fn check_dense(config: &Config, before: &Weights, after: &Weights, objective: impl Fn(&Weights) -> f64) {
    let rate = config.training.learning_rate.dense;
    for side in 0..2 {
        let dense = |weights: &Weights| if side == 0 { weights.user.clone() } else { weights.item.clone() };
        for index in 0..dense(before).parameters().count() {
            let old = read(dense(before).parameters().nth(index).unwrap().clone()).unwrap();
            let new = read(dense(after).parameters().nth(index).unwrap().clone()).unwrap();
            for at in (0..old.len()).step_by(29) {
                let nudged = |by: f32| {
                    let mut weights = before.clone();
                    let dense = if side == 0 { &mut weights.user } else { &mut weights.item };
                    let parameter = dense.parameters_mut().nth(index).unwrap();
                    let mut values = old.clone();
                    values[at] += by;
                    *parameter = crate::train::optimizer::tensor(values, parameter.dims()[1], &parameter.device());
                    objective(&weights)
                };
                let gradient = (nudged(1e-3) - nudged(-1e-3)) / 2e-3;
                let moved = f64::from(old[at] - new[at]);
                if gradient.abs() > 1e-5 {
                    assert!(
                        (moved - rate * gradient.signum()).abs() < 0.02 * rate,
                        "{side} {index} {at}: {moved} for {gradient}"
                    );
                }
            }
        }
    }
}
