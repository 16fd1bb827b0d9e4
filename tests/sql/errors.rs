//! The texts of errors, as a user sees them.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use twotower::recommend::LastRelease;
use twotower::samples;
use twotower::storage::ShardWriter;

use crate::support::World;

/// One Parquet file below `folder`.
async fn parquet(world: World, folder: &str, columns: Vec<(&str, ArrayRef)>) -> World {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ShardWriter::new(&world.store, folder, batch.schema(), 1000);
    writer.write(&batch).await.unwrap();
    writer.finish().await.unwrap();
    world
}

/// A usual world whose `positives.sql` is `text`.
async fn with_positives(name: &str, text: &str) -> String {
    World::new(name).usual().await.sql("positives.sql", text).await.error().await
}

fn snapshot(name: &str, cases: &[(&str, String)]) {
    let text: Vec<String> = cases.iter().map(|(what, error)| format!("# {what}\n{error}")).collect();
    insta::assert_snapshot!(name, text.join("\n\n"));
}

#[tokio::test]
async fn mistakes_in_sql_are_named_with_file_line_and_column() {
    let select = "select 1 as sample_id, user_id, item_id, event_time\nfrom impressions\n";
    let circle = World::new("circle").usual().await.sql("positives.sql", "select * from a").await;
    let circle =
        circle.sql("a.sql", "select * from b").await.sql("b.sql", "-- back again\nselect * from positives").await;
    snapshot(
        "sql",
        &[
            ("bad SQL", with_positives("bad", "select user_id,\n  (item_id + 1\nfrom impressions").await),
            ("unclosed text", with_positives("unclosed", "select 'a\nfrom impressions").await),
            ("unknown table", with_positives("unknown-table", "select *\nfrom impresions").await),
            (
                "missing column",
                with_positives("missing-column", "select 1 as sample_id, i.userid\nfrom impressions i").await,
            ),
            (
                "unknown function",
                with_positives("function", "select\n  stabl_hash(1) as sample_id\nfrom impressions").await,
            ),
            (
                "wrong types",
                with_positives("types", &format!("{select}where clicked and\n  user_id + interval '1 day' > 3")).await,
            ),
            ("unknown parameter", with_positives("param", &format!("{select}where user_id > $min_user")).await),
            ("circle", circle.error().await),
            ("two statements", with_positives("two", "select 1;\nselect 2").await),
            ("nothing", with_positives("nothing", "-- later").await),
            ("not reproducible", with_positives("random", &format!("{select}where random() < 0.5")).await),
        ],
    );
}

#[tokio::test]
async fn sql_can_neither_write_nor_read_outside_the_sources() {
    let mut cases = Vec::new();
    for (at, text) in [
        "create table a as select 1",
        "create external table a stored as parquet location '/tmp/a'",
        "insert into impressions select * from impressions",
        "copy impressions to '/tmp/a.parquet'",
        "drop table impressions",
        "set datafusion.execution.batch_size = 1",
        "with a as (insert into impressions select 1 returning *) select * from a",
        "select * into a from impressions",
        "select * from '/etc/passwd.csv'",
        "select * from \"s3://bucket/file.parquet\"",
        "select * from read_csv('/etc/passwd')",
        "select * from information_schema.tables",
    ]
    .into_iter()
    .enumerate()
    {
        cases.push((text, with_positives(&format!("write-{at}"), text).await));
    }
    snapshot("fences", &cases);
}

