//! From a parsed file to a plan whose result has the table's types and order.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::Column as EngineColumn;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF, SortExpr, cast, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{Query, Statement};
use std::sync::Arc;

use super::blame::explain_planning;
use super::columns::{Shape, shape};
use super::measure::measured_tables;
use super::order::{DRAWN_TABLE, draws};
use super::params::{Params, bind, params};
use super::parse::SqlFile;
use super::placeholders::{USERS, UsersTime, users_time};
use super::plan::SamplePlan;
use crate::artifacts::{IdType, RunDate, Statistics, TableFacts, keys};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::rankers::Ranker;
use crate::storage::{FileEntry, Store, read_parquet, sorted_parts};
use crate::warehouse::{Corpus, Joins, ORDER_SEED, StableHash, Warehouse, sql_name};

/// Which of the two id columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IdColumn {
    User,
    Item,
}

/// The session of one job, with what is known of the tables so far.
pub struct Planner {
    pub warehouse: Warehouse,
    pub params: Params,
    output: Store,
    /// Type of each kind of id, and the column where it was seen first.
    pub ids: BTreeMap<IdColumn, (DataType, String)>,
    schemas: BTreeMap<String, SchemaRef>,
    corpus: Option<Corpus>,
    drawn_files: Vec<FileEntry>,
}

/// A table ready to be run.
pub struct PlannedTable {
    pub query: Query,
    pub shape: Shape,
    /// Rows in any order.
    rows: LogicalPlan,
}

impl Planner {
    /// Registers the sources of `plan`, looking into their files, and its rankers.
    pub async fn new(job: &Job, plan: &SamplePlan) -> Result<Self> {
        let mut planner = Planner::without_sources(job, &plan.rankers)?;
        for listing in &plan.sources {
            planner.warehouse.add_source(listing).await?;
        }
        planner.check_users_time(job)?;
        Ok(planner)
    }

    /// A number would be cast to a moment of 1970, and each positive would meet the newest row of its user.
    fn check_users_time(&self, job: &Job) -> Result<()> {
        let Some(UsersTime { column, by_day }) = users_time(&job.config) else { return Ok(()) };
        let Some(found) = self.warehouse.type_of(USERS, &column).filter(|found| found.is_numeric()) else {
            return Ok(());
        };
        let (key, which) = if by_day { ("partition", " in its files") } else { ("time", "") };
        Err(Error::config(format!(
            "sources.{USERS}.{key}: column `{column}`{which} is {}, expected a timestamp or a date, since when a row is known; write it as one",
            sql_name(&found)
        )))
    }

    /// Registers rankers alone.
    pub fn without_sources(job: &Job, rankers: &[Arc<Ranker>]) -> Result<Self> {
        let warehouse = Warehouse::new(&job.config)?;
        for ranker in rankers {
            warehouse.add_ranker(ranker.clone())?;
        }
        Ok(Planner {
            warehouse,
            params: params(&job.config, job.date)?,
            output: job.output.clone(),
            ids: BTreeMap::new(),
            schemas: BTreeMap::new(),
            corpus: None,
            drawn_files: Vec::new(),
        })
    }

    /// Plans the file of a table and holds its columns against the contract.
    pub async fn plan_table(&mut self, file: &SqlFile) -> Result<PlannedTable> {
        let (query, plan) = self.plan_query(file).await?;
        let shape = shape(file, plan.schema(), &mut self.ids)?;
        let columns = plan.schema().iter().zip(shape.schema.fields()).map(|((qualifier, found), wanted)| {
            let column = Expr::Column(EngineColumn::new(qualifier.cloned(), found.name()));
            let typed =
                if found.data_type() == wanted.data_type() { column } else { cast(column, wanted.data_type().clone()) };
            typed.alias(wanted.name())
        });
        let columns: Vec<Expr> = columns.collect();
        let rows = LogicalPlanBuilder::from(plan).project(columns).and_then(|builder| builder.build());
        let rows = rows.map_err(|error| {
            Error::internal(format!("{}: cannot plan the columns of rows", file.shown)).caused_by(error)
        })?;
        Ok(PlannedTable { query, shape, rows })
    }

    /// Plans a file as it is; type errors are found here too.
    pub async fn plan_query(&self, file: &SqlFile) -> Result<(Query, LogicalPlan)> {
        let query = bind(file, &self.params)?;
        let state = self.warehouse.state();
        match to_plan(&state, query.clone()).await {
            Ok(plan) => Ok((query, plan)),
            Err(error) => Err(explain_planning(&state, file, &query, error).await),
        }
    }

    /// A table's rows in their order.
    pub async fn physical(
        &self,
        planned: &PlannedTable,
        file: &SqlFile,
        joins: Joins,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let state = self.warehouse.state_with(joins);
        match in_order(&state, planned).await {
            Ok(physical) => Ok(physical),
            Err(error) => Err(explain_planning(&state, file, &planned.query, error).await),
        }
    }

