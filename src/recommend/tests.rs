use arrow::array::AsArray;

use super::*;
use crate::artifacts::{IdType, RunDate};
use crate::error::Kind;
use crate::retrieval::exact_top;
use crate::retrieval::fixture::World;

const DIM: usize = 8;

async fn published(world: &World) -> Release {
    let written = crate::index::tests_support::build_for(world).await.unwrap();
    world.publish_samples().await;
    let date: RunDate = "2026-11-20".parse().unwrap();
    Release {
        schema_version: 1,
        release: 7,
        name: "test".into(),
        run_id: "run".into(),
        date,
        created: Default::default(),
        parent: None,
        started_from: None,
        rollback_of: None,
        data_window: (date, date),
        config_digest: String::new(),
        settings: Default::default(),
        sql_digest: String::new(),
        inputs_digest: String::new(),
        digests: Default::default(),
        dim: DIM,
        metric: written.facts.metric,
        items: written.facts.items,
        user_id_type: world.user_ids.id_type(),
        item_id_type: world.item_ids.id_type(),
        index_factory: written.facts.factory,
        search_parameters: written.facts.parameters,
        samples: "samples".into(),
        model: keys::MODEL.into(),
        embeddings: keys::EMBEDDINGS.into(),
        index: keys::INDEX.into(),
        report: keys::REPORT.into(),
        files: written.files,
        metrics: serde_json::Value::Null,
        gates: vec![],
        publication: Default::default(),
    }
}

async fn ask(world: &World, release: &Release, who: Who, k: usize, exclude_seen: bool) -> Result<Vec<Id>> {
    let found = answer(&world.job.output, release, &world.tower, who, k, exclude_seen).await?;
    Ok(found.into_iter().map(|(id, _)| id).collect())
}

#[tokio::test]
async fn a_user_gets_the_items_nearest_to_his_vector_without_what_he_has_had() {
    for (name, id_type) in [("recommend-int", IdType::Bigint), ("recommend-text", IdType::Varchar)] {
        let world = World::new(name, id_type, 400, 30, DIM).await;
        let user = 21;
        let best = exact_top(&world.users[user * DIM..][..DIM], &world.items, DIM, &[6]).remove(0);
        let items = world.item_ids.clone();
        let item = |rank: usize| items.get(best[rank].1 as usize);
        let world = world
            .pairs("seen", &[(user, best[0].1 as usize), (user, best[2].1 as usize), (3, best[1].1 as usize)])
            .await;
        let release = published(&world).await;
        let who = Who::User(world.user_ids.get(user));
        assert_eq!(ask(&world, &release, who.clone(), 4, false).await.unwrap(), [item(0), item(1), item(2), item(3)]);
        assert_eq!(ask(&world, &release, who.clone(), 4, true).await.unwrap(), [item(1), item(3), item(4), item(5)]);
        assert_eq!(ask(&world, &release, who, 1000, true).await.unwrap().len(), 398);
    }
}

#[tokio::test]
async fn features_of_an_unknown_user_give_what_the_same_row_gives() {
    let world = World::new("recommend-features", IdType::Bigint, 300, 10, DIM).await;
    let release = published(&world).await;
    let row: serde_json::Map<_, _> = (0..DIM).map(|at| (format!("f{at}"), world.users[4 * DIM + at].into())).collect();
    let by_features = ask(&world, &release, Who::Features(row.into()), 20, true).await.unwrap();
    assert_eq!(by_features, ask(&world, &release, Who::User(world.user_ids.get(4)), 20, true).await.unwrap());
    let error = ask(&world, &release, Who::Features(serde_json::json!({"g0": 1.0})), 20, true).await.unwrap_err();
    assert!(error.message.contains("`g0` is not a column of `user_features`, did you mean `f0`?"), "{error}");
}

#[tokio::test]
async fn a_user_without_a_row_is_named() {
    let world = World::new("recommend-absent", IdType::Bigint, 50, 5, DIM).await;
    let release = published(&world).await;
    let error = ask(&world, &release, Who::User(Id::Int(999)), 3, true).await.unwrap_err();
    assert_eq!(error.kind, Kind::Usage);
    assert_eq!(
        error.message,
        "user `999` is not in `user_features` of release 7 (2026-11-20); give the features of a new user with --features FILE"
    );
}

/// The rows of `previous_candidates` that a release makes for the world's users: user, item, rank.
async fn candidates(world: &World, release: &Release) -> Vec<(Id, Id, i64)> {
    let store = &world.job.output;
    let users = &world.samples.record.facts.tables["user_features"].files;
    let schema = candidates::schema(&world.user_ids, &world.item_ids);
    let mut writer = crate::storage::ShardWriter::new(store, "previous_candidates", schema, 1000);
    let rows = candidates::write(&world.job, release, &world.tower, users, &mut writer).await.unwrap();
    let files = writer.finish().await.unwrap();
    let mut found = Vec::new();
    for batch in crate::storage::read_parquet(store, sorted_parts(&files), None).await.unwrap() {
        let ids = |name: &str, of: &Ids| {
            let mut ids = Ids::new(of.id_type());
            ids.extend_from(batch.column_by_name(name).unwrap(), name).unwrap();
            ids
        };
        let (users, items) = (ids("user_id", &world.user_ids), ids("item_id", &world.item_ids));
        let ranks = batch.column_by_name("rank").unwrap().as_primitive::<arrow::datatypes::Int64Type>();
        found.extend((0..users.len()).map(|at| (users.get(at), items.get(at), ranks.value(at))));
    }
    assert_eq!(found.len() as u64, rows);
    found
}

#[tokio::test]
async fn candidates_of_many_users_are_what_each_of_them_would_get() {
    for (name, id_type) in [("candidates-int", IdType::Bigint), ("candidates-text", IdType::Varchar)] {
        let world = World::new(name, id_type, 400, 30, DIM).await.set(&["samples.previous_candidates.per_user=7"]);
        let release = published(&world).await;
        let found = candidates(&world, &release).await;
        assert_eq!(found.len(), 30 * 7);
        for (at, rows) in found.chunks(7).enumerate() {
            let user = world.user_ids.get(at);
            let alone = ask(&world, &release, Who::User(user.clone()), 7, false).await.unwrap();
            let wanted: Vec<_> = alone.into_iter().zip(1..).map(|(item, rank)| (user.clone(), item, rank)).collect();
            assert_eq!(rows, wanted);
        }
    }
}

#[tokio::test]
async fn a_shard_holds_a_part_of_the_catalogue_and_ranks_go_deeper() {
    let settings = ["samples.previous_candidates.per_user=400", "samples.previous_candidates.shards=4"];
    let world = World::new("candidates-shard", IdType::Bigint, 400, 5, DIM).await.set(&settings);
    let release = published(&world).await;
    let found = candidates(&world, &release).await;
    let items: std::collections::HashSet<_> = found.iter().map(|row| row.1.clone()).collect();
    assert!((60..140).contains(&items.len()) && found.len() == 5 * items.len(), "{} items", items.len());
    let all = ask(&world, &release, Who::User(world.user_ids.get(0)), 400, false).await.unwrap();
    let inside: Vec<_> = all.into_iter().filter(|item| items.contains(item)).collect();
    let first: Vec<_> = found.iter().take(items.len()).map(|row| row.1.clone()).collect();
    assert_eq!(first, inside);
    let other = candidates(&World { job: world.job.at("2026-11-21".parse().unwrap()), ..world }, &release).await;
    let others: std::collections::HashSet<_> = other.iter().map(|row| row.1.clone()).collect();
    assert!(others.is_disjoint(&items) || others == items);
}
