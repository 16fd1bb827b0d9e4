//! Every loss finds the planted taste.

use super::planted::Planted;
use super::popularity_recall;
use crate::train::batches::Batches;
use crate::train::data::Data;

/// Recall@10 of popularity, and of a training with these settings.
async fn recalls(name: &str, changes: &[&str]) -> (f64, f64) {
    let planted = Planted::new(name, 6000, changes).await;
    let data = Data::load(&planted.job, &planted.samples, None).await.unwrap();
    let trained = planted.train("model").await.unwrap();
    let first = trained.facts.epochs.first().unwrap();
    assert!(trained.facts.epochs.last().unwrap().loss < first.loss, "{name}: {:?}", trained.facts.epochs);
    (popularity_recall(&data), trained.facts.best_recall.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_loss_finds_a_planted_taste_far_better_than_popularity() {
    let losses: [(&str, &[&str]); 6] = [
        (
            "cosine",
            &["training.loss={kind: cosine_contrastive, margin: 0.4, negative_weight: 3}", "model.temperature=0.07"],
        ),
        ("bpr", &["training.loss.kind=bpr"]),
        ("triplet", &["training.loss.kind=triplet", "model.temperature=0.07"]),
        ("bce", &["training.loss={kind: binary_cross_entropy, negative_weight: 5}"]),
        ("online", &["training.online_hard=2", "training.online_hard_weight=5"]),
        ("random-only", &["training.in_batch_negatives=false"]),
    ];
    for (name, changes) in losses {
        let (popularity, recall) = recalls(name, changes).await;
        assert!(recall > 0.3 && recall > 3.0 * popularity, "{name}: recall@10 {recall:.3}, popularity {popularity:.3}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temperature_is_learned_where_the_loss_has_one() {
    for kind in ["softmax", "bpr", "binary_cross_entropy"] {
        let kind_set = format!("training.loss.kind={kind}");
        let changes = [kind_set.as_str(), "model.learn_temperature=true", "training.epochs=3"];
        let planted = Planted::new(&format!("temperature-{kind}"), 3000, &changes).await;
        let facts = planted.train("model").await.unwrap().facts;
        assert!((facts.temperature - 0.1).abs() > 0.002, "{kind}: {}", facts.temperature);
        assert!(facts.epochs[2].loss < facts.epochs[0].loss, "{kind}: {:?}", facts.epochs);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_negative_is_hard_before_its_epoch() {
    let changes = ["training.hard_from_epoch=2", "training.online_hard=1"];
    let planted = Planted::new("curriculum", 500, &changes).await;
    let data = Data::load(&planted.job, &planted.samples, None).await.unwrap();
    let mut batches = Batches::new(&data, &planted.job.config.training);
    let mut of_epoch = |epoch: u32| {
        batches.start_epoch(epoch);
        let batch = batches.batch(0);
        (batch.hard.1.len(), batch.hardest, batch.items.rows - batch.log_q.len())
    };
    assert_eq!(of_epoch(1), (0, 0, 0));
    let (hard, hardest, more_items) = of_epoch(2);
    assert!(hard > 0 && hard == more_items && hardest == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_shown_for_nothing_is_a_negative_of_its_own_user_beside_hard_ones() {
    let of = async |name: &str, tables: [(&str, bool); 2], changes: &[&str]| {
        let mut planted = Planted::new(name, 500, changes).await;
        let known = &mut planted.samples.record.facts.tables;
        let negatives = known.remove("hard_negatives").unwrap();
        tables.iter().filter(|(_, there)| *there).for_each(|(table, _)| {
            known.insert(table.to_string(), negatives.clone());
        });
        let data = Data::load(&planted.job, &planted.samples, None).await.unwrap();
        let mut batches = Batches::new(&data, &planted.job.config.training);
        batches.start_epoch(1);
        batches.batch(0).hard
    };
    let hard = of("shown-hard", [("hard_negatives", true), ("shown_negatives", false)], &[]).await;
    let shown = of("shown-alone", [("hard_negatives", false), ("shown_negatives", true)], &[]).await;
    let both = of("shown-both", [("hard_negatives", true), ("shown_negatives", true)], &[]).await;
    let none =
        of("shown-none", [("hard_negatives", false), ("shown_negatives", true)], &["training.shown_per_positive=0"])
            .await;
    assert!(!hard.1.is_empty() && shown == hard);
    // the same rows in both tables count once
    assert_eq!(both, hard);
    assert!(none.1.is_empty());
}
