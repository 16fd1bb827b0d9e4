//! What makes samples worth of trust: leaks that audits find, figures that were counted, sources that drifted.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt64Array,
};
use parquet::arrow::ArrowWriter;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::json;
use twotower::artifacts::{AuditVerdict, RankBand, Spread};
use twotower::recommend::LastRelease;
use twotower::samples;
use twotower::storage::ShardWriter;

use crate::support::World;

/// Two users with clicks of three days, who were shown little, and features of them a day.
async fn world(name: &str) -> World {
    let impressions = json!([
        [1, 10, "2026-11-18 08:00:00", true],
        [1, 11, "2026-11-19 08:00:00", true],
        [1, 12, "2026-11-20 08:00:00", true],
        [2, 10, "2026-11-20 10:00:00", true],
        [2, 13, "2026-11-20 11:00:00", false],
    ]);
    let rows = |rows: serde_json::Value| serde_json::from_value::<Vec<Vec<serde_json::Value>>>(rows).unwrap();
    let world = World::new(name).given("impressions", &rows(impressions)).await;
    let world = world.given("items", &rows(json!([[10, "a"], [11, "b"], [12, "c"], [13, "d"]]))).await;
    world.given("users", &rows(json!([[1, "de"], [2, "fr"]]))).await.set("samples.holdout_share=0")
}

/// The team's own positives, with `history` as the whole of what a user ever clicked.
const LEAK: &str = "
select stable_hash($seed, l.user_id, l.item_id, l.event_time) as sample_id, l.user_id, l.item_id, l.event_time, h.history
from liked as l
join (select user_id, array_agg(item_id order by event_time) as history from liked group by user_id) as h
    on h.user_id = l.user_id";

