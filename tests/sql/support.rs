//! A job over sources in a memory store of its own.

use std::sync::Arc;

use datafusion::arrow::json::writer::{LineDelimited, WriterBuilder};
use serde_json::Value;
use twotower::artifacts::{SampleFacts, Written};
use twotower::config::{Config, Overrides};
use twotower::error::Result;
use twotower::job::Job;
use twotower::progress::Progress;
use twotower::recommend::LastRelease;
use twotower::storage::{Store, open, read_parquet, sorted_parts};
use twotower::{samples, storage};

/// Columns of the usual sources: name, header, declared types.
const SOURCES: [(&str, &[&str], &str); 7] = [
    (
        "impressions",
        &["user_id", "item_id", "event_time", "clicked"],
        "user_id: bigint, item_id: bigint, event_time: timestamp, clicked: boolean",
    ),
    ("items", &["item_id", "topic"], "item_id: bigint, topic: varchar"),
    ("users", &["user_id", "country"], "user_id: bigint, country: varchar"),
    ("candidates", &["user_id", "item_id", "score"], "user_id: bigint, item_id: bigint, score: double"),
    (
        "previous_candidates",
        &["user_id", "item_id", "score", "rank"],
        "user_id: bigint, item_id: bigint, score: double, rank: bigint",
    ),
    ("ranker_scores", &["user_id", "item_id", "score"], "user_id: bigint, item_id: bigint, score: double"),
    (
        "future_impressions",
        &["user_id", "item_id", "event_time", "clicked"],
        "user_id: bigint, item_id: bigint, event_time: timestamp, clicked: boolean",
    ),
];

/// Sources, config and SQL of a test.
pub struct World {
    name: String,
    pub store: Store,
    /// Lines below `sources:`.
    pub sources: Vec<String>,
    pub set: Vec<String>,
    has_sql: bool,
}

/// Sample tables that were built.
pub struct Built {
    pub written: Written<SampleFacts>,
    output: Store,
}

impl World {
    pub fn new(name: &str) -> Self {
        let store = open(&format!("memory://case-{name}")).unwrap();
        World { name: name.into(), store, sources: Vec::new(), set: Vec::new(), has_sql: false }
    }

    /// A source in CSV, by the columns it usually has.
    pub async fn given(mut self, source: &str, rows: &[Vec<Value>]) -> Self {
        let (_, columns, types) = SOURCES.iter().find(|(name, ..)| *name == source).expect("a usual source");
        let mut text = columns.join(",") + "\n";
        for row in rows {
            let cells = row.iter().map(|cell| match cell {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            });
            text += &(cells.collect::<Vec<_>>().join(",") + "\n");
        }
        let future = source == "future_impressions";
        let key = format!("{source}/{}part-0.csv", if future { "dt=2026-11-21/" } else { "" });
        self.store.put(&key, text).await.unwrap();
        let window = if future { "partition: dt, days: 1..1, " } else { "" };
        let path = self.store.url_of(source);
        self.sources.push(format!("{source}: {{path: '{path}', format: csv, {window}columns: {{{types}}}}}"));
        self
    }

    /// Two users, three items, a few clicks.
    pub async fn usual(self) -> Self {
        let rows = |text: &str| serde_json::from_str::<Vec<Vec<Value>>>(text).unwrap();
        let impressions = rows(
            r#"[[1,10,"2026-11-20 08:00:00",true],[1,11,"2026-11-20 09:00:00",false],[2,11,"2026-11-20 10:00:00",true],[2,12,"2026-11-20 11:00:00",true]]"#,
        );
        let world = self.given("impressions", &impressions).await;
        let world = world.given("items", &rows(r#"[[10,"a"],[11,"b"],[12,"c"],[13,"d"]]"#)).await;
        world.given("users", &rows(r#"[[1,"de"],[2,"fr"]]"#)).await
    }

    /// Any source, as a line of YAML.
    pub fn source(mut self, name: &str, settings: &str) -> Self {
        self.sources.retain(|line| !line.starts_with(&format!("{name}:")));
        let path = self.store.url_of(&format!("own/{name}"));
        self.sources.push(format!("{name}: {{path: '{path}', {settings}}}"));
        self
    }

    pub async fn put(self, key: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.store.put(key, bytes.into()).await.unwrap();
        self
    }

    /// A SQL file of the team's own.
    pub async fn sql(mut self, file: &str, text: &str) -> Self {
        self.store.put(&format!("sql/{file}"), text.to_string()).await.unwrap();
        self.has_sql = true;
        self
    }

    pub fn set(mut self, setting: &str) -> Self {
        self.set.push(setting.into());
        self
    }

    /// The same sources in another job.
    pub fn again(&self) -> World {
        World {
            name: self.name.clone(),
            store: self.store.clone(),
            sources: self.sources.clone(),
            set: Vec::new(),
            has_sql: false,
        }
    }

    pub fn job(&self) -> Job {
        let sql =
            if self.has_sql { format!("samples: {{sql: '{}'}}\n", self.store.url_of("sql")) } else { String::new() };
        let text = format!(
            "version: 1\nname: test\noutput: memory://case-{}/out\nsources:\n  {}\n{sql}features:\n  user:\n    history: {{kind: ids, table: item_id}}\n  item:\n    item_id: {{kind: id}}\n",
            self.name,
            self.sources.join("\n  ")
        );
        let config = Config::parse(&text, "job.yaml", &Overrides(self.set.clone())).unwrap();
        let output = storage::open(&config.output).unwrap();
        let date = "2026-11-20".parse().unwrap();
        Job { config: Arc::new(config), output, date, progress: Progress::new(true), stop: Default::default() }
    }

    pub async fn build(&self) -> Result<Built> {
        let job = self.job();
        let plan = samples::plan(&job, &LastRelease::shared()).await?;
        let written = samples::run(&job, &plan, "samples").await?;
        Ok(Built { written, output: job.output })
    }

    /// The error of a build, without the store's name.
    pub async fn error(&self) -> String {
        let error = match self.build().await {
            Ok(_) => panic!("{}: expected an error", self.name),
            Err(error) => error,
        };
        format!(
            "[{}] {}",
            error.kind.exit_code(),
            error.to_string().replace(&format!("memory://case-{}", self.name), "memory://store")
        )
    }
}

impl Built {
    /// Rows of a table as JSON, with the columns given.
    pub async fn rows(&self, table: &str, columns: &[String]) -> Vec<Vec<Value>> {
        let facts = self.written.facts.tables.get(table).unwrap_or_else(|| panic!("no table {table}"));
        let batches = read_parquet(&self.output, sorted_parts(&facts.files), None).await.unwrap();
        let mut text = Vec::new();
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut text);
        writer.write_batches(&batches.iter().collect::<Vec<_>>()).unwrap();
        writer.finish().unwrap();
        let lines = String::from_utf8(text).unwrap();
        let rows =
            lines.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.map(|row| columns.iter().map(|column| row[column].clone()).collect()).collect()
    }
}
