//! `previous_candidates`: a table that no SQL makes. What the last release would have retrieved for the users of this date.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::names::PREVIOUS_TABLE;
use super::planner::{IdColumn, Planner};
use crate::artifacts::{Column, Release, RunDate, TableFacts, keys};
use crate::config::{Config, MissingRelease};
use crate::error::{Context, Error, Result};
use crate::job::Job;
use crate::storage::{FileEntry, ShardWriter, Store};

/// The tables that it is made from, beside the release. The second tells the type of item ids.
pub const READS: [&str; 2] = ["user_features", "item_features"];

/// Who knows the earlier releases, and asks them. Sampling meets other stages in their files alone, so it is handed this.
#[async_trait(?Send)]
pub trait Previous: Send + Sync {
    /// The newest good release of a date before `date`.
    async fn release(&self, output: &Store, date: RunDate) -> Result<Option<Release>>;

    /// Writes the candidates of the users in `users` (files of `user_features`) to `writer`, user after user.
    async fn write(&self, job: &Job, release: &Release, users: &[FileEntry], writer: &mut ShardWriter) -> Result<u64>;
}

/// How the job comes to earlier releases.
pub type Releases = Arc<dyn Previous>;

/// The release whose candidates a date's samples hold, for those that read them.
#[derive(Clone)]
pub struct Source {
    releases: Releases,
    pub release: Option<Release>,
}

impl Source {
    /// Chooses the release.
    pub async fn choose(releases: &Releases, output: &Store, config: &Config, date: RunDate) -> Result<Source> {
        let release = releases.release(output, date).await.while_(|| format!("choosing the release before {date}"))?;
        if release.is_none() && config.samples.previous_candidates.missing == MissingRelease::Fail {
            return Err(Error::config(format!(
                "samples.previous_candidates.missing: fail, and {} has no good release of a date before {date}; publish one first, or set it to `empty`",
                output.url()
            )));
        }
        Ok(Source { releases: releases.clone(), release })
    }

    /// What `check` and the log say of it.
    pub fn warning(&self, date: RunDate) -> Option<String> {
        self.release
            .is_none()
            .then(|| format!("table `{PREVIOUS_TABLE}` has no rows: there is no good release of a date before {date}"))
    }

    /// The table's columns, once the tables before it have told the types of ids.
    pub fn schema(&self, planner: &Planner) -> Result<SchemaRef> {
        let id = |column: IdColumn, name: &str| match planner.ids.get(&column) {
            Some((data_type, _)) => Ok(Field::new(name, data_type.clone(), true)),
            None => Err(Error::internal(format!("no table before {PREVIOUS_TABLE} has told the type of {name}"))),
        };
        let (user, item) = (id(IdColumn::User, "user_id")?, id(IdColumn::Item, "item_id")?);
        if let Some(release) = &self.release {
            for (field, found) in [(&user, release.user_id_type), (&item, release.item_id_type)] {
                if *field.data_type() != found.arrow() {
                    return Err(Error::config(format!(
                        "table `{PREVIOUS_TABLE}`: {} is {} in release {} and {} now; publish a release with the new ids first (samples.hard_negatives.from)",
                        field.name(),
                        found.arrow(),
                        release.release,
                        field.data_type()
                    )));
                }
            }
        }
        let numbers = [Field::new("score", DataType::Float64, true), Field::new("rank", DataType::Int64, true)];
        Ok(Arc::new(Schema::new([vec![user, item], numbers.to_vec()].concat())))
    }

    /// Fills the table below `folder` and makes it readable for the next ones.
    pub async fn build(
        &self,
        job: &Job,
        planner: &mut Planner,
        users: &TableFacts,
        folder: &str,
    ) -> Result<TableFacts> {
        let began = Instant::now();
        let schema = self.schema(planner)?;
        let target = keys::sample_table(folder, PREVIOUS_TABLE);
        let mut writer = ShardWriter::new(&job.output, &target, schema.clone(), job.config.samples.rows_per_file);
        let rows = match &self.release {
            Some(release) => {
                let doing = || format!("asking release {} ({}) for `{PREVIOUS_TABLE}`", release.release, release.date);
                self.releases.write(job, release, &users.files, &mut writer).await.while_(doing)?
            }
            None => 0,
        };
        let columns = schema.fields().iter();
        let columns =
            columns.map(|field| Column { name: field.name().clone(), data_type: field.data_type().to_string() });
        let facts = TableFacts {
            rows,
            columns: columns.collect(),
            files: writer.finish().await?,
            seconds: began.elapsed().as_secs_f64(),
        };
        planner.add_built(PREVIOUS_TABLE, schema, &facts)?;
        Ok(facts)
    }
}
