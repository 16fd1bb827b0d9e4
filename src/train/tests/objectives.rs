//! A positive weighs what its objectives say.

use super::planted::{Planted, bought, clicked};
use crate::train::data::Data;

/// Of generated row `row`: whether it was clicked, and whether it was bought.
fn holds(row: u64) -> (bool, bool) {
    (clicked(row) == Some(true), bought(row) > 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_positive_weighs_the_sum_of_what_holds_and_one_without_is_left_out() {
    let changes = ["training.objectives={clicked: 1.5, bought: 4}", "training.epochs=1"];
    let planted = Planted::new("objectives", 900, &changes).await;
    let data = Data::load(&planted.job, &planted.samples, None).await.unwrap();
    let mut left: Vec<u64> = (0..900).filter(|row| holds(*row) != (false, false)).collect();
    for (at, sample) in data.sample_ids.iter().enumerate() {
        let row = (sample + 3) as u64 / 17;
        let (clicked, bought) = holds(row);
        let sum = if clicked { 1.5 } else { 0.0 } + if bought { 4.0 } else { 0.0 };
        assert_eq!(data.weights[at], sum * (1.0 + (row % 2) as f32), "row {row}");
        assert_eq!(data.objectives[at], u32::from(clicked) + 2 * u32::from(bought), "row {row}");
        left.retain(|other| *other != row);
    }
    assert!(left.is_empty() && data.sample_ids.len() < 900, "{left:?} are missing");
    assert_eq!(data.training.len() + data.validation.len(), data.sample_ids.len());
    let facts = planted.train("model").await.unwrap().facts;
    let count = |of: fn((bool, bool)) -> bool| (0..900).filter(|row| of(holds(*row))).count() as u64;
    let expected = [("bought".to_string(), count(|holds| holds.1)), ("clicked".to_string(), count(|holds| holds.0))];
    assert_eq!(facts.objectives.into_iter().collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn objectives_that_never_hold_are_an_error() {
    // neither of the first two rows was bought
    let planted = Planted::new("no-objective", 2, &["training.objectives={bought: 1}"]).await;
    let error = planted.train("model").await.err().expect("nothing holds");
    assert!(error.message.starts_with("training.objectives: none of bought holds for any of the 2"), "{error}");
}
