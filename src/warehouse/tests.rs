//! Damaged files of sources: nobody vouches for their bytes.

use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use futures::TryStreamExt;
use std::sync::Arc;

use super::catalog::Folders;
use super::listing::Lister;
use super::session::Warehouse;
use crate::config::Config;
use crate::error::Result;
use crate::storage::{damage, encode_parquet, open};

/// All rows of the source `logs`, through the engine.
async fn read(config: &Config) -> Result<usize> {
    let source = &config.sources["logs"];
    let date = "2026-11-20".parse().unwrap();
    let folders = Folders::new("logs", source, open(&config.resolve(&source.path))?, date, date);
    let mut warehouse = Warehouse::new(config)?;
    warehouse.add_source(&Lister::new(&folders, date).list().await?).await?;
    let context = datafusion::prelude::SessionContext::new_with_state(warehouse.state());
    let plan = context.sql("select * from logs").await.unwrap().create_physical_plan().await.unwrap();
    let rows = super::execute(plan, context.task_ctx()).unwrap().try_collect::<Vec<_>>().await;
    rows.map(|batches| batches.iter().map(RecordBatch::num_rows).sum())
        .map_err(|error| super::explain_execution(error, "positives", "positives.sql", "1GiB"))
}

fn config(format: &str, columns: &str) -> Config {
    let text = format!(
        "version: 1\nname: a\noutput: out\nsamples: {{threads: 1}}\nsources:\n  logs: {{path: 'memory://source-damaged/{format}', format: {format}{columns}}}\nfeatures: {{user: {{u: {{kind: id}}}}, item: {{i: {{kind: id}}}}}}\n"
    );
    Config::parse(&text, "job.yaml", &Default::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_of_a_source_is_an_error_or_rows_and_never_a_panic() {
    let lists = (0..50).map(|row| Some((0..row % 4).map(Some).collect::<Vec<_>>()));
    let columns: [(&str, ArrayRef); 3] = [
        ("user_id", Arc::new(Int64Array::from_iter_values(0..50))),
        ("country", Arc::new(StringArray::from_iter_values((0..50).map(|row| format!("c{}", row % 5))))),
        ("tags", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
    ];
    let table = RecordBatch::try_from_iter(columns).unwrap();
    let parquet = encode_parquet(table.schema(), &[table]).unwrap();
    let csv = (0..50).map(|row| format!("{row},c{},2026-11-{:02}\n", row % 5, row % 28 + 1));
    let csv = "user_id,country,day\n".to_string() + &csv.collect::<String>();
    let json =
        (0..50).map(|row| format!("{{\"user_id\": {row}, \"country\": \"c{}\", \"tags\": [1, {row}]}}\n", row % 5));
    let json: String = json.collect();
    for (format, columns, usual, bytes) in [
        ("parquet", "", 150, &parquet[..]),
        ("csv", ", columns: {user_id: bigint, day: date}", 100, csv.as_bytes()),
        ("json", ", columns: {user_id: bigint, tags: \"bigint[]\"}", 100, json.as_bytes()),
    ] {
        let config = config(format, columns);
        let file = open(&format!("memory://source-damaged/{format}/file")).unwrap();
        file.put("", bytes.to_vec()).await.unwrap();
        assert_eq!(read(&config).await.unwrap(), 50, "{format}");
        damage::each(&format!("a source's {format}"), usual, bytes, async |damaged| {
            file.put("", damaged).await.unwrap();
            if let Err(error) = read(&config).await {
                assert_eq!(error.kind, crate::error::Kind::Config, "{error}");
            }
        })
        .await;
    }
}

#[test]
fn a_full_disk_under_spilled_rows_is_worth_another_try_however_it_is_wrapped() {
    use datafusion::arrow::error::ArrowError;
    use datafusion::error::DataFusionError;
    let full = || std::io::Error::from_raw_os_error(libc::ENOSPC);
    let wrapped = ArrowError::IoError(full().to_string(), full());
    for error in [DataFusionError::IoError(full()), DataFusionError::ArrowError(Box::new(wrapped), None)] {
        let error = super::explain_execution(error, "positives", "positives.sql", "1GiB");
        assert_eq!(error.kind, crate::error::Kind::Transient);
        assert!(error.message.contains("make room in `samples.spill`"), "{error}");
        assert!(error.to_string().contains("No space left on device"), "{error}");
    }
}
