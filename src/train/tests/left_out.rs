//! Values that training leaves out of lists and of hidden layers.

use super::planted::Planted;
use crate::features::{BatchColumn, EncodedColumn};
use crate::model::device;
use crate::train::batches::Batches;
use crate::train::data::Data;
use crate::train::step::Trainer;

/// The values of a history with their weights, in their order.
type History = Vec<(u32, f32)>;

/// Of each row of the first batch of an epoch: its row in the table of its item, its history as the samples have it, and as the batch does.
async fn histories(name: &str, changes: &[&str], epochs: &[u32]) -> Vec<Vec<(u32, History, History)>> {
    let weighted = ["features.user.history.weights=strengths", "training.batch_size=512"];
    let planted = Planted::new(name, 2000, &[&weighted[..], changes].concat()).await;
    let data = Data::load(&planted.job, &planted.samples, None).await.unwrap();
    let EncodedColumn::Bag { offsets, ids, weights } = &data.users.columns[0] else { panic!("history is a list") };
    let EncodedColumn::One(items) = &data.catalogue.columns[0] else { panic!("item_id is an id") };
    let mut batches = Batches::new(&data, &planted.job.config.training);
    let mut of_epoch = |epoch: &u32| {
        batches.start_epoch(*epoch);
        let batch = batches.batch(0);
        let BatchColumn::Bag { offsets: starts, ids: kept, weights: of_kept } = &batch.users.columns[0] else {
            panic!("history is a list")
        };
        let pairs = |ids: &[u32], weights: &[f32]| -> History {
            assert_eq!(ids.len(), weights.len());
            ids.iter().copied().zip(weights.iter().copied()).collect()
        };
        let rows = batch.rows.iter().enumerate().map(|(at, row)| {
            let row = *row as usize;
            let whole = offsets[row] as usize..offsets[row + 1] as usize;
            let left = starts[at] as usize..starts[at + 1] as usize;
            let own = items[data.item_of[row] as usize];
            (own, pairs(&ids[whole.clone()], &weights[whole]), pairs(&kept[left.clone()], &of_kept[left]))
        });
        rows.collect()
    };
    epochs.iter().map(&mut of_epoch).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_positives_own_item_leaves_its_users_history_and_nothing_else_does() {
    let kept = histories("target-kept", &[], &[1]).await;
    assert!(kept[0].iter().all(|(_, whole, left)| whole == left), "by default a history is whole");
    let rows = &histories("target-dropped", &["training.target_in_history=drop"], &[1]).await[0];
    let mut with = 0;
    for (own, whole, left) in rows {
        let others: History = whole.iter().copied().filter(|(item, _)| item != own).collect();
        assert_eq!(*left, others, "item {own} in {whole:?}");
        with += usize::from(others.len() < whole.len());
    }
    assert!(with > 20 && with < rows.len(), "{with} of {} histories hold their item", rows.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn history_dropout_leaves_out_its_share_with_the_weights_and_other_values_in_each_epoch() {
    let epochs = histories("history-dropout", &["training.history_dropout=0.3"], &[1, 2, 1]).await;
    for rows in &epochs {
        let (mut all, mut kept) = (0, 0);
        for (_, whole, left) in rows {
            // in their order, each with its own weight
            let mut rest = whole.iter();
            assert!(left.iter().all(|pair| rest.any(|other| other == pair)), "{left:?} of {whole:?}");
            (all, kept) = (all + whole.len(), kept + left.len());
        }
        let share = 1.0 - kept as f64 / all as f64;
        assert!((0.25..0.35).contains(&share), "{share} of {all} values are left out");
    }
    let left = |at: usize| epochs[at].iter().map(|(.., left)| left.clone()).collect::<Vec<_>>();
    assert!(left(0) == left(2) && left(0) != left(1), "it is a function of the epoch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_takes_the_dropout_of_each_tower_and_draws_anew_for_the_next() {
    let mut losses = Vec::new();
    for (name, changes) in [
        ("none", &[][..]),
        ("user", &["model.user_tower.dropout=0.5"]),
        ("item", &["model.item_tower.dropout=0.5"]),
        ("again", &["model.user_tower.dropout=0.5"]),
    ] {
        let planted = Planted::new(&format!("dropout-{name}"), 600, changes).await;
        let data = Data::load(&planted.job, &planted.samples, None).await.unwrap();
        let mut batches = Batches::new(&data, &planted.job.config.training);
        batches.start_epoch(1);
        let batch = batches.batch(0);
        let mut trainer = Trainer::new(&planted.job.config, &data.spec, device("cpu").unwrap(), 100);
        let first = trainer.step(&batch).unwrap();
        losses.push(first);
        // the same weights and rows, at another step
        let mut later = Trainer::new(&planted.job.config, &data.spec, device("cpu").unwrap(), 100);
        later.optimizers.steps = 7;
        assert_eq!(later.step(&batch).unwrap() == first, name == "none", "{name}");
    }
    assert_eq!(losses[1], losses[3]);
    assert!(losses[0] != losses[1] && losses[0] != losses[2] && losses[1] != losses[2], "{losses:?}");
}
