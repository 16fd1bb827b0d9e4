//! The session that sample files run in: sources and tables by their plain names, bounded memory, no way out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::collect::OrderedLists;
use super::corpus::{Corpus, DRAWING_FUNCTIONS, DrawingFunction};
use super::drift::Retyped;
use super::early_sort::SORT_BEFORE_UNNEST;
use super::hash::StableHash;
use super::histories::{AsOf, Histories};
use super::keep::{Dropped, Keep};
use super::listing::Listing;
use super::lists::OwnList;
use super::memory::Pool;
use super::one_step::LISTS_IN_ONE_STEP;
use super::own_rows::OWN_ROWS_BEFORE_SORT;
use super::parts::SampleParts;
use super::ranker::RankerFunction;
use super::schema::read_schema;
use super::table::FilesTable;
use crate::artifacts::RunDate;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::job::threads;
use crate::rankers::Ranker;
use crate::storage::{FileEntry, Store};

/// How often it is looked whether memory was given back, and how many times at most: a minute.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(20);
const MOST_LOOKS: usize = 3000;

/// How large joins run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joins {
    /// Fast; one side must fit into the memory pool.
    Hash,
    /// Sorts both sides and spills what does not fit.
    SortMerge,
}

/// Sources and sample tables in one SQL session.
pub struct Warehouse {
    context: SessionContext,
    memory: Arc<Pool>,
    /// What `keep` left out of the tables that run here.
    pub dropped: Dropped,
    sources: BTreeMap<String, (Arc<FilesTable>, Store)>,
    /// Columns of its sources that nobody declared and that have several types.
    pub retyped: Vec<Retyped>,
}

