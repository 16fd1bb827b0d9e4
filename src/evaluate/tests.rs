use super::*;
use crate::artifacts::{IdType, Metrics};
use crate::retrieval::fixture::World as Fixture;

const DIM: usize = 8;

async fn evaluated(world: &Fixture) -> Result<EvaluateFacts> {
    looked_at(world).await.map(|found| found.facts)
}

async fn looked_at(world: &Fixture) -> Result<Evaluation> {
    // the index's own stage is tested beside it; here it only has to be there
    let written = crate::index::tests_support::build_for(world).await.unwrap();
    look(&world.job, &world.samples, &world.tower, &world.embeddings, &world.as_index(written)).await
}

/// Some pairs (user row, item row), many for the first users.
fn pairs(users: usize, items: usize, salt: usize) -> Vec<(usize, usize)> {
    let mut pairs: Vec<(usize, usize)> = (0..users)
        .flat_map(|user| {
            (0..1 + (user * salt) % 7 + if user == 0 { 40 } else { 0 })
                .map(move |n| (user, (user * 13 + n * n * salt + n) % items))
        })
        .collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

/// Recall and NDCG by the words of the protocol, in float64 over all scores.
fn slow(world: &Fixture, holdout: &[(usize, usize)], seen: &[(usize, usize)], k: usize) -> (u64, f64, f64) {
    let (mut users, mut recall, mut ndcg) = (0, 0.0, 0.0);
    for user in 0..world.user_ids.len() {
        let targets: Vec<usize> = holdout.iter().filter(|pair| pair.0 == user).map(|pair| pair.1).collect();
        if targets.is_empty() {
            continue;
        }
        let vector = &world.users[user * DIM..][..DIM];
        let score = |item: usize| {
            let item = &world.items[item * DIM..][..DIM];
            vector.iter().zip(item).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
        };
        let mut ranked: Vec<usize> = (0..world.item_ids.len()).filter(|item| !seen.contains(&(user, *item))).collect();
        ranked.sort_by(|a, b| score(*b).total_cmp(&score(*a)).then(a.cmp(b)));
        let gain = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
        let hits: Vec<usize> =
            ranked.iter().take(k).enumerate().filter(|hit| targets.contains(hit.1)).map(|hit| hit.0).collect();
        users += 1;
        recall += hits.len() as f64 / targets.len() as f64;
        ndcg += hits.iter().map(|rank| gain(*rank)).sum::<f64>() / (0..k.min(targets.len())).map(gain).sum::<f64>();
    }
    (users, recall / users as f64, ndcg / users as f64)
}

fn assert_equal(metrics: &Metrics, expected: (u64, f64, f64), k: usize) {
    let at = metrics.at[&k];
    assert_eq!(metrics.users, expected.0);
    assert!(
        (at.recall - expected.1).abs() < 1e-9 && (at.ndcg - expected.2).abs() < 1e-9,
        "{at:?} and not {expected:?}"
    );
}

#[tokio::test]
async fn exact_and_indexed_metrics_equal_a_slow_float64_reference() {
    for (name, id_type) in [("evaluate-int", IdType::Bigint), ("evaluate-text", IdType::Varchar)] {
        let (holdout, seen) = (pairs(60, 500, 5), pairs(60, 500, 3));
        let world = Fixture::new(name, id_type, 500, 60, DIM).await.set(&["evaluation.k=[10, 3, 50]"]);
        let world = world.pairs("holdout", &holdout).await.pairs("seen", &seen).await.positives(&[3, 1, 9]).await;
        let facts = evaluated(&world).await.unwrap();
        assert_eq!((facts.users, facts.targets), (60, holdout.len() as u64));
        for k in [3, 10, 50] {
            for (metrics, seen) in [
                (&facts.exact, &seen[..]),
                (&facts.exact_unmasked, &[]),
                (&facts.indexed, &seen),
                (&facts.indexed_unmasked, &[]),
            ] {
                assert_equal(metrics, slow(&world, &holdout, seen, k), k);
            }
        }
    }
}

#[tokio::test]
async fn users_without_features_are_left_out_and_items_outside_the_catalogue_are_missed() {
    let world = Fixture::new("evaluate-unknown", IdType::Bigint, 100, 10, DIM).await;
    let holdout = [(0, 1), (0, 5000), (3, 6000), (77_000, 1), (77_001, 2)];
    let world = world.pairs("holdout", &holdout).await.positives(&[1; 100]).await;
    let facts = evaluated(&world).await.unwrap();
    assert_eq!((facts.users, facts.targets), (2, 3));
    assert_eq!((facts.users_without_features, facts.targets_outside_catalogue), (2, 2));
    // all 100 items are within the top 100: one of two targets, and none of one
    assert_eq!(facts.exact.at[&100].recall, 0.25);
    assert_eq!(facts.exact.at[&100].coverage, 1.0);
    assert!(facts.new_items.is_none());
}

#[tokio::test]
async fn popularity_ranks_by_positives_and_a_user_who_has_had_everything_finds_nothing() {
    let everything: Vec<(usize, usize)> = (0..30).map(|item| (1, item)).collect();
    let seen: Vec<(usize, usize)> = [(0, 7)].into_iter().chain(everything).collect();
    let world = Fixture::new("evaluate-popular", IdType::Varchar, 30, 3, DIM).await.set(&["evaluation.k=[1, 2]"]);
    let world = world.pairs("holdout", &[(0, 8), (1, 7), (2, 9)]).await.pairs("seen", &seen).await;
    // item 7 leads, then item 8; 9 and later are new
    let facts = evaluated(&world.positives(&[1, 1, 1, 1, 1, 1, 1, 90, 50]).await).await.unwrap();
    let third = 1.0 / 3.0;
    assert_eq!((facts.popularity.at[&1].recall, facts.popularity_unmasked.at[&1].recall), (third, third));
    assert_eq!((facts.popularity.at[&2].recall, facts.popularity_unmasked.at[&2].recall), (third, 2.0 * third));
    let labels: Vec<_> = facts.by_popularity.iter().map(|bucket| (&bucket.label[..], bucket.targets)).collect();
    assert_eq!(labels, [("1", 0), ("50", 1), ("90", 1)]);
    let new = facts.new_items.unwrap();
    assert_eq!((new.items, new.targets, new.popularity_recall[&2]), (21, 1, 0.0));
}

#[tokio::test]
async fn evaluation_users_caps_by_hash_and_twice_is_the_same() {
    let holdout = pairs(60, 200, 5);
    let world = Fixture::new("evaluate-cap", IdType::Bigint, 200, 60, DIM).await.set(&["evaluation.users=20"]);
    let world = world.pairs("holdout", &holdout).await.positives(&[1; 200]).await;
    let (first, second) = (evaluated(&world).await.unwrap(), evaluated(&world).await.unwrap());
    assert_eq!(first.users, 20);
    assert_eq!(serde_json::to_string(&first).unwrap(), serde_json::to_string(&second).unwrap());
    let other = evaluated(&world.set(&["evaluation.users=20", "evaluation.seed=3"])).await.unwrap();
    assert_ne!(first.exact.at, other.exact.at);
}

#[tokio::test]
async fn without_holdout_or_with_an_empty_one_everything_is_zero() {
    let world = Fixture::new("evaluate-none", IdType::Bigint, 20, 5, DIM).await.positives(&[1; 20]).await;
    let facts = evaluated(&world).await.unwrap();
    assert_eq!((facts.users, facts.exact.users), (0, 0));
    let world = world.pairs("holdout", &[]).await;
    assert_eq!(evaluated(&world).await.unwrap().users, 0);
}

#[tokio::test]
async fn held_out_items_are_also_ranked_among_the_candidates_that_the_samples_name() {
    let (holdout, candidates) = (pairs(40, 300, 5), pairs(30, 300, 11));
    let world = Fixture::new("evaluate-among", IdType::Varchar, 300, 40, DIM).await.set(&["evaluation.k=[2, 5]"]);
    let world = world.pairs("holdout", &holdout).await.positives(&[1; 300]).await;
    assert!(evaluated(&world).await.unwrap().among_candidates.is_none());
    let world = world.pairs("holdout_candidates", &candidates).await;
    let found = evaluated(&world).await.unwrap().among_candidates.unwrap();
    // by the words of the protocol, in float64; users from 30 on have no candidates
    let (mut targets, mut hits, mut gains) = (0, 0, 0.0);
    for (user, target) in holdout.iter().filter(|pair| pair.0 < 30) {
        let score = |item: &usize| -> f64 {
            let (user, item) = (&world.users[user * DIM..][..DIM], &world.items[item * DIM..][..DIM]);
            user.iter().zip(item).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let of_user = candidates.iter().filter(|pair| pair.0 == *user && !holdout.contains(pair));
        let rank = of_user.filter(|pair| score(&pair.1) > score(target)).count();
        targets += 1;
        if rank < 5 {
            hits += 1;
            gains += 1.0 / (rank as f64 + 2.0).log2();
        }
    }
    assert_eq!((found.users, found.targets), (30, targets));
    assert!(0 < hits && hits < targets, "a measure that cannot differ shows nothing: {hits} of {targets}");
    let (count, at) = (targets as f64, found.model[&5]);
    assert!((at.hit_rate - hits as f64 / count).abs() < 1e-9 && (at.ndcg - gains / count).abs() < 1e-9, "{at:?}");
    // all items are equally popular, so none is strictly more popular than the target
    assert_eq!(found.popularity[&2].hit_rate, 1.0);
}

#[tokio::test]
async fn a_portrait_shows_the_vectors_and_what_ten_users_get() {
    let (holdout, seen) = (pairs(60, 500, 5), pairs(60, 500, 3));
    let world = Fixture::new("portrait", IdType::Varchar, 500, 60, DIM).await;
    let world = world.pairs("holdout", &holdout).await.pairs("seen", &seen).await.positives(&[3, 1, 9]).await;
    let found = looked_at(&world).await.unwrap().portrait;
    assert_eq!((found.norms.counts.iter().sum::<u64>(), found.projection.items.len()), (500, 500));
    assert!(found.projection.explained[0] >= found.projection.explained[1] && found.projection.explained[1] > 0.0);
    let near_one = |edge: &f64| (edge - 1.0).abs() < 1e-5;
    assert!(found.norms.edges.iter().all(near_one), "{:?}", found.norms);
    assert_eq!(found.users.len(), 10);
    for user in &found.users {
        let row = world.user_ids.iter().position(|id| id == user.user).unwrap();
        let of = |pairs: &[(usize, usize)]| pairs.iter().filter(|pair| pair.0 == row).count() as u64;
        assert_eq!((user.had_total, user.wanted_total, user.gets.len()), (of(&seen), of(&holdout), 10));
        let had = |item: &crate::artifacts::Id| {
            let item = world.item_ids.iter().position(|id| id == *item).unwrap();
            seen.contains(&(row, item))
        };
        assert!(!user.gets.iter().any(had) && user.had.iter().all(had), "{user:?}");
        assert!(user.gets.iter().all(|item| found.items.iter().any(|note| note.item == *item)));
    }
    let again = looked_at(&world).await.unwrap().portrait;
    assert_eq!(serde_json::to_string(&again).unwrap(), serde_json::to_string(&found).unwrap());
}

#[tokio::test]
async fn a_portrait_of_a_candidate_without_holdout_takes_any_users() {
    let world = Fixture::new("portrait-none", IdType::Bigint, 30, 5, DIM).await.positives(&[1; 30]).await;
    let world = world.pairs("seen", &[(2, 4), (2, 5), (4, 5)]).await;
    let found = looked_at(&world).await.unwrap().portrait;
    let totals: Vec<u64> = found.users.iter().map(|user| user.had_total).collect();
    assert_eq!((totals.len(), totals.iter().sum::<u64>()), (5, 3));
    assert!(found.users.iter().all(|user| user.gets.len() == 10 && user.wanted.is_empty()));
}
