use super::guess::Role;
use super::*;

/// A file of CSV in a memory store of its own, looked at.
async fn csv(name: &str, text: &str) -> Inspected {
    let store = crate::storage::open(&format!("memory://init-{name}/table")).unwrap();
    store.put("part-0.csv", text.to_string()).await.unwrap();
    inspect(name, &format!("memory://init-{name}/table"), None).await.unwrap()
}

/// JSON lines, which keep a text of digits a text.
async fn json(name: &str, lines: impl IntoIterator<Item = String>) -> Inspected {
    let store = crate::storage::open(&format!("memory://init-{name}/table")).unwrap();
    store.put("part-0.json", lines.into_iter().collect::<Vec<_>>().join("\n")).await.unwrap();
    inspect(name, &format!("memory://init-{name}/table"), None).await.unwrap()
}

/// A log of 40 rows whose column `name` has `values`, as JSON writes them, in turn.
async fn log_of(test: &str, name: &str, values: &[&str]) -> Inspected {
    let time = if name.contains("time") { "" } else { r#""ts": "2026-11-20 10:00:00", "# };
    json(
        test,
        (0..40).map(|row| format!(r#"{{"uid": {row}, "sku": 1, {time}"{name}": {}}}"#, values[row % values.len()])),
    )
    .await
}

fn map_silently(seen: &Inspected, given: Vec<(Role, String)>) -> Result<Vec<Mapped>> {
    map("impressions", roles("impressions"), seen, given, &mut Asker::silent())
}

async fn mapped(name: &str, text: &str) -> Result<Vec<Mapped>> {
    let seen = csv(name, text).await;
    map("impressions", roles("impressions"), &seen, Vec::new(), &mut Asker::silent())
}

fn expressions(mapped: &[Mapped]) -> Vec<&str> {
    mapped.iter().map(|mapped| mapped.expression.as_str()).collect()
}

#[tokio::test]
async fn columns_are_known_by_name_and_type() {
    let found = mapped("plain", "Uid,sku,tsMs,isClick\na,b,1763596800123,1\na,c,1763596800456,0\n").await.unwrap();
    assert_eq!(expressions(&found), ["\"Uid\"", "sku", "to_timestamp_millis(\"tsMs\")", "\"isClick\" = 1"]);
    let found =
        mapped("events", "member_id,product_id,at,event,created_at\n1,2,x,view,1763596800\n1,3,y,click,1763596900\n");
    let found = found.await.unwrap();
    assert_eq!(expressions(&found), ["member_id", "product_id", "to_timestamp_seconds(created_at)", "event = 'click'"]);
    let found =
        mapped("ratings", "userId,movieId,rating,timestamp\n1,2,4.5,1763596800\n1,3,2.0,1763596900\n").await.unwrap();
    assert_eq!(expressions(&found)[3], "rating >= 4");
    let found = mapped("likes", "user,item,ts\n1,2,2026-11-20 10:00:00\n").await.unwrap();
    assert_eq!(expressions(&found), ["\"user\"", "item", "ts", "true"]);
    assert_eq!(found[2].newest, Some("2026-11-20".parse().unwrap()));
}

#[tokio::test]
async fn what_cannot_be_told_is_asked_or_refused_with_the_columns() {
    let text = "who,what,when_ms,clicked\na,b,1763596800123,true\n";
    let refused = mapped("unknown", text).await.unwrap_err().to_string();
    assert!(refused.contains("--map user_id=COLUMN") && refused.contains("who (varchar)"), "{refused}");
    let seen = csv("asked", text).await;
    let mut asker = Asker::with(std::io::Cursor::new("who\nwhat\nwhen_ms\n\n"));
    let found = map("impressions", roles("impressions"), &seen, Vec::new(), &mut asker).unwrap();
    assert_eq!(expressions(&found), ["who", "what", "to_timestamp_millis(when_ms)", "clicked"]);
}

#[tokio::test]
async fn a_given_column_that_is_not_there_is_named_with_the_nearest() {
    let seen = csv("given", "uid,sku,ts\na,b,2026-11-20 10:00:00\n").await;
    let given = vec![(Role::UserId, "iud".to_string())];
    let error = map("impressions", roles("impressions"), &seen, given, &mut Asker::silent()).unwrap_err().to_string();
    assert!(error.contains("did you mean `uid`?") && error.contains("it has uid, sku, ts"), "{error}");
    let given = vec![(Role::Clicked, "sku = 'b' or true".to_string())];
    let found = map("impressions", roles("impressions"), &seen, given, &mut Asker::silent()).unwrap();
    assert_eq!(found[3].expression, "sku = 'b' or true");
}

#[tokio::test]
async fn features_follow_type_cardinality_and_name() {
    let mut text = String::from("sku,brand_id,colour,price,stock,title,tags,flag,launched,email,same,blob,item_id\n");
    for row in 0..200 {
        text += &format!(
            "s{row},{},{},{}.5,{},word {row} of many,a|b{row},{},2026-01-02 10:00:00,a{row}@b,x,u{row}x,{row}\n",
            row % 50,
            ["red", "blue"][row % 2],
            10 + row % 7,
            if row == 0 { 100_000 } else { row % 9 },
            row % 2 == 0,
        );
    }
    let seen = csv("features", &text).await;
    let given = vec![(Role::ItemId, "sku".to_string())];
    let mapped = map("items", roles("items"), &seen, given, &mut Asker::silent()).unwrap();
    let table = Table { name: "items", seen, mapped, proposals: Vec::new(), left_out: Vec::new() };
    let (proposals, left_out) = propose(&table, &mut vec!["item_id".into(), "colour".into()]);
    let lines = proposals.iter().map(|p| format!("{} {} {}", p.name, p.settings, p.why));
    let lines = lines.chain(left_out.iter().map(|(column, why)| format!("left out {column}: {why}")));
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
}

#[tokio::test]
async fn a_layout_that_is_not_read_says_which_ones_are() {
    for (name, key, said) in [
        ("year", "year=2026/month=11/a.parquet", "like `dt=2026-11-20`"),
        ("compact", "dt=20261120/a.parquet", "like `dt=2026-11-20`"),
        ("orc", "a.orc", "a format that is not read"),
        ("mixed", "a.csv", "several formats"),
    ] {
        let url = format!("memory://init-layout-{name}/t");
        let store = crate::storage::open(&url).unwrap();
        store.put(key, "x").await.unwrap();
        if name == "mixed" {
            store.put("b.json", "x").await.unwrap();
        }
        let error = inspect("logs", &url, None).await.err().unwrap().to_string();
        assert!(error.contains(said), "{name}: {error}");
    }
}

#[tokio::test]
async fn clicks_that_are_written_as_texts_are_read() {
    for (at, (values, expected)) in [
        (&[r#""0""#, r#""1""#][..], "clicked = '1'"),
        (&[r#""N""#, r#""Y""#], "clicked = 'Y'"),
        (&[r#""no""#, r#""Yes""#, r#""yes""#], "lower(clicked) = 'yes'"),
        (&[r#""False""#], "lower(clicked) = 'true'"),
        (&[r#""VIEW""#, r#""CLICK""#, r#""dislike""#], "clicked = 'CLICK'"),
        (&["1", "-1"], "clicked = 1"),
        (&["true", "false"], "clicked"),
    ]
    .into_iter()
    .enumerate()
    {
        let seen = log_of(&format!("texts-{at}"), "clicked", values).await;
        assert_eq!(map_silently(&seen, Vec::new()).unwrap()[3].expression, expected);
    }
}

#[tokio::test]
async fn a_click_column_that_cannot_be_read_does_not_make_all_rows_clicks() {
    for (name, values, found) in [
        ("event", &[r#""view""#, r#""addtocart""#][..], "`view`, `addtocart`"),
        // the clicks come later in the file
        ("action", &[r#""view""#], "`view`"),
        ("label", &["-7", "3"], "`-7`, `3`"),
        ("page_event", &[r#""VIEW_ITEM""#, r#""SHOW""#], "`VIEW_ITEM`, `SHOW`"),
    ] {
        let seen = log_of(&format!("unread-{name}"), name, values).await;
        let error = map_silently(&seen, Vec::new()).unwrap_err();
        assert_eq!(error.kind, crate::error::Kind::Usage);
        let said = error.to_string();
        for part in [format!("`{name}`"), found.to_string(), "--map clicked=…".into(), "--map clicked=true".into()] {
            assert!(said.contains(&part), "{part}: {said}");
        }
        let given = vec![(Role::Clicked, "true".to_string())];
        assert_eq!(map_silently(&seen, given).unwrap()[3].expression, "true");
    }
    // the example can be pasted into a shell
    let seen = log_of("unread-upper", "Event", &[r#""view""#]).await;
    let said = map_silently(&seen, Vec::new()).unwrap_err().to_string();
    assert!(said.contains(r#"--map "clicked=\"Event\" = 'VALUE'""#), "{said}");
    // a name that only ends like one, with values that are none
    let seen = json(
        "urls",
        (0..40).map(|row| format!(r#"{{"uid": 1, "sku": 1, "ts": "2026-11-20 10:00:00", "link_target": "/{row}"}}"#)),
    );
    assert_eq!(map_silently(&seen.await, Vec::new()).unwrap()[3].expression, "true");
}

#[tokio::test]
async fn times_are_read_however_they_are_written() {
    for (at, (values, expression, filter)) in [
        (&[r#""2026-11-17T00:01:13+0200""#][..], "cast(event_time as timestamp)", None),
        (&[r#""1763596800""#], "to_timestamp_seconds(cast(event_time as bigint))", None),
        (&[r#""1763596800.5""#], "to_timestamp_micros(cast(cast(event_time as double) * 1000000 as bigint))", None),
        (&["1763596800.25"], "to_timestamp_micros(cast(event_time * 1000000 as bigint))", None),
        (&["1763596800123.5"], "to_timestamp_millis(cast(event_time as bigint))", None),
        (
            &[&["1763596800"; 39][..], &["0"]].concat(),
            "to_timestamp_seconds(event_time)",
            Some("event_time between 1000000000 and 4199999999"),
        ),
        (
            &[&[r#""2026-11-17 00:01:13""#; 39][..], &[r#""none""#]].concat(),
            "try_cast(event_time as timestamp)",
            Some("try_cast(event_time as timestamp) is not null"),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let seen = log_of(&format!("times-{at}"), "event_time", values).await;
        let found = map_silently(&seen, Vec::new()).unwrap();
        assert_eq!((found[2].expression.as_str(), found[2].filter.as_deref()), (expression, filter));
        assert!(found[2].newest.is_some_and(|day| day.to_string().starts_with("202")), "{:?}", found[2].newest);
    }
}

#[tokio::test]
async fn a_time_that_cannot_be_read_is_not_the_day_of_the_partition() {
    for (name, column, value, example) in [
        ("slashes", "event_time", r#""17/11/2026 10:00""#, "to_timestamp(event_time, '%d/%m/%Y %H:%M:%S')"),
        ("half", "click_time", r#""17/11/2026 10:00""#, "to_timestamp(click_time, '%d/%m/%Y %H:%M:%S')"),
        ("compact", "dt", "20261120", "to_timestamp(cast(dt as varchar), '%Y%m%d')"),
    ] {
        let url = format!("memory://init-days-{name}/t");
        let store = crate::storage::open(&url).unwrap();
        let line = format!(r#"{{"uid": 1, "sku": 2, "clicked": true, "{column}": {value}}}"#);
        store.put("dt=2026-11-20/a.json", line).await.unwrap();
        let seen = inspect("logs", &url, None).await.unwrap();
        let said = map_silently(&seen, Vec::new()).unwrap_err().to_string();
        for part in [format!("`{column}`"), value.replace('"', "`"), format!("--map \"event_time={example}\"")] {
            assert!(said.contains(part.trim_matches('`')), "{part}: {said}");
        }
    }
    // how long somebody watched is no time of the day
    let url = "memory://init-days-watched/t";
    let store = crate::storage::open(url).unwrap();
    store.put("dt=2026-11-20/a.json", r#"{"uid": 1, "sku": 2, "clicked": true, "watch_time": 17.5}"#).await.unwrap();
    let seen = inspect("logs", url, None).await.unwrap();
    assert_eq!(map_silently(&seen, Vec::new()).unwrap()[2].expression, "cast(dt as timestamp)");
}

#[tokio::test]
async fn a_surer_column_that_is_passed_over_is_told_of() {
    let lines = (0..40).map(|row| format!(r#"{{"uid": 1, "sku": 1, "time": "noon", "ts": {}}}"#, 1_763_596_800 + row));
    let lines = lines.map(|line| line.replace("time", "event_time"));
    let found = map_silently(&json("passed", lines).await, Vec::new()).unwrap();
    assert_eq!(found[2].expression, "to_timestamp_seconds(ts)");
    assert!(
        found[2].note.contains("`event_time` is passed over: ") && found[2].note.contains("`noon`"),
        "{}",
        found[2].note
    );
}

#[tokio::test]
async fn digits_with_leading_zeros_are_other_ids_than_those_without() {
    let seen = csv("zeros", "uid,sku,ts,clicked,n\n12,5,1763596800,1,0\n0012,6,1763596800,0,-3\n").await;
    let found = map_silently(&seen, Vec::new()).unwrap();
    assert_eq!((found[0].becomes, found[1].becomes), (ColumnType::Varchar, ColumnType::Bigint));
    let kind = |name: &str| seen.columns.iter().find(|column| column.name == name).unwrap().column_type;
    assert_eq!((kind("n"), kind("ts")), (Some(ColumnType::Bigint), Some(ColumnType::Bigint)));
    // the first thousand rows decide the type else
    let rows: String =
        (0..1500).map(|row| format!("{}{row},5,1763596800,1\n", if row > 1400 { "guest-" } else { "" })).collect();
    let found = map_silently(&csv("guests", &format!("uid,sku,ts,clicked\n{rows}")).await, Vec::new()).unwrap();
    assert_eq!(found[0].becomes, ColumnType::Varchar);
}

#[tokio::test]
async fn an_id_of_another_type_is_made_by_an_expression() {
    let lines = (0..9).map(|row| {
        format!(r#"{{"user": {{"id": {row}}}, "item_id": {row}.5, "ts": {}, "clicked": 1}}"#, 1_763_596_800 + row)
    });
    let seen = json("expressions", lines).await;
    let refused = map_silently(&seen, Vec::new()).unwrap_err().to_string();
    assert!(refused.contains("column `user` is not understood: it is Struct"), "{refused}");
    assert!(refused.contains(r#"--map "user_id=user.FIELD""#), "{refused}");
    let given = |user: &str, item: &str| vec![(Role::UserId, user.to_string()), (Role::ItemId, item.to_string())];
    let found = map_silently(&seen, given("user.id", "cast(item_id as bigint)")).unwrap();
    assert_eq!(expressions(&found)[..2], [r#""user"['id']"#, "cast(item_id as bigint)"]);
    assert_eq!((found[0].becomes, found[1].becomes), (ColumnType::Bigint, ColumnType::Bigint));
    for (item, said) in [
        ("item_id", "it is double, expected bigint or varchar; an expression is taken too"),
        ("item_id + 1", "it is double, expected bigint or varchar; cast it"),
        ("cast(item as bigint)", "neither a column of"),
        ("cast(", "neither a column of"),
    ] {
        let error = map_silently(&seen, given("user.id", item)).unwrap_err();
        assert_eq!(error.kind, crate::error::Kind::Usage);
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[tokio::test]
async fn names_in_any_script_make_features_and_vectors_with_gaps_do_not() {
    let lines = (0..30).map(|row| {
        format!(
            r#"{{"item_id": {row}, "価格": {row}.5, "性別": "s{}", "評価": {row}.25, "🎉": {row}.5, "Upper": {row}.5, "UPPER": {row}.75, "ID": {row}.5, "id": {row}.75, "null": {row}.5, "values": {row}.5, "whole": [1.5, {row}.5], "gaps": [{row}.5, {}]}}"#,
            row % 2,
            if row == 7 { "null" } else { "1.5" },
        )
    });
    let seen = json("scripts", lines).await;
    let mapped = map("items", roles("items"), &seen, Vec::new(), &mut Asker::silent()).unwrap();
    let mut table = Table { name: "items", seen, mapped, proposals: Vec::new(), left_out: Vec::new() };
    (table.proposals, table.left_out) = propose(&table, &mut vec!["item_id".into()]);
    let names: Vec<&str> = table.proposals.iter().map(|proposal| proposal.output.as_str()).collect();
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(
        sorted,
        ["column_5", "id", "item_upper", "null", "upper", "values", "whole", "価格", "性別", "評価"],
        "{names:?}"
    );
    let said: Vec<&str> = table.left_out.iter().map(|(_, why)| why.as_str()).collect();
    // beside `id` the other would be `item_id`, which is the item's own
    assert_eq!((said.len(), said[0]), (2, "another column is `id` already"));
    assert!(said[1].contains("1 of 30 lists hold a null"), "{said:?}");
    // what is written is YAML and SQL
    let job = text::Job { name: "a", output: "/out", date: "2026-11-20".parse().unwrap(), tables: &[table] };
    let files = text::files(&job);
    let yaml: serde_yaml::Value = serde_yaml::from_str(&files[0].1).unwrap();
    let features = yaml["features"]["item"].as_mapping().unwrap();
    assert!(["価格", "null", "column_5"].iter().all(|name| features.contains_key(*name)), "{}", files[0].1);
    let sql = &files.iter().find(|(name, _)| name == "sql/items.sql").unwrap().1;
    assert!(
        sql.contains("\n    \"価格\",") && sql.contains("\"🎉\" as column_5") && sql.contains("\n    \"values\""),
        "{sql}"
    );
}

#[tokio::test]
async fn rows_without_a_time_are_left_out_by_the_sql() {
    let values: Vec<&str> = [&["1763596800"; 39][..], &["0"]].concat();
    let seen = log_of("odd-rows", "event_time", &values).await;
    let mapped = map_silently(&seen, vec![(Role::Clicked, "true".into())]).unwrap();
    let tables = [Table { name: "impressions", seen, mapped, proposals: Vec::new(), left_out: Vec::new() }];
    let job = text::Job { name: "a", output: "/out", date: "2026-11-20".parse().unwrap(), tables: &tables };
    let sql = &text::files(&job).into_iter().find(|(name, _)| name == "sql/impressions.sql").unwrap().1;
    assert!(
        sql.contains(
            "\nwhere event_time between 1000000000 and 4199999999\n    and to_timestamp_seconds(event_time) < "
        ),
        "{sql}"
    );
}

#[tokio::test]
async fn a_json_array_is_told_of_without_all_that_it_holds() {
    let store = crate::storage::open("memory://init-array/t").unwrap();
    let objects: Vec<String> = (0..5000).map(|row| format!(r#"{{"user_id": {row}}}"#)).collect();
    store.put("a.json", format!("[{}]", objects.join(", "))).await.unwrap();
    let error = inspect("logs", "memory://init-array/t", None).await.err().unwrap().to_string();
    assert!(error.contains("JSON lines, an object a line") && error.contains("one JSON array"), "{error}");
    assert!(error.len() < 1000, "{} bytes", error.len());
}