#[tokio::test]
async fn a_history_that_knows_what_comes_is_found() {
    let error = world("leak").await.sql("positives.sql", LEAK).await.error().await;
    assert!(error.starts_with("[78] audit `history_after_the_event` found "), "{error}");
    assert!(error.contains(r#""item_id":12"#) && error.contains("samples.audits.NAME: warn"), "{error}");
    let warned = world("leak-warned").await.sql("positives.sql", LEAK).await;
    let built = warned.set("samples.audits.history_after_the_event=warn").build().await.unwrap();
    let outcome = built.written.facts.audits.iter().find(|audit| audit.name == "history_after_the_event").unwrap();
    // item 10: 11, 12 and itself; 11: 12 and itself; 12: itself; the other user's 10: itself
    assert_eq!((outcome.outcome, outcome.rows, outcome.examples.len()), (AuditVerdict::Warned, 7, 5));
}

#[tokio::test]
async fn a_join_that_asks_for_no_time_is_warned_of() {
    let world = world("timeless").await.source("users", "format: csv, partition: dt, days: -1..0");
    let line = "user_id,country\n1,de\n2,fr\n";
    let world = world.put("own/users/dt=2026-11-19/a.csv", line).await.put("own/users/dt=2026-11-20/a.csv", line).await;
    // the built-in files ask for the time
    assert_eq!(samples::check(&world.job(), &LastRelease::shared()).await.unwrap(), [""; 0]);
    let text = "select sample_id, user_id, item_id, event_time, [1] as history, country\nfrom (select 1 as sample_id, * from liked)\njoin users using (user_id)";
    let world = world.sql("positives.sql", text).await;
    let warnings = samples::check(&world.job(), &LastRelease::shared()).await.unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let place = "/sql/positives.sql:3:6: source `users` has several rows for one thing (a window of days, `-1..0`)";
    assert!(warnings[0].contains(place) && warnings[0].contains("hold `dt` against"), "{warnings:?}");
}

#[tokio::test]
async fn a_level_for_an_audit_that_is_not_there_is_a_mistake() {
    let error = world("audit-name").await.set("samples.audits.class_ratios=off").error().await;
    assert!(
        error.contains("samples.audits.class_ratios: no audit has this name, did you mean `class_ratio`?"),
        "{error}"
    );
}

#[tokio::test]
async fn tables_are_measured() {
    let world = world("measured").await.set("samples.random_negatives.per_positive=3");
    let world = world.set("samples.random_negatives.power=0");
    let scores: Vec<Vec<serde_json::Value>> =
        (1..=2).flat_map(|user| (10..=13).map(move |item| vec![json!(user), json!(item), json!(20 - item)])).collect();
    let world = world.given("ranker_scores", &scores).await;
    let world = ["rank_from=1", "random_per_hard=1", "per_positive=1"]
        .iter()
        .fold(world, |world, set| world.set(&format!("samples.hard_negatives.{set}")));
    let facts = world.build().await.unwrap().written.facts;
    let found = &facts.statistics;
    let positives = &found.tables["positives"];
    assert_eq!((positives.rows, positives.users, positives.items), (4, Some(2), Some(3)));
    assert_eq!(positives.per_user, Some(Spread { min: 1, p50: 1, p90: 3, p99: 3, max: 3, mean: 2.0 }));
    let days: Vec<_> = positives.days.iter().map(|(day, rows)| (day.to_string(), *rows)).collect();
    assert_eq!(days, [("2026-11-18".into(), 1), ("2026-11-19".into(), 1), ("2026-11-20".into(), 2)]);
    assert_eq!(found.tables["user_features"].users, Some(2));
    assert_eq!(found.tables["item_features"].items, Some(4));
    // user 1 knows all but item 13, user 2 all but 11 and 12
    let random = &found.tables["random_negatives"];
    assert_eq!(random.rows, facts.tables["random_negatives"].rows);
    assert_eq!(random.outside_catalogue, Some(0));
    let per_sample = random.per_sample.unwrap();
    assert!(per_sample.max <= 3 && per_sample.mean * random.samples.unwrap() as f64 == random.rows as f64);
    assert_eq!(found.negatives_per_positive["random_negatives"], random.rows as f64 / 4.0);
    let shares: f64 = found.popularity.iter().map(|band| band.shares["positives"]).sum();
    assert!((shares - 1.0).abs() < 1e-12, "{:?}", found.popularity);
    // item 10 was liked twice
    assert_eq!((found.popularity[0].items, found.popularity[0].shares["positives"]), (1, 0.5));
    let ranked: u64 = found.hard_negative_ranks.iter().map(|band| band.rows).sum();
    assert_eq!(ranked, found.tables["hard_negatives"].rows);
    assert!(ranked > 0 && found.hard_negative_ranks.iter().all(|RankBand { from, to, .. }| 1 <= *from && *to <= 4));
    let hits = found.accidental_hits.as_ref().unwrap();
    assert!(hits.pairs > 0.0 && hits.pairs < hits.by_batch_size[&256] && hits.by_batch_size[&256] <= 1.0, "{hits:?}");
}

/// Writes one Parquet file below `folder`.
async fn parquet(world: World, folder: &str, columns: Vec<(&str, ArrayRef)>) -> World {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ShardWriter::new(&world.store, folder, batch.schema(), 1000);
    writer.write(&batch).await.unwrap();
    writer.finish().await.unwrap();
    world
}

#[tokio::test]
async fn columns_that_drifted_are_named_with_the_first_partition_that_has_it() {
    let settings = |format: &str| {
        format!(
            "format: {format}, partition: dt, days: -3..0, columns: {{user_id: bigint, country: varchar, age: bigint}}"
        )
    };
    let folder = |day: u32| format!("own/users/dt=2026-11-{day}");
    let sql = "select user_id, country, age from users where dt = $date";
    let expected = |column: &str, file: &str, what: &str| {
        (
            format!("`{column}`"),
            format!("memory://store/{}/{file}", folder(19)),
            what.to_string(),
            "the first of 2 such files of 4",
        )
    };
    let mut cases = Vec::new();
    for (format, name) in [("parquet", "part-00000.parquet"), ("csv", "a.csv"), ("json", "a.json")] {
        for (kind, column, what) in [
            ("added", "", ""),
            ("missing", "country", "missing column `country` (varchar)"),
            ("retyped", "age", "found varchar, expected bigint"),
        ] {
            let mut world = world(&format!("drift-{format}-{kind}")).await.source("users", &settings(format));
            for day in 17..=20 {
                let drifted = day >= 19;
                let (country, age) =
                    (!(drifted && kind == "missing"), if drifted && kind == "retyped" { "old" } else { "30" });
                let added = drifted && kind == "added";
                world = match format {
                    "parquet" => {
                        let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
                        let number = || Arc::new(Int64Array::from(vec![30])) as ArrayRef;
                        let mut columns = vec![("user_id", number())];
                        columns.extend(country.then(|| ("country", text("de"))));
                        columns.push(("age", if age == "30" { number() } else { text(age) }));
                        columns.extend(added.then(|| ("more", text("x"))));
                        parquet(world, &folder(day), columns).await
                    }
                    "csv" => {
                        let (head, cell) = if country { ("country,", "de,") } else { ("", "") };
                        let (more, x) = if added { (",more", ",x") } else { ("", "") };
                        let text = format!("user_id,{head}age{more}\n1,{cell}{age}{x}\n");
                        world.put(&format!("{}/{name}", folder(day)), text).await
                    }
                    _ => {
                        let mut row = json!({ "user_id": 1, "age": if age == "30" { json!(30) } else { json!(age) } });
                        if country {
                            row["country"] = "de".into();
                        }
                        if added {
                            row["more"] = "x".into();
                        }
                        world.put(&format!("{}/{name}", folder(day)), row.to_string() + "\n").await
                    }
                };
            }
            let world = world.sql("copy.sql", sql).await;
            if kind == "added" {
                let found = world.build().await.unwrap_or_else(|error| panic!("{format}: {error}"));
                assert_eq!(found.written.facts.tables["copy"].rows, 1);
                continue;
            }
            cases.push((world.error().await, expected(column, name, what)));
        }
    }
    for (error, (column, file, what, first)) in cases {
        for part in [column.as_str(), &file, &what, first] {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    }
}

/// Clicks of four days in files that nobody declared the columns of, with `clicked` where `has` says so.
async fn undeclared(name: &str, has: fn(u32) -> bool) -> World {
    let mut world = world(name).await.source("impressions", "format: parquet, partition: dt, days: -3..0");
    for day in 17..=20 {
        let number = |value| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
        let time = Arc::new(StringArray::from(vec![format!("2026-11-{day} 08:00:00")])) as ArrayRef;
        let mut columns =
            vec![("user_id", number(1)), ("item_id", number(10 + i64::from(day % 4))), ("event_time", time)];
        columns.extend(has(day).then(|| ("clicked", Arc::new(BooleanArray::from(vec![true])) as ArrayRef)));
        world = parquet(world, &format!("own/impressions/dt=2026-11-{day}"), columns).await;
    }
    world.sql("copy.sql", "select user_id, item_id from impressions").await
}

#[tokio::test]
async fn a_column_that_later_partitions_lost_is_no_column_of_nulls() {
    // the click times are text, as the files have them
    let liked = "select user_id, item_id, cast(event_time as timestamp) as event_time, false as held_out from impressions where clicked";
    let lost = undeclared("lost", |day| day < 19).await.sql("liked.sql", liked).await;
    let error = lost.error().await;
    for part in [
        "source `impressions`: missing column `clicked` in ",
        "dt=2026-11-19/part-00000.parquet (the first of 2 such files of 4), which ",
        "dt=2026-11-17/part-00000.parquet has",
    ] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    // who does not read it does not miss it; and one that came later was added
    let unread = undeclared("lost-unread", |day| day < 19).await;
    unread.sql("liked.sql", &liked.replace(" where clicked", "")).await.build().await.unwrap();
    undeclared("gained", |day| day >= 19).await.sql("liked.sql", liked).await.build().await.unwrap();
}

#[tokio::test]
async fn what_a_ranker_could_not_score_has_no_rank() {
    let scores = json!([[1, 13, 0.5], [1, 12, "NaN"], [1, 11, null], [2, 12, "NaN"]]);
    let scores: Vec<Vec<serde_json::Value>> = serde_json::from_value(scores).unwrap();
    let mut world = world("no-score").await.given("ranker_scores", &scores).await;
    for set in ["rank_from=1", "random_per_hard=1", "per_positive=1", "order=top"] {
        world = world.set(&format!("samples.hard_negatives.{set}"));
    }
    let built = world.set("samples.random_negatives.per_positive=20").build().await.unwrap();
    let facts = &built.written.facts;
    assert_eq!(facts.statistics.dropped["no_score"], 3, "{:?}", facts.statistics.dropped);
    // one for each of the first user's three clicks, all of the first rank
    let ranks = &facts.statistics.hard_negative_ranks;
    assert!(matches!(ranks[..], [RankBand { from: 1, to: 1, rows: 3 }]), "{ranks:?}");
}

#[tokio::test]
async fn since_when_users_are_known_is_no_number() {
    let world = world("number-time").await.source("users", "format: csv, time: updated_at");
    let world = world.put("own/users/a.csv", "user_id,country,updated_at\n1,de,1763510400\n2,fr,1763510400\n").await;
    let error = world.error().await;
    assert!(
        error.contains("sources.users.time: column `updated_at` is bigint, expected a timestamp or a date"),
        "{error}"
    );
}

#[tokio::test]
async fn a_value_far_down_in_a_file_is_named_with_its_column() {
    let world = world("deep").await;
    // types are looked for in the first thousand lines
    let mut text = String::from("item_id,topic\n");
    (100..2000).for_each(|item| text += &format!("{item},a\n"));
    let error = world.put("items/part-1.csv", text + "fifteen,b\n").await.error().await;
    let part = "source `items`: column `item_id` in memory://store/items/part-1.csv has values that are not bigint";
    assert!(error.contains(part) && error.contains("fifteen"), "{error}");
}

#[tokio::test]
async fn a_column_that_changed_its_type_is_named_and_not_the_sql_that_reads_it() {
    let settings = |format: &str| format!("format: {format}, partition: dt, days: -3..0");
    let expected = |source: &str, column: &str, file: &str, found: &str| {
        let folder = format!("memory://store/own/{source}/dt=2026-11");
        format!(
            "[78] source `{source}`: column `{column}` in {folder}-19/{file}: found {found}, expected bigint as in \
             {folder}-17/{file} (the first of 2 such files of 4); mend the file, or declare the column's type in `sources.{source}.columns`"
        )
    };
    // a text among numbers, which takes the sum from a table that reads it; `zip` changed too and is read by nobody
    let mut csv = world("retyped-csv").await.source("prices", &settings("csv"));
    for day in 17..=20 {
        let row = if day < 19 { "1,10,2" } else { "1,D-10,cheap" };
        csv = csv.put(&format!("own/prices/dt=2026-11-{day}/a.csv"), format!("item_id,zip,price\n{row}\n")).await;
    }
    let sums = |price: &str| format!("select item_id, {price} as price from dear group by item_id");
    let csv = csv.sql("dear.sql", "select item_id, price from prices").await;
    let csv = csv.sql("sums.sql", &sums("sum(price)")).await;
    let error = csv.error().await;
    assert!(error.starts_with(&expected("prices", "price", "a.csv", "varchar")), "{error}");
    assert!(error.contains("while planning the SQL") && error.contains("sql/sums.sql:1:17"), "{error}");
    // a mistake of the SQL stays one, and SQL that takes what is there is none
    let csv = csv.sql("sums.sql", &sums("sum(prize)")).await;
    let error = csv.error().await;
    assert!(error.starts_with("[78] memory://store/sql/sums.sql:1:21: no column `prize`"), "{error}");
    let built = csv.sql("sums.sql", &sums("max(price)")).await.build().await.unwrap();
    assert_eq!(built.rows("sums", &["price".into()]).await, [[json!("cheap")]]);
    // ids that became numbers with a point break the contract of a table
    let mut doubles = world("retyped-ids").await.source("items", &settings("parquet"));
    for day in 17..=20 {
        let id = match day < 19 {
            true => Arc::new(Int64Array::from(vec![10])) as ArrayRef,
            false => Arc::new(Float64Array::from(vec![10.0])),
        };
        doubles = parquet(doubles, &format!("own/items/dt=2026-11-{day}"), vec![("item_id", id)]).await;
    }
    let error = doubles.error().await;
    assert!(error.starts_with(&expected("items", "item_id", "part-00000.parquet", "double")), "{error}");
}

#[tokio::test]
async fn ids_that_bigint_does_not_hold_are_texts_and_said_to_be() {
    const LARGE: u64 = (1 << 63) + 5;
    let csv = format!("user_id\n7\n{LARGE}\n");
    let json = format!("{{\"user_id\": 7}}\n{{\"user_id\": {LARGE}}}\n");
    let things = async |name: &str, format: &str, columns: &str| {
        let world = world(&format!("large-{name}")).await;
        let world = world.source("things", &format!("format: {format}{columns}"));
        let world = match format {
            "parquet" => {
                let ids = Arc::new(UInt64Array::from(vec![7, LARGE])) as ArrayRef;
                parquet(world, "own/things", vec![("user_id", ids)]).await
            }
            "csv" => world.put("own/things/a.csv", csv.as_str()).await,
            _ => world.put("own/things/a.json", json.as_str()).await,
        };
        world.sql("copy.sql", "select user_id from things").await
    };
    let bigint = ", columns: {user_id: bigint}";
    for (name, format, columns, file) in [
        ("undeclared", "parquet", "", "part-00000.parquet"),
        ("parquet", "parquet", bigint, "part-00000.parquet"),
        ("csv", "csv", bigint, "a.csv"),
        ("json", "json", bigint, "a.json"),
    ] {
        let error = things(name, format, columns).await.error().await;
        let what = format!(
            "[78] source `things`: column `user_id` in memory://store/own/things/{file}: found {LARGE}, expected at most \
             9223372036854775807, the largest bigint; declare the column `varchar`"
        );
        assert!(error.starts_with(&what), "{error}");
    }
    for format in ["parquet", "csv"] {
        let world = things(&format!("{format}-text"), format, ", columns: {user_id: varchar}").await;
        let mut rows = world.build().await.unwrap().rows("copy", &["user_id".into()]).await;
        rows.sort_by_key(|row| row[0].to_string());
        assert_eq!(rows, [[json!("7")], [json!(LARGE.to_string())]], "{format}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_page_is_damage_of_its_file_and_not_of_types_or_sql() {
    let columns: [(&str, ArrayRef); 2] = [
        ("item_id", Arc::new(Int64Array::from_iter_values((0..5000).map(|row| 100 + row * 7919 % 10_007)))),
        ("topic", Arc::new(StringArray::from_iter_values((0..5000).map(|row| format!("topic-{}", row * 31 % 97))))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let whole = writer.into_inner().unwrap();
    let reader = SerializedFileReader::new(bytes::Bytes::from(whole.clone())).unwrap();
    let middle = |from: usize, to: usize| (from + to) / 2..(from + to) / 2 + 16;
    let mut wounds = vec![("footer", None, whole.len() - 200..whole.len() - 100)];
    for (at, column) in ["item_id", "topic"].into_iter().enumerate() {
        let chunk = reader.metadata().row_group(0).column(at);
        let (start, length) = chunk.byte_range();
        let (dictionary, data) = (chunk.dictionary_page_offset().unwrap() as usize, chunk.data_page_offset() as usize);
        wounds.push(("data page", Some(column), middle(data, (start + length) as usize)));
        if column == "topic" {
            wounds.push(("dictionary page", Some(column), middle(dictionary, data)));
        }
        // lengths and encoding of a page stand before it
        wounds.push(("head of the dictionary page", Some(column), dictionary + 2..dictionary + 10));
    }
    for (at, (place, column, bytes)) in wounds.into_iter().enumerate() {
        let mut damaged = whole.clone();
        damaged[bytes].iter_mut().for_each(|byte| *byte ^= 0x20);
        let world = World::new(&format!("damaged-page-{at}")).usual().await.source("items", "format: parquet");
        let error = world.put("own/items/a.parquet", damaged).await.error().await;
        let what = match column {
            Some(column) => format!("is damaged: its column `{column}` cannot be decoded; write it anew"),
            None => "is not a readable Parquet file; write it anew".into(),
        };
        let expected = format!("[78] source `items`: memory://store/own/items/a.parquet {what}");
        assert!(error.starts_with(&expected), "{place}: {error}");
    }
}