#[tokio::test]
async fn broken_sources_are_named_with_their_file_or_partition() {
    let partitioned = "format: csv, partition: dt, days: -1..0";
    let line = "user_id,item_id,event_time,clicked\n1,10,2026-11-20 08:00:00,true\n";
    let missing = World::new("missing").usual().await.source("impressions", partitioned);
    let missing = missing.put("own/impressions/dt=2026-11-19/a.csv", line).await;
    let empty = World::new("empty").usual().await.source("impressions", partitioned);
    let empty = empty
        .put("own/impressions/dt=2026-11-19/a.csv", line)
        .await
        .put("own/impressions/dt=2026-11-20/_SUCCESS", "")
        .await;
    let skipped = World::new("skipped").usual().await.source("impressions", &format!("{partitioned}, missing: skip"));
    let skipped = skipped.put("own/impressions/dt=2026-11-19/a.csv", line).await;
    let ready = World::new("ready").usual().await.source("impressions", &format!("{partitioned}, ready: _SUCCESS"));
    let ready = ready.put("own/impressions/dt=2026-11-19/a.csv", line).await;
    let corrupt = World::new("corrupt").usual().await.source("items", "format: parquet");
    let corrupt = corrupt.put("own/items/part-0.parquet", "PAR1 this is no footer").await;
    let column = World::new("column").usual().await.source("users", "columns: {user_id: bigint, country: varchar}");
    let column = parquet(
        column,
        "own/users",
        vec![
            ("user_id", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
            ("contry", Arc::new(StringArray::from(vec!["de"]))),
        ],
    )
    .await;
    let wrong = World::new("wrong").usual().await.source("users", "columns: {user_id: bigint}");
    let wrong =
        parquet(wrong, "own/users", vec![("user_id", Arc::new(StringArray::from(vec!["one"])) as ArrayRef)]).await;
    let value = World::new("value").usual().await.put("items/part-1.csv", "item_id,topic\n14,a\nfifteen,b\n").await;
    let marker = World::new("differ").usual().await.source("users", "format: parquet");
    let marker =
        parquet(marker, "own/users/a", vec![("user_id", Arc::new(Int32Array::from(vec![1])) as ArrayRef)]).await;
    let marker =
        parquet(marker, "own/users/b", vec![("user_id", Arc::new(StringArray::from(vec!["1"])) as ArrayRef)]).await;
    let future = World::new("future").usual().await.given("future_impressions", &[]).await;
    let future = future
        .sql("positives.sql", "select 1 as sample_id, *\nfrom a")
        .await
        .sql("a.sql", "select * from future_impressions")
        .await;
    snapshot(
        "sources",
        &[
            ("missing partition", missing.error().await),
            ("empty partition", empty.error().await),
            ("missing partition that may be skipped", skipped.error().await),
            ("partition that is not ready", ready.error().await),
            ("corrupt parquet", corrupt.error().await),
            ("missing column", column.error().await),
            ("wrong type", wrong.error().await),
            ("value that is not of its type", value.error().await),
            ("files that differ", marker.error().await),
            ("a source after the date read by training", future.error().await),
        ],
    );
}

#[tokio::test]
async fn broken_contracts_are_named_with_table_and_column() {
    let no_clicks = World::new("no-positives").usual().await;
    let no_clicks = no_clicks
        .put("impressions/part-0.csv", "user_id,item_id,event_time,clicked\n1,10,2026-11-20 08:00:00,false\n")
        .await;
    let two_types = World::new("two-types").usual().await;
    let two_types = two_types.sql("item_features.sql", "select cast(item_id as varchar) as item_id from items").await;
    let nulls = World::new("nulls")
        .usual()
        .await
        .put("impressions/part-1.csv", "user_id,item_id,event_time,clicked\n,11,2026-11-20 08:00:00,true\n")
        .await;
    let audit = World::new("audit")
        .usual()
        .await
        .sql("audits/few_items.sql", "select item_id, topic from items where item_id > 11")
        .await;
    let columns = "user_id, item_id, event_time\nfrom impressions where clicked";
    snapshot(
        "contracts",
        &[
            ("null ids", nulls.error().await),
            (
                "duplicated sample ids",
                with_positives("duplicates", &format!("select 7 as sample_id, [1] as history, {columns}")).await,
            ),
            ("no positives at all", no_clicks.error().await),
            ("ids of two types", two_types.error().await),
            (
                "missing column",
                with_positives("lacks", "select user_id as sample_id, item_id, event_time from impressions").await,
            ),
            ("wrong type", with_positives("contract-type", &format!("select\n  'a' as sample_id,\n  {columns}")).await),
            (
                "a type that no stage reads",
                with_positives("struct", &format!("select 1 as sample_id, named_struct('a', 1) as s, {columns}")).await,
            ),
            ("audit", audit.error().await),
        ],
    );
}

#[tokio::test]
async fn what_was_shown_and_not_clicked_alone_is_warned_of() {
    let world = World::new("shown-alone").usual().await.set("samples.shown_negatives.per_positive=2");
    let warnings = async |world: &World| samples::check(&world.job(), &LastRelease::shared()).await.unwrap();
    assert_eq!(warnings(&world).await, [""; 0]);
    let alone = warnings(&world.set("samples.random_negatives.per_positive=0")).await;
    assert!(alone[0].contains("what was shown and not clicked alone, which is never a good only source"), "{alone:?}");
}

#[tokio::test]
async fn a_ranker_that_does_not_fit_is_told_before_a_row_is_read() {
    let model = |file: &str| format!("{}/tests/rankers/{file}", env!("CARGO_MANIFEST_DIR"));
    let input = "inputs: {features: {columns: [a, b, c, d]}}";
    let dense = format!("rankers.mine={{path: '{}', {input}}}", model("torch_dense.onnx"));
    let world = async |name: &str, setting: &str, call: &str| {
        let text = format!("select user_id, item_id,\n  {call} as score\nfrom impressions");
        let world = World::new(&format!("ranker-{name}")).usual().await.sql("scored.sql", &text).await.set(setting);
        world.error().await.replace(env!("CARGO_MANIFEST_DIR"), "")
    };
    let no_table = World::new("ranker-logged").usual().await.set("samples.hard_negatives.from=ranker_scores");
    let previous = World::new("ranker-previous").usual().await.set("samples.hard_negatives.from=previous");
    let previous = previous.set("samples.previous_candidates.missing=fail");
    snapshot(
        "rankers",
        &[
            ("too few arguments", world("few", &dense, "mine(1.0, 2.0, 3.0)").await),
            ("a text", world("text", &dense, "mine(1.0, 2.0, 3.0, 'de')").await),
            ("another name", world("name", &dense, "mien(1.0, 2.0, 3.0, 4.0)").await),
            ("no such file", world("file", &dense.replace("dense", "dens"), "1").await),
            ("no model", world("json", &dense.replace(".onnx", ".json"), "1").await),
            ("another input", world("input", &dense.replace("features", "feature"), "1").await),
            ("a function of the engine", world("abs", &dense.replace("mine", "abs"), "1").await),
            ("no logged scores", no_table.error().await),
            ("no release", previous.error().await),
        ],
    );
}

#[tokio::test]
async fn check_explain_and_plan_read_no_row() {
    let world =
        World::new("check").usual().await.source("unused", "format: csv").put("own/unused/a.csv", "a\n1\n").await;
    let job = world.job();
    let warnings = samples::check(&job, &LastRelease::shared()).await.unwrap();
    assert_eq!(warnings, ["source `unused` is read by no table"]);
    let text = samples::explain(&job, &LastRelease::shared(), Some("positives")).await.unwrap();
    assert!(text.contains("histories(c.items, c.moments, 50)"), "{text}");
    assert!(text.contains("DataSourceExec") && text.contains("part-0.csv"), "{text}");
    assert!(
        samples::explain(&job, &LastRelease::shared(), Some("positivs"))
            .await
            .unwrap_err()
            .to_string()
            .contains("did you mean `positives`")
    );
    assert!(job.output.list("").await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_feature_cannot_read_is_told_before_a_row_is_read() {
    let missing = World::new("feature").usual().await.set("features.user.age={kind: numeric}");
    let meant = World::new("feature-name").usual().await.set("features.user.contry={kind: categorical}");
    let types = World::new("feature-type").usual().await.set("features.item.topic={kind: numeric}");
    let weights = World::new("feature-weights").usual().await.set("features.user.history.weights=how_much");
    let own = World::new("feature-own").usual().await.set("features.user.country={kind: categorical}");
    let own = own.sql("user_features.sql", "select user_id, [1] as history\nfrom users").await;
    snapshot(
        "features",
        &[
            ("missing column", missing.error().await),
            ("a column misspelt", meant.error().await),
            ("another type", types.error().await),
            ("weights of a list", weights.error().await),
            ("in a table of one's own", own.error().await),
        ],
    );
}
