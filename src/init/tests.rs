use super::guess::{Role, quoted, snake_case};
use super::*;

/// A file of CSV in a memory store of its own, looked at.
async fn csv(name: &str, text: &str) -> Inspected {
    let store = crate::storage::open(&format!("memory://init-{name}/table")).unwrap();
    store.put("part-0.csv", text.to_string()).await.unwrap();
    inspect(name, &format!("memory://init-{name}/table"), None).await.unwrap()
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

#[test]
fn names_become_plain_and_reserved_ones_are_quoted() {
    assert_eq!(["userId", "User ID", "a-b"].map(snake_case), ["user_id", "user_id", "a_b"]);
    assert_eq!(["plain_1", "Order", "order", "a b"].map(quoted), ["plain_1", "\"Order\"", "\"order\"", "\"a b\""]);
}
