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