impl Warehouse {
    /// An empty session with the limits of `config`.
    pub fn new(config: &Config) -> Result<Self> {
        let samples = &config.samples;
        let mode = match &samples.spill {
            Some(folder) => {
                let folder = std::path::PathBuf::from(config.resolve(folder));
                std::fs::create_dir_all(&folder).map_err(|error| {
                    Error::config(format!("samples.spill: {} cannot be made or written", folder.display()))
                        .caused_by(error)
                })?;
                DiskManagerMode::Directories(vec![folder])
            }
            None => DiskManagerMode::OsTmpDirectory,
        };
        let mut settings = SessionConfig::new().with_target_partitions(threads(samples.threads));
        // every sort sets this much aside to merge what it spilled; several of them must fit into a small pool
        let for_merge = &mut settings.options_mut().execution.sort_spill_reservation_bytes;
        *for_merge = (*for_merge).min(samples.memory.bytes() / 32);
        let memory = Arc::new(Pool::within(samples.memory.bytes(), *for_merge));
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(memory.clone())
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(mode))
            .build_arc()
            .map_err(|error| {
                Error::config("the SQL engine cannot be set up; look at `samples.spill`").caused_by(error)
            })?;
        let options = settings.options_mut();
        // spans give errors their line and column
        options.sql_parser.collect_spans = true;
        options.sql_parser.map_string_types_to_utf8view = false;
        options.execution.parquet.schema_force_view_types = false;
        let state = SessionStateBuilder::new()
            .with_config(settings)
            .with_runtime_env(runtime)
            .with_default_features()
            .with_physical_optimizer_rule(Arc::new(LISTS_IN_ONE_STEP))
            .with_physical_optimizer_rule(Arc::new(SORT_BEFORE_UNNEST))
            .with_physical_optimizer_rule(Arc::new(OWN_ROWS_BEFORE_SORT))
            .build();
        let context = SessionContext::new_with_state(state);
        let dropped = Dropped::default();
        for function in [
            ScalarUDF::new_from_impl(StableHash::default()),
            ScalarUDF::new_from_impl(Histories::default()),
            ScalarUDF::new_from_impl(AsOf::default()),
            ScalarUDF::new_from_impl(OwnList::default()),
            ScalarUDF::new_from_impl(SampleParts::default()),
            ScalarUDF::new_from_impl(Keep::new(dropped.clone())),
        ] {
            context.register_udf(function);
        }
        context.register_udaf(AggregateUDF::new_from_impl(OrderedLists::default()));
        Ok(Warehouse { context, memory, dropped, sources: BTreeMap::new(), retyped: Vec::new() })
    }

    /// Looks into the files of `listing` and registers them as a table.
    pub async fn add_source(&mut self, listing: &Listing) -> Result<()> {
        let source = read_schema(listing).await?;
        self.add_store(&listing.store);
        let table = Arc::new(FilesTable::of_source(&source).map_err(internal)?);
        self.context.register_table(listing.source.as_str(), table.clone()).map_err(internal)?;
        self.sources.insert(listing.source.clone(), (table, listing.store.clone()));
        self.retyped.extend(source.retyped);
        Ok(())
    }

    /// From now on plans see the `columns` given with the type that they had before, and all others as they are. For plans only: files that
    /// have another type may not be readable so.
    pub fn plan_with(&self, columns: &[Retyped]) -> Result<()> {
        for (name, (table, _)) in &self.sources {
            let own = columns.iter().filter(|column| column.source == *name);
            let table = own.fold(table.clone(), |table, own| Arc::new(table.with_type(&own.column, &own.before)));
            self.context.deregister_table(name.as_str()).map_err(internal)?;
            self.context.register_table(name.as_str(), table).map_err(internal)?;
        }
        Ok(())
    }

    /// Registers a sample table over its files, in place of an earlier one of that name.
    pub fn add_table(&self, name: &str, store: &Store, schema: SchemaRef, files: &[FileEntry]) -> Result<()> {
        self.add_store(store);
        let table = FilesTable::of_shards(store, schema, files).map_err(internal)?;
        self.context.deregister_table(name).map_err(internal)?;
        self.context.register_table(name, Arc::new(table)).map_err(internal)?;
        Ok(())
    }

    /// Registers a few rows as a table: for audits, which stay on this machine.
    pub fn add_rows(&self, name: &str, rows: RecordBatch) -> Result<()> {
        let table = MemTable::try_new(rows.schema(), vec![vec![rows]]).map_err(internal)?;
        self.context.deregister_table(name).map_err(internal)?;
        self.context.register_table(name, Arc::new(table)).map_err(internal)?;
        Ok(())
    }

    /// The type of a source's column.
    pub fn type_of(&self, source: &str, column: &str) -> Option<DataType> {
        let (table, _) = self.sources.get(source)?;
        Some(table.schema().field_with_name(column).ok()?.data_type().clone())
    }

    /// Rows of a source by the date of its partitions; empty where its files do not tell without being read.
    pub fn rows_by_day(&self, source: &str) -> BTreeMap<RunDate, u64> {
        let Some((table, _)) = self.sources.get(source) else { return BTreeMap::new() };
        let mut days = BTreeMap::new();
        for file in table.files() {
            let (Some(date), Some(rows)) = (file.date, file.rows) else { return BTreeMap::new() };
            *days.entry(RunDate(date)).or_default() += rows as u64;
        }
        days
    }

    /// Registers the functions that draw from `corpus`.
    pub fn add_corpus(&self, corpus: &Corpus) {
        for function in DrawingFunction::all(corpus) {
            self.context.register_udf(ScalarUDF::new_from_impl(function));
        }
    }

    /// Registers a ranker under its name, which no function of the engine may have.
    pub fn add_ranker(&self, ranker: Arc<Ranker>) -> Result<()> {
        let (name, state) = (&ranker.name, self.context.state());
        // names that stand for something else in sample files
        let taken = name == "hard_ranker"
            || DRAWING_FUNCTIONS.contains(&name.as_str())
            || state.scalar_functions().contains_key(name)
            || state.aggregate_functions().contains_key(name)
            || state.window_functions().contains_key(name);
        if taken {
            return Err(Error::config(format!(
                "rankers.{name}: SQL has a function of this name already; choose another one"
            )));
        }
        self.context.register_udf(ScalarUDF::new_from_impl(RankerFunction::new(ranker)));
        Ok(())
    }

    fn add_store(&self, store: &Store) {
        self.context.register_object_store(store.root(), store.object_store());
    }

    pub fn state(&self) -> SessionState {
        self.context.state()
    }

    /// The session's state with joins of one kind.
    pub fn state_with(&self, joins: Joins) -> SessionState {
        let state = self.context.state();
        // the catalog is shared between states: an empty one must not take its place
        let mut settings = state.config().clone().with_create_default_catalog_and_schema(false);
        settings.options_mut().optimizer.prefer_hash_join = joins == Joins::Hash;
        if joins == Joins::SortMerge {
            // with a single partition the engine takes hash joins whatever is preferred
            let partitions = settings.target_partitions().max(2);
            settings = settings.with_target_partitions(partitions);
        }
        SessionStateBuilder::new_from_existing(state).with_config(settings).build()
    }

    /// From now on memory goes to whoever asks: fast, and may leave too little for who comes late.
    pub fn share_memory_freely(&self) {
        self.memory.share_equally(false);
    }

    /// From now on memory goes in equal shares to all who can spill.
    pub fn share_memory_equally(&self) {
        self.memory.share_equally(true);
    }

    /// Bytes that the engine has reserved now.
    pub fn reserved(&self) -> usize {
        self.context.runtime_env().memory_pool.reserved()
    }

    /// Waits until a query that was broken off has given back its memory, where `before` bytes were reserved when it began. Its tasks
    /// end at their next pause, which is seconds away where one fills a large hash table; what began meanwhile would come on top.
    pub async fn given_back(&self, before: usize) {
        for _ in 0..MOST_LOOKS {
            if self.reserved() <= before {
                break;
            }
            tokio::time::sleep(LOOKED_AT_EVERY).await;
        }
    }

    pub(super) fn source_table(&self, name: &str) -> Option<Arc<FilesTable>> {
        self.sources.get(name).map(|(table, _)| table.clone())
    }

    /// A file of a source as people write it, from its full path in the store.
    pub(super) fn shown(&self, source: &str, path: &str) -> String {
        let Some((_, store)) = self.sources.get(source) else { return path.to_string() };
        let prefix = store.path_of("");
        let key = path.strip_prefix(prefix.as_ref()).unwrap_or(path).trim_start_matches('/');
        store.url_of(key)
    }
}

fn internal(error: DataFusionError) -> Error {
    Error::internal("the SQL session cannot be set up").caused_by(error.strip_backtrace())
}
