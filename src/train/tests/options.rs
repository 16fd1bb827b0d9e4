//! Trainings with every kind of table and every option of the towers.

use super::planted::{AUDIENCE, ITEMS, Planted, TASTES, done, items, users};
use crate::features::{BatchColumn, FeatureSpecEntry, Side};
use crate::model::{Files, Towers, device};
use crate::train::batches::Batches;
use crate::train::data::Data;
use crate::train::step::Trainer;

const OPTIONS: [&str; 7] = [
    "features.user.history.pooling=attention",
    "features.user.pair={kind: crossed, of: [country, age], hash_rows: 300, dim: 4}",
    "features.user.letters={kind: text, column: country, hash_rows: 200, dim: 4}",
    "features.item.item_id={kind: id, dim: 8, hash_rows: 500}",
    "model.user_tower={layers: [16, 16], normalization: batch, residual: true, gating: true, dropout: 0.1}",
    "model.item_tower={layers: [16, 16], normalization: layer, residual: true, gating: true, activation: silu}",
    "training.clip=1",
];

fn with(more: &[&'static str]) -> Vec<&'static str> {
    [&OPTIONS, more].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_every_option_the_files_are_the_same_for_any_number_of_threads() {
    let mut written = Vec::new();
    for threads in ["training.threads=1", "training.threads=2", "training.threads=5"] {
        let planted = Planted::new("options-threads", 2000, &with(&["training.epochs=2", threads])).await;
        written.push(planted.train("model").await.unwrap().files);
    }
    assert!(written[0] == written[1] && written[0] == written[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_every_option_a_model_reads_back_as_it_was_in_memory() {
    let planted = Planted::new("options-reload", 1000, &OPTIONS).await;
    let data = Data::load(&planted.job, &planted.samples, None).await.unwrap();
    let mut trainer = Trainer::new(&planted.job.config, &data.spec, device("cpu").unwrap(), 100);
    let mut batches = Batches::new(&data, &planted.job.config.training);
    batches.start_epoch(1);
    for step in 0..5 {
        trainer.step(&batches.batch(step)).unwrap();
    }
    let mut files = Files::new(&planted.job.output, "model");
    files.spec(&data.spec, &data.vocabularies).await.unwrap();
    files.weights(&trainer.weights).await.unwrap();
    let mut model = done("model", ());
    model.record.files = files.finish();
    let loaded = Towers::load(&planted.job.output, "model", &model.record.files).await.unwrap();
    assert_eq!(loaded.feature_columns(Side::User), ["history", "age", "country"]);
    assert_eq!(loaded.spec(), &data.spec);
    let kept =
        Towers::new(data.spec.clone(), data.vocabularies.clone(), trainer.weights.clone(), device("cpu").unwrap());
    assert_eq!(loaded.users(&[users()]).unwrap(), kept.users(&[users()]).unwrap());
    assert_eq!(loaded.items(&[items()]).unwrap(), kept.items(&[items()]).unwrap());
    // a row's vector does not depend on the rows beside it, which in training it does
    let alone = kept.users(&[users().slice(7, 1)]).unwrap();
    let among = &kept.users(&[users()]).unwrap()[7 * 8..8 * 8];
    assert!(alone.iter().zip(among).all(|(a, b)| (a - b).abs() < 1e-6), "{alone:?} {among:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_in_the_list_of_his_item_for_others_alone() {
    for (name, more) in [("softmax", "training.random_negatives=20"), ("bpr", "training.loss.kind=bpr")] {
        let changes = [&AUDIENCE[..], &["training.validation.share=0", more]].concat();
        let planted = Planted::new(&format!("audience-{name}"), 600, &changes).await;
        let data = Data::load(&planted.job, &planted.samples, None).await.unwrap();
        let mut batches = Batches::new(&data, &planted.job.config.training);
        batches.start_epoch(1);
        let batch = batches.batch(0);
        let size = batch.rows.len();
        let place = |features: &[FeatureSpecEntry], column: &str| features.iter().position(|f| f.column == column);
        let bag = |column: &BatchColumn, row: usize| match column {
            BatchColumn::Bag { offsets, ids, .. } => ids[offsets[row] as usize..offsets[row + 1] as usize].to_vec(),
            BatchColumn::Numbers { .. } => panic!("a column of ids"),
        };
        let user = |row: usize| bag(&batch.users.columns[place(&data.spec.user.features, "user_id").unwrap()], row);
        let of_items =
            |column: &str, at: usize| bag(&batch.items.columns[place(&data.spec.item.features, column).unwrap()], at);
        assert!(!batch.in_batch && batch.positives == (0..size as u32).collect::<Vec<_>>());
        for row in 0..size {
            let shared = (size..batch.log_q.len()).find(|at| of_items("item_id", *at) == of_items("item_id", row));
            let mut visitors = of_items("visitors", shared.unwrap());
            assert!(visitors.contains(&user(row)[0]), "{name}: all positives' users are in the lists");
            visitors.retain(|visitor| *visitor != user(row)[0]);
            assert_eq!(of_items("visitors", row), visitors, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_end_in_the_bias_of_an_item_and_the_one_that_meets_it() {
    let of = async |name: &str, settings: &[&'static str]| {
        let planted = Planted::new(name, 1000, &with(settings)).await;
        let trained = planted.train("model").await.unwrap();
        let towers = Towers::load(&planted.job.output, "model", &trained.files).await.unwrap();
        (towers.dim(), towers.users(&[users()]).unwrap(), towers.items(&[items()]).unwrap())
    };
    let (dim, users, items) = of("bias-none", &[]).await;
    let (biased_dim, biased_users, biased_items) =
        of("bias-price", &["model.item_bias={column: price, weight: -0.5}"]).await;
    assert_eq!(biased_dim, dim + 1);
    let same = |plain: &[f32], biased: &[f32]| {
        let pairs = plain.chunks_exact(dim).zip(biased.chunks_exact(dim + 1));
        assert!(pairs.clone().all(|(plain, biased)| plain == &biased[..dim]), "the towers learn without it");
        pairs.map(|(_, biased)| biased[dim]).collect::<Vec<f32>>()
    };
    assert!(same(&users, &biased_users).iter().all(|last| *last == 1.0));
    let prices: Vec<f32> =
        (0..ITEMS).map(|item| if item % 9 == 0 { 0.0 } else { -0.5 * (item % TASTES) as f32 }).collect();
    assert_eq!(same(&items, &biased_items), prices);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_every_option_a_planted_taste_is_found() {
    let trained = Planted::new("options-taste", 6000, &OPTIONS).await.train("model").await.unwrap();
    let recall = trained.facts.best_recall.unwrap();
    assert!(recall > 0.3, "recall@10 {recall:.3}");
}
