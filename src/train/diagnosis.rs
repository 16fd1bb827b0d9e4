//! What a person needs to know when a loss is no longer a number: where, on which rows, and what is the likely cause.

use tracing::error;

use super::batches::Batch;
use super::checkpoint::Checkpoints;
use super::data::Data;
use super::state::State;
use super::step::Trainer;
use crate::config::LearningRate;
use crate::error::{Error, Result};
use crate::features::{BatchColumn, FeatureBatch, TowerSpec};
use crate::model::Weights;

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
    rates: &LearningRate,
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
        None => of_weights(&trainer.weights, rates)?,
    };
    let kept = match checkpoints.newest() {
        Some(place) => format!("the last checkpoint is good and is kept: {place}"),
        None => "no checkpoint was written before".into(),
    };
    Err(Error::config(format!(
        "training: the loss is {loss} in epoch {}, step {}, in {} of {} rows, first at sample_ids {}; {cause}; {kept}",
        state.epoch,
        state.step,
        odd.len(),
        batch.rows.len(),
        samples.join(", ")
    )))
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

/// The table or layer whose weights are worst, and which setting to change.
fn of_weights(weights: &Weights, rates: &LearningRate) -> Result<String> {
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
    let advice = match dim {
        Some(_) => format!("lower training.learning_rate.tables, now {:?}", rates.tables),
        None => format!("lower training.learning_rate.dense, now {:?}, or set training.clip", rates.dense),
    };
    let row = dim.map(|dim| format!(", row {}", worst.at / dim)).unwrap_or_default();
    Ok(if worst.value == f32::INFINITY {
        format!("{place}{row} has weights that are not finite: {advice}")
    } else if worst.value > LARGE {
        format!("the weights have grown without bound, to {:e} in {place}{row}: {advice}", worst.value)
    } else {
        format!(
            "inputs and weights are finite, the largest is {} in {place}: raise model.temperature or lower the learning rates",
            worst.value
        )
    })
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
    use crate::features::FeatureSpec;
    use crate::kernels::tables::{EmbeddingTable, RowInit};
    use crate::model::Dense;

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
        let (spec, rates) = (spec(), LearningRate::default());
        let told = |weights: &Weights| of_weights(weights, &rates).unwrap();
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
            "layer `user.0.weight` has weights that are not finite: lower training.learning_rate.dense, now 0.001, or set training.clip"
        );
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
