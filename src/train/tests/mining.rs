//! Hard negatives that the towers find themselves.

use super::planted::{ITEMS, Planted};
use crate::config::Config;
use crate::features::Side;
use crate::model::{Weights, device};
use crate::train::batches::{Batches, select_users, targets};
use crate::train::data::Data;
use crate::train::mining::Mined;
use crate::train::origin::going_on;
use crate::train::step::Trainer;

/// A training's data with the weights that some steps have left.
async fn taught(name: &str, mining: &str) -> (Planted, Data, Weights) {
    let planted = Planted::new(name, 600, &[&format!("training.self_mined={mining}")]).await;
    let data = Data::load(&planted.job, &planted.samples, None).await.unwrap();
    let config = &planted.job.config;
    let mut batches = Batches::new(&data, &config.training);
    batches.start_epoch(1);
    let mut trainer = Trainer::new(config, &data.spec, device("cpu").unwrap(), 100);
    for step in 0..Batches::steps(&data, &config.training) {
        trainer.step(&batches.batch(step)).unwrap();
    }
    let weights = trainer.weights.clone();
    (planted, data, weights)
}

#[tokio::test(flavor = "multi_thread")]
async fn mined_items_stand_at_the_wanted_ranks_and_are_never_liked() {
    let (planted, data, weights) = taught("mined", "{rank_from: 3, rank_to: 12, per_positive: 2}").await;
    let (training, stop) = (&planted.job.config.training, &planted.job.stop);
    let device = device("cpu").unwrap();
    let mined = Mined::new(&data, training, &weights, 2, &device, stop).unwrap();
    let all: Vec<u32> = (0..ITEMS as u32).collect();
    let items = weights.vectors_of(&data.spec, Side::Item, &data.catalogue, &all, &device).unwrap();
    let dim = data.spec.dim;
    for user in 0..data.liked.users() {
        let rows: Vec<u32> =
            data.training.iter().copied().filter(|row| data.user_of[*row as usize] as usize == user).collect();
        // the towers are asked for a user as he was at one of his positives: one of those windows holds all of his items
        let windows = rows.iter().map(|row| {
            let batch = select_users(&data, training, &targets(&data), &[*row]);
            let vector = weights.vectors(&data.spec, Side::User, &batch, &device).unwrap();
            let score = |item: &u32| -> f64 {
                let item = &items[*item as usize * dim..(*item as usize + 1) * dim];
                vector.iter().zip(item).map(|(a, b)| f64::from(a * b)).sum()
            };
            let mut ranked: Vec<u32> = all.iter().copied().filter(|item| !data.liked.of(user).contains(item)).collect();
            ranked.sort_by(|a, b| score(b).total_cmp(&score(a)));
            // a rank more on both sides: sums of another order swap neighbours
            ranked[1..13].to_vec()
        });
        let found: Vec<u32> = rows.iter().flat_map(|row| mined.of(*row as usize)).collect();
        assert_eq!(found.len(), rows.len() * 2, "user {user}");
        assert!(
            rows.is_empty() || windows.into_iter().any(|window| found.iter().all(|item| window.contains(item))),
            "user {user}: {found:?}"
        );
    }
    let again = Mined::new(&data, training, &weights, 2, &device, stop).unwrap();
    let later = Mined::new(&data, training, &weights, 3, &device, stop).unwrap();
    assert!(mined == again && mined != later);
    assert_eq!(Mined::new(&data, training, &weights, 1, &device, stop).unwrap(), Mined::default());
    let mut batches = Batches::new(&data, training).with_mined(&mined);
    batches.start_epoch(2);
    let batch = batches.batch(0);
    let of_row = |at: usize| (batch.hard.0[at + 1] - batch.hard.0[at]) as usize;
    assert!((0..batch.rows.len()).all(|at| (2..=3).contains(&of_row(at))), "{:?}", batch.hard.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_that_goes_on_from_a_parent_has_hard_negatives_from_its_first_epoch() {
    let late = [
        "training.hard_from_epoch=6",
        "training.self_mined={per_positive: 1, from_epoch: 5, rank_from: 1, rank_to: 9}",
        "training.online_hard=1",
        "warm_start.epochs=2",
    ];
    let planted = Planted::new("curriculum-passed", 600, &late).await;
    let (data, device) = (Data::load(&planted.job, &planted.samples, None).await.unwrap(), device("cpu").unwrap());
    let of_first_epoch = |config: &Config| {
        let weights = Weights::new(&data.spec, 7, 0.1, &device);
        let mined = Mined::new(&data, &config.training, &weights, 1, &device, &planted.job.stop).unwrap();
        let mut batches = Batches::new(&data, &config.training).with_mined(&mined);
        batches.start_epoch(1);
        let batch = batches.batch(0);
        (config.training.epochs, mined != Mined::default(), batch.hard.1.len(), batch.hardest)
    };
    let cold = &planted.job.config;
    assert_eq!(of_first_epoch(cold), (12, false, 0, 0));
    let warm = going_on(cold);
    let (epochs, mined, hard, hardest) = of_first_epoch(&warm);
    // each row has its own of the table, and one that was mined
    assert!(
        epochs == 2 && mined && hardest == 1 && hard > warm.training.batch_size,
        "{epochs} {mined} {hard} {hardest}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_searches_for_its_own_users_and_not_for_all_that_the_parent_was_taught() {
    let changes = ["training.self_mined={per_positive: 1, rank_from: 1, rank_to: 5}", "training.batch_size=64"];
    let planted = Planted::new("mined-day", 600, &changes).await;
    let mut data = Data::load(&planted.job, &planted.samples, None).await.unwrap();
    let training = &planted.job.config.training;
    // one row of one user, and many users before him: far more work than the steps, were they searched for
    data.training = data.training[..1].to_vec().into();
    Mined::check(&data, training).unwrap();
    data.training = Vec::new().into();
    Mined::check(&data, training).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_the_users_is_searched_for() {
    let (planted, data, weights) =
        taught("mined-share", "{per_positive: 1, rank_from: 1, rank_to: 5, share: 0.3}").await;
    let (training, device) = (&planted.job.config.training, device("cpu").unwrap());
    let mined = Mined::new(&data, training, &weights, 2, &device, &planted.job.stop).unwrap();
    let with = data.training.iter().filter(|row| mined.of(**row as usize).next().is_some()).count();
    let share = with as f64 / data.training.len() as f64;
    assert!((0.2..0.4).contains(&share), "{share}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_with_mined_negatives_learns_the_same_on_any_number_of_threads() {
    let mut written = Vec::new();
    for threads in ["training.threads=1", "training.threads=3"] {
        let changes = [
            threads,
            "training.self_mined={per_positive: 1, from_epoch: 2, rank_from: 30, rank_to: 100}",
            "training.epochs=5",
        ];
        let planted = Planted::new("mined-training", 3000, &changes).await;
        let trained = planted.train("model").await.unwrap();
        assert!(trained.facts.best_recall.unwrap() > 0.3, "{:?}", trained.facts.epochs);
        written.push(trained.files);
    }
    assert_eq!(written[0], written[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_costs_more_than_the_steps_is_refused() {
    let changes = ["training.self_mined.per_positive=1", "training.batch_size=2", "training.random_negatives=1"];
    let planted = Planted::new("mined-cost", 600, &changes).await;
    let error = planted.train("model").await.err().expect("too much work").to_string();
    let ranks = Planted::new("mined-ranks", 600, &["training.self_mined={per_positive: 1, rank_from: 201}"]).await;
    let ranks = ranks.train("model").await.err().expect("no such ranks").to_string();
    insta::assert_snapshot!([error, ranks].join("\n"));
}
