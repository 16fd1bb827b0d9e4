//! What rates, decay and clipping make of one step's gradient.

use super::planted::Planted;
use crate::config::Config;
use crate::kernels::tables::EmbeddingTable;
use crate::model::{Dense, Weights, device, read};
use crate::train::batches::Batches;
use crate::train::data::Data;
use crate::train::step::Trainer;

const NO_WARM_UP: &str = "training.learning_rate.warmup_steps=0";
/// Of Adam, beside the root of its second moment.
const EPSILON: f64 = 1e-8;

/// One training step of one batch, always from the same weights.
struct Stepped {
    config: Config,
    before: Weights,
    after: Weights,
    gradient_norm: Option<f64>,
}

async fn stepped(name: &str, changes: &[&str]) -> Stepped {
    let planted = Planted::new(&format!("optimizers-{name}"), 600, &[&[NO_WARM_UP], changes].concat()).await;
    let config = (*planted.job.config).clone();
    let data = Data::load(&planted.job, &planted.samples, None).await.unwrap();
    let mut batches = Batches::new(&data, &config.training);
    batches.start_epoch(1);
    let mut trainer = Trainer::new(&config, &data.spec, device("cpu").unwrap(), 100);
    let before = trainer.weights.clone();
    trainer.step(&batches.batch(0)).unwrap();
    let (after, gradient_norm) = (trainer.weights.clone(), trainer.gradient_norm);
    Stepped { config, before, after, gradient_norm }
}

/// The parameters of both towers: whether each decays, and its values.
fn dense(weights: &Weights) -> Vec<(bool, Vec<f32>)> {
    let of = |dense: &Dense| {
        let values = dense.parameters().map(|parameter| read(parameter.clone()).unwrap());
        dense.decays().iter().copied().zip(values).collect::<Vec<_>>()
    };
    [of(&weights.user), of(&weights.item)].concat()
}

fn tables(weights: &Weights) -> impl Iterator<Item = &EmbeddingTable> {
    weights.tables.values()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gradient_beyond_the_limit_is_cut_to_it_and_one_within_stays() {
    let free = stepped("free", &["training.clip=0", "training.weight_decay=0"]).await;
    assert_eq!(free.gradient_norm, None);
    let within = stepped("within", &["training.clip=1000", "training.weight_decay=0"]).await;
    let norm = within.gradient_norm.unwrap();
    assert!(norm > 1e-3 && norm < 1000.0, "{norm}");
    assert_eq!(dense(&free.after), dense(&within.after));
    // Adam's first step is rate * g / (g + epsilon): of gradients as small as epsilon it tells how large they were
    let limit = 2e-7;
    let cut = stepped("cut", &[&format!("training.clip={limit}"), "training.weight_decay=0"]).await;
    assert_eq!(cut.gradient_norm, Some(norm));
    let rate = cut.config.training.learning_rate.dense;
    let mut squares = 0.0;
    for ((_, old), (_, new)) in dense(&cut.before).iter().zip(&dense(&cut.after)) {
        for (old, new) in old.iter().zip(new) {
            let moved = f64::from((old - new).abs()) / rate;
            squares += (EPSILON * moved / (1.0 - moved)).powi(2);
        }
    }
    assert!((squares.sqrt() / limit - 1.0).abs() < 0.02, "a gradient of norm {}", squares.sqrt());
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_decay_and_biases_do_not() {
    let [kept, decayed] =
        [stepped("kept", &["training.weight_decay=0"]).await, stepped("decayed", &["training.weight_decay=0.5"]).await];
    let rate = decayed.config.training.learning_rate.dense as f32;
    let (before, kept, decayed) = (dense(&kept.before), dense(&kept.after), dense(&decayed.after));
    assert!(before.iter().any(|(decays, _)| *decays) && before.iter().any(|(decays, _)| !decays));
    for (((decays, before), (_, kept)), (_, decayed)) in before.iter().zip(&kept).zip(&decayed) {
        for ((before, kept), decayed) in before.iter().zip(kept).zip(decayed) {
            let expected = if *decays { rate * 0.5 * before } else { 0.0 };
            assert!((kept - decayed - expected).abs() < 1e-6, "{before} became {kept}, with decay {decayed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_layers_have_rates_of_their_own_and_rows_that_a_step_does_not_touch_stay() {
    for optimizer in ["adagrad", "adam"] {
        let of = format!("training.table_optimizer={optimizer}");
        let at = |tables: &str| {
            let rates = format!("training.learning_rate={{dense: 0.001, tables: {tables}, warmup_steps: 0}}");
            let (name, of) = (format!("rates-{optimizer}-{tables}"), of.clone());
            async move { stepped(&name, &[&rates, &of, "training.table_decay=0.01"]).await }
        };
        let (slow, fast) = (at("0.01").await, at("0.04").await);
        assert_eq!(dense(&slow.after), dense(&fast.after), "{optimizer}");
        let (mut moved, mut still) = (0, 0);
        for ((before, slow), fast) in tables(&slow.before).zip(tables(&slow.after)).zip(tables(&fast.after)) {
            for row in 0..before.len() {
                if slow.row(row) == before.row(row) {
                    assert_eq!(fast.row(row), before.row(row), "{optimizer}");
                    still += 1;
                    continue;
                }
                moved += 1;
                for ((before, slow), fast) in before.row(row).iter().zip(slow.row(row)).zip(fast.row(row)) {
                    let (slow, fast) = (slow - before, fast - before);
                    assert!((fast - 4.0 * slow).abs() < 1e-6, "{optimizer}: {fast} at four times the rate of {slow}");
                }
            }
        }
        assert!(moved > 20 && still > 0, "{optimizer}: {moved} rows moved, {still} did not");
    }
}
