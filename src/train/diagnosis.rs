//! What a person needs to know when a loss or a weight is no longer a number: where, on which rows, and what is the likely cause.

use tracing::error;

use super::batches::Batch;
use super::checkpoint::Checkpoints;
use super::data::Data;
use super::state::State;
use super::step::Trainer;
use crate::config::{Config, Training};
use crate::error::{Error, Result};
use crate::features::{BatchColumn, FeatureBatch, TowerSpec};
use crate::model::Weights;
use crate::model::tensors::NOT_FINITE;

/// Sample ids that are named.
const NAMED: usize = 5;
/// Weights beyond this are far outside of what training makes: fresh ones are below 1.
const LARGE: f32 = 1e4;

/// Ends a training whose loss is not a number. The weights are still those of before the step.
pub fn check_loss(
    loss: f64,
    trainer: &Trainer,
    data: &Data,
    batch: &Batch,
    state: &State,
    checkpoints: &Checkpoints,
    config: &Config,
) -> Result<()> {
    if loss.is_finite() {
        return Ok(());
    }
    let id = |row: &u32| data.sample_ids[*row as usize];
    let losses = batch.rows.iter().zip(trainer.row_losses());
    let odd: Vec<i64> = losses.filter(|(_, loss)| !loss.is_finite()).map(|(row, _)| id(row)).collect();
    let all: Vec<i64> = batch.rows.iter().map(id).collect();
    error!(epoch = state.epoch, step = state.step, sample_ids = ?all, "the loss of this batch is not a number");
    let samples: Vec<String> = odd.iter().take(NAMED).map(i64::to_string).collect();
    let cause = match not_finite_input(data, batch) {
        Some(cause) => cause,
        None => of_weights(&trainer.weights, config, "inputs and weights")?,
    };
    Err(Error::config(format!(
        "training: the loss is {loss} in epoch {}, step {}, in {} of {} rows, first at sample_ids {}; {cause}; {}",
        state.epoch,
        state.step,
        odd.len(),
        batch.rows.len(),
        samples.join(", "),
        checkpoints.kept()
    )))
}

/// Adds the likely cause to the error of weights that could not be written because one is not finite; leaves others as they are.
pub fn of_write(error: Error, weights: &Weights, config: &Config) -> Error {
    if !error.message.contains(NOT_FINITE) {
        return error;
    }
    match of_weights(weights, config, "the weights themselves") {
        Ok(cause) => Error { message: format!("{}; {cause}", error.message), ..error },
        Err(_) => error,
    }
}

/// A feature whose numbers are not finite, with the first row.
fn not_finite_input(data: &Data, batch: &Batch) -> Option<String> {
    let user = odd_feature(&data.spec.user, &batch.users).map(|(name, row)| {
        let sample = data.sample_ids[batch.rows[row] as usize];
        format!("features.user.{name} is not finite at sample_id {sample}")
    });
    let item = || {
        odd_feature(&data.spec.item, &batch.items)
            .map(|(name, row)| format!("features.item.{name} is not finite for the item in column {row} of the batch"))
    };
    user.or_else(item).map(|found| format!("{found}: look at its column and its `transform`"))
}

fn odd_feature<'a>(tower: &'a TowerSpec, batch: &FeatureBatch) -> Option<(&'a str, usize)> {
    tower.features.iter().zip(&batch.columns).find_map(|(feature, column)| match column {
        BatchColumn::Numbers { width, values } => {
            let at = values.iter().position(|number| !number.is_finite())?;
            Some((feature.name.as_str(), at / width))
        }
        BatchColumn::Bag { .. } => None,
    })
}

/// The table or layer whose weights are worst, and which setting to change; `finite` is what is known to be in order where they are.
fn of_weights(weights: &Weights, config: &Config, finite: &str) -> Result<String> {
    let mut all = Vec::new();
    for (name, table) in &weights.tables {
        all.push((Worst::of(&table.rows), format!("embedding table `{name}`"), Some(table.dim)));
    }
    for dense in [&weights.user, &weights.item] {
        // statistics of batches come last, and are no weights
        let tensors = dense.tensors()?.into_iter().take(dense.parameters().count());
        all.extend(tensors.map(|(name, _, values)| (Worst::of(&values), format!("layer `{name}`"), None)));
    }
    // the first of equals, so that the text does not depend on their order
    let worst = all.into_iter().reduce(|worst, next| if next.0.value > worst.0.value { next } else { worst });
    let Some((worst, place, dim)) = worst else { return Ok("there are no weights".into()) };
    let advice = advice(&config.training, dim.is_some());
    let row = dim.map(|dim| format!(", row {}", worst.at / dim)).unwrap_or_default();
    Ok(if worst.value == f32::INFINITY {
        format!("{place}{row} has weights that are not finite: {advice}")
    } else if worst.value > LARGE {
        format!("the weights have grown without bound, to {:e} in {place}{row}: {advice}", worst.value)
    } else {
        let temperature = if config.training.loss.kind.has_temperature() { "raise model.temperature or " } else { "" };
        format!("{finite} are finite, the largest is {} in {place}: {temperature}lower the learning rates", worst.value)
    })
}

/// What to change where weights of a table, or of a layer, have grown without bound.
fn advice(training: &Training, of_table: bool) -> String {
    let rates = &training.learning_rate;
    let (key, rate, decay) = match of_table {
        true => ("tables", rates.tables, ("table_decay", training.table_decay)),
        false => ("dense", rates.dense, ("weight_decay", training.weight_decay)),
    };
    let mut all = Vec::new();
    for (decay_key, decay) in [decay, ("vector_decay", training.vector_decay)] {
        // it then takes a weight beyond zero in one step, and further away with each
        let at_once = rate * decay;
        if at_once >= 1.0 {
            all.push(format!(
                "lower training.{decay_key}, now {decay:?}, which times the rate is {at_once:?} and should be far below 1"
            ));
        }
    }
    all.push(format!("lower training.learning_rate.{key}, now {rate:?}"));
    if !of_table && training.clip == 0.0 {
        all.push("set training.clip".into());
    }
    all.join(", or ")
}

