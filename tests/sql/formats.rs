//! The same table from every format, whatever its types are called there.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, DictionaryArray, Int32Array, RecordBatch, TimestampMillisecondArray};
use datafusion::arrow::datatypes::Int8Type;
use serde_json::json;
use twotower::storage::ShardWriter;

use crate::support::World;

const COLUMNS: &str = "columns: {user_id: bigint, at: timestamp, tags: 'bigint[]', ok: boolean, share: double}";

/// Rows of the table `copy` over source `things`.
async fn copied(world: World) -> Vec<Vec<serde_json::Value>> {
    let world = world.sql("copy.sql", "select user_id, at, tags, ok, share from things where dt = $date").await;
    let columns = ["user_id", "at", "tags", "ok", "share"].map(String::from);
    let mut rows = world.build().await.unwrap().rows("copy", &columns).await;
    rows.sort_by_key(|row| row[0].as_i64());
    rows
}

#[tokio::test]
async fn csv_and_json_read_alike() {
    let expected = vec![
        vec![json!(1), json!("2026-11-20T08:00:00"), json!([1, 2]), json!(true), json!(0.5)],
        vec![json!(2), json!(null), json!(null), json!(false), json!(2.0)],
    ];
    let csv = World::new("csv")
        .usual()
        .await
        .source("things", &format!("format: csv, partition: dt, days: -1..0, {COLUMNS}"));
    let csv = csv.put("own/things/dt=2026-11-19/a.csv", "user_id,at,tags,ok,share\n9,,,,\n").await;
    // another order of columns, and one more
    let csv = csv
        .put(
            "own/things/dt=2026-11-20/a.csv",
            "tags,more,user_id,at,ok,share\n1|2,x,1,2026-11-20T08:00:00Z,1,0.5\n,,2,,0,2\n",
        )
        .await;
    assert_eq!(copied(csv).await, expected);
    let json = World::new("json").usual().await.source("things", &format!("format: json, partition: dt, {COLUMNS}"));
    let lines = "{\"user_id\": 1, \"at\": \"2026-11-20T08:00:00\", \"tags\": [1, 2], \"ok\": true, \"share\": 0.5}\n{\"user_id\": 2, \"ok\": false, \"share\": 2}\n";
    assert_eq!(copied(json.put("own/things/dt=2026-11-20/a.json", lines).await).await, expected);
}

#[tokio::test]
async fn parquet_of_other_widths_reads_as_declared() {
    let world = World::new("parquet")
        .usual()
        .await
        .source("things", "partition: dt, columns: {user_id: bigint, at: timestamp}");
    let names: DictionaryArray<Int8Type> = vec!["a", "b"].into_iter().collect();
    let batch = RecordBatch::try_from_iter([
        ("user_id", Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef),
        ("at", Arc::new(TimestampMillisecondArray::from(vec![1_000, 2_000]).with_timezone("+02:00"))),
        ("name", Arc::new(names)),
    ])
    .unwrap();
    let mut writer = ShardWriter::new(&world.store, "own/things/dt=2026-11-20", batch.schema(), 1000);
    writer.write(&batch).await.unwrap();
    writer.finish().await.unwrap();
    let world = world.sql("copy.sql", "select user_id, at, name, dt from things").await;
    let built = world.build().await.unwrap();
    let types: Vec<&str> = built.written.facts.tables["copy"].columns.iter().map(|c| c.data_type.as_str()).collect();
    assert_eq!(types, ["Int64", "Timestamp(µs)", "Utf8", "Date32"]);
    let mut rows = built.rows("copy", &["user_id", "at", "name", "dt"].map(String::from)).await;
    rows.sort_by_key(|row| row[0].as_i64());
    assert_eq!(rows[1], [json!(2), json!("1970-01-01T00:00:02"), json!("b"), json!("2026-11-20")]);
}

#[tokio::test]
async fn compressed_files_are_read_by_their_extension() {
    // gzip of "item_id,topic\n21,z\n", stored without compression
    let text = b"item_id,topic\n21,z\n";
    let mut crc = !0u32;
    for byte in text {
        crc ^= u32::from(*byte);
        (0..8).for_each(|_| crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 });
    }
    let length = text.len() as u16;
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    gzip.extend(length.to_le_bytes());
    gzip.extend((!length).to_le_bytes());
    gzip.extend(text);
    gzip.extend((!crc).to_le_bytes());
    gzip.extend(u32::from(length).to_le_bytes());
    let world = World::new("gzip").usual().await.put("items/part-1.csv.gz", gzip).await;
    let rows = world.build().await.unwrap().rows("item_features", &["item_id".into()]).await;
    assert!(rows.contains(&vec![json!(21)]), "{rows:?}");
}