    pub async fn physical_of(
        &self,
        plan: &LogicalPlan,
        query: &Query,
        file: &SqlFile,
        joins: Joins,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let state = self.warehouse.state_with(joins);
        match state.create_physical_plan(plan).await {
            Ok(physical) => Ok(physical),
            Err(error) => Err(explain_planning(&state, file, query, error).await),
        }
    }

    /// Makes a table that was built readable for the next ones.
    pub fn add_built(&mut self, name: &str, schema: SchemaRef, facts: &TableFacts) -> Result<()> {
        if name == DRAWN_TABLE {
            self.drawn_files = facts.files.clone();
        }
        self.add(name, schema, &facts.files)
    }

    /// Makes a table that was only planned readable for plans.
    pub fn add_planned(&mut self, name: &str, schema: SchemaRef) -> Result<()> {
        let key = format!("{}/part-00000.parquet", keys::sample_table("samples", name));
        self.add(name, schema, &[FileEntry { key, bytes: 0, sha256: String::new(), rows: None }])
    }

    fn add(&mut self, name: &str, schema: SchemaRef, files: &[FileEntry]) -> Result<()> {
        self.warehouse.add_table(name, &self.output, schema.clone(), files)?;
        if name == DRAWN_TABLE
            && let Ok(item) = schema.field_with_name("item_id")
        {
            let corpus = Corpus::new(item.data_type().clone());
            self.warehouse.add_corpus(&corpus);
            self.corpus = Some(corpus);
        }
        self.schemas.insert(name.into(), schema);
        Ok(())
    }

    /// Loads the corpus before a table that draws from it.
    pub async fn load_drawing(&self, file: &SqlFile) -> Result<()> {
        let Some(corpus) = self.corpus.as_ref().filter(|_| draws(file)) else { return Ok(()) };
        let mut columns = vec!["item_id".to_string()];
        if self.schemas[DRAWN_TABLE].field_with_name("sampling_weight").is_ok() {
            columns.push("sampling_weight".into());
        }
        let batches = read_parquet(&self.output, sorted_parts(&self.drawn_files), Some(columns)).await?;
        corpus.load(&batches)
    }

    /// Forgets what was learned of tables from plans, so that they can be planned once more.
    pub fn forget_tables(&mut self) {
        self.ids.clear();
        self.schemas.clear();
    }

    /// Makes the figures of the tables readable for audits: `measured_days`, `measured_columns`.
    pub fn add_measured(&mut self, statistics: &Statistics, date: RunDate) -> Result<()> {
        for (name, rows) in measured_tables(statistics, date)? {
            self.schemas.insert(name.into(), rows.schema());
            self.warehouse.add_rows(name, rows)?;
        }
        Ok(())
    }

    pub fn has_table(&self, name: &str) -> bool {
        self.schemas.contains_key(name)
    }

    /// The type of a table's column.
    pub fn column(&self, table: &str, column: &str) -> Option<DataType> {
        Some(self.schemas.get(table)?.field_with_name(column).ok()?.data_type().clone())
    }

    /// The types of user and item ids.
    pub fn id_types(&self) -> Result<(IdType, IdType)> {
        let one = |column: IdColumn| match self.ids.get(&column).map(|(data_type, _)| data_type) {
            Some(DataType::Int64) => Ok(IdType::Bigint),
            Some(DataType::Utf8) => Ok(IdType::Varchar),
            _ => Err(Error::internal("no table has told the type of ids")),
        };
        Ok((one(IdColumn::User)?, one(IdColumn::Item)?))
    }
}

/// A plan with all types checked.
pub async fn to_plan(state: &SessionState, query: Query) -> datafusion::error::Result<LogicalPlan> {
    let statement = EngineStatement::Statement(Box::new(Statement::Query(Box::new(query))));
    let plan = state.statement_to_plan(statement).await?;
    // types are checked by the analyzer, which runs here; the plan itself is optimised later, as part of a larger one
    state.optimize(&plan)?;
    Ok(plan)
}

/// The order comes on top of a plan that is optimised already. The optimizer takes a column out of an order where it holds the ones before to be
/// unique, which it does by mistake once lists of a grouping are unnested (apache/datafusion#24787).
async fn in_order(state: &SessionState, planned: &PlannedTable) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    let rows = state.optimize(&planned.rows)?;
    let sorted = LogicalPlanBuilder::from(rows).sort(sort_order(&planned.shape))?.build()?;
    state.query_planner().create_physical_plan(&sorted, state).await
}

/// Rows by hash of the first column of the order, so that files are spread evenly, then by the columns themselves.
fn sort_order(shape: &Shape) -> Vec<SortExpr> {
    let column = |name: &String| Expr::Column(EngineColumn::new_unqualified(name));
    let hash = ScalarUDF::new_from_impl(StableHash::default());
    let first = shape.hashed.iter().map(|name| hash.call(vec![lit(ORDER_SEED), column(name)]).sort(true, false));
    first.chain(shape.order.iter().map(|name| column(name).sort(true, false))).collect()
}