/// The largest magnitude; infinite for what is not a number.
struct Worst {
    value: f32,
    at: usize,
}

impl Worst {
    fn of(values: &[f32]) -> Worst {
        let mut worst = Worst { value: 0.0, at: 0 };
        for (at, value) in values.iter().enumerate() {
            let value = if value.is_finite() { value.abs() } else { f32::INFINITY };
            if value > worst.value {
                worst = Worst { value, at };
            }
        }
        worst
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Overrides;
    use crate::features::FeatureSpec;
    use crate::kernels::tables::{EmbeddingTable, RowInit};
    use crate::model::Dense;

    fn config() -> Config {
        let text = "version: 1\nname: a\noutput: out\nsources: {impressions: {path: logs}}\nfeatures: {user: {age: {kind: numeric}}, item: {item_id: {kind: id}}}\n";
        Config::parse(text, "job.yaml", &Overrides::default()).unwrap()
    }

    fn spec() -> FeatureSpec {
        serde_json::from_value(serde_json::json!({
            "format": 1, "dim": 2, "user_id_type": "bigint", "item_id_type": "bigint", "tables": {},
            "user": {"combine": "concat", "width": 2, "features": [], "layers": [
                {"weight": "user.0.weight", "bias": "user.0.bias", "inputs": 2, "outputs": 2, "activation": null}]},
            "item": {"combine": "concat", "width": 2, "features": [
                {"name": "price", "column": "price", "offset": 0, "width": 2, "kind": "numeric",
                 "transform": "none", "mean": 0.0, "deviation": 1.0}], "layers": []},
        }))
        .unwrap()
    }

    fn weights(spec: &FeatureSpec) -> Weights {
        let device = crate::model::device("cpu").unwrap();
        let tables = ["item_id", "word"].map(|name| (name.into(), EmbeddingTable::new(4, 2, &RowInit::usual(2, 1))));
        Weights {
            tables: BTreeMap::from(tables),
            user: Dense::new(&spec.user, 1, &device),
            item: Dense::new(&spec.item, 1, &device),
            inv_temperature: 10.0,
        }
    }

    #[test]
    fn the_worst_table_or_layer_is_named_with_the_setting_to_change() {
        let (spec, mut config) = (spec(), config());
        let by = |weights: &Weights, config: &Config| of_weights(weights, config, "inputs and weights").unwrap();
        let told = |weights: &Weights| by(weights, &config);
        let fine = weights(&spec);
        assert!(told(&fine).starts_with("inputs and weights are finite"), "{}", told(&fine));
        let mut large = fine.clone();
        large.tables.get_mut("word").unwrap().rows[5] = -3e20;
        assert_eq!(
            told(&large),
            "the weights have grown without bound, to 3e20 in embedding table `word`, row 2: lower training.learning_rate.tables, now 0.05"
        );
        let mut odd = large;
        let weight = odd.user.parameters_mut().next().unwrap();
        *weight = weight.clone().mul_scalar(f32::NAN);
        assert_eq!(
            told(&odd),
            "layer `user.0.weight` has weights that are not finite: lower training.learning_rate.dense, now 0.001"
        );
        (config.training.clip, config.training.weight_decay) = (0.0, 5000.0);
        assert_eq!(
            by(&odd, &config),
            "layer `user.0.weight` has weights that are not finite: lower training.weight_decay, now 5000.0, which times the rate is 5.0 and should be far below 1, or lower training.learning_rate.dense, now 0.001, or set training.clip"
        );
    }

    #[test]
    fn a_decay_that_is_out_of_all_proportion_is_named_and_a_usual_one_is_not() {
        let mut training = config().training;
        (training.table_decay, training.vector_decay) = (0.1, 0.3);
        assert_eq!(advice(&training, true), "lower training.learning_rate.tables, now 0.05");
        (training.table_decay, training.vector_decay) = (40.0, 100.0);
        assert_eq!(
            advice(&training, true),
            "lower training.table_decay, now 40.0, which times the rate is 2.0 and should be far below 1, or lower training.vector_decay, now 100.0, which times the rate is 5.0 and should be far below 1, or lower training.learning_rate.tables, now 0.05"
        );
    }

    #[test]
    fn only_the_error_of_a_value_that_is_not_finite_is_explained_by_the_weights() {
        let (spec, mut config) = (spec(), config());
        let weights = weights(&spec);
        let odd = Error::config(format!("training: `user.0.moment_2` {NOT_FINITE} in row 0"));
        config.training.loss.kind = crate::config::LossKind::Triplet;
        let told = of_write(odd, &weights, &config).message;
        let start =
            "training: `user.0.moment_2` has a value that is not finite in row 0; the weights themselves are finite";
        assert!(told.starts_with(start) && told.ends_with(": lower the learning rates"), "{told}");
        let other = of_write(Error::transient("the store is away"), &weights, &config);
        assert_eq!(other.message, "the store is away");
    }

    #[test]
    fn a_feature_that_is_not_finite_is_named_with_its_row() {
        let spec = spec();
        let batch = |numbers: &[f32]| FeatureBatch {
            rows: 2,
            columns: vec![BatchColumn::Numbers { width: 2, values: numbers.to_vec() }],
        };
        assert_eq!(odd_feature(&spec.item, &batch(&[0.0, 1.0, f32::NAN, 0.0])), Some(("price", 1)));
        assert_eq!(odd_feature(&spec.item, &batch(&[0.0; 4])), None);
    }
}
