//! A table over exactly the files it is given: no listing, no writing.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::NaiveDate;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::CsvOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{Result, ScalarValue, Statistics, plan_err};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    CsvSource, FileGroup, FileScanConfigBuilder, FileSource, JsonSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, ScalarUDF};
use datafusion::object_store::ObjectMeta;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;

use super::drift::Retyped;
use super::faults::ListText;
use crate::config::Format;
use crate::storage::{FileEntry, Store};

/// One file to scan.
#[derive(Debug, Clone)]
pub struct ScannedFile {
    pub meta: ObjectMeta,
    /// Date of its partition.
    pub date: Option<NaiveDate>,
    pub rows: Option<usize>,
}

/// Files that are decoded alike.
#[derive(Debug, Clone)]
pub struct FileGroupShape {
    /// The types they are decoded with, before they become the table's.
    pub schema: SchemaRef,
    pub compression: FileCompressionType,
    pub files: Vec<ScannedFile>,
}

/// A source whose files were looked into.
#[derive(Clone)]
pub struct SourceTable {
    pub name: String,
    pub schema: SchemaRef,
    /// Name of the DATE column that comes from the folders.
    pub partition: Option<String>,
    pub format: Format,
    pub store: Store,
    pub groups: Vec<FileGroupShape>,
    /// Columns that must not be read, and why.
    pub lost: BTreeMap<String, String>,
    pub retyped: Vec<Retyped>,
}

/// A source or sample table as the engine reads it.
#[derive(Debug, Clone)]
pub struct FilesTable {
    schema: SchemaRef,
    partition: Option<String>,
    format: Format,
    url: ObjectStoreUrl,
    groups: Vec<FileGroupShape>,
    lost: BTreeMap<String, String>,
}

impl FilesTable {
    pub fn of_source(source: &SourceTable) -> Result<Self> {
        Ok(FilesTable {
            schema: source.schema.clone(),
            partition: source.partition.clone(),
            format: source.format,
            url: ObjectStoreUrl::parse(source.store.root())?,
            groups: source.groups.clone(),
            lost: source.lost.clone(),
        })
    }

    /// A table that this job wrote, or will write: `files` then hold no row yet and the plan must not be run.
    pub fn of_shards(store: &Store, schema: SchemaRef, files: &[FileEntry]) -> Result<Self> {
        let scanned = |file: &FileEntry| ScannedFile {
            meta: ObjectMeta {
                location: store.path_of(&file.key),
                last_modified: Default::default(),
                size: file.bytes,
                e_tag: None,
                version: None,
            },
            date: None,
            rows: file.rows.map(|rows| rows as usize),
        };
        let group = FileGroupShape {
            schema: schema.clone(),
            compression: FileCompressionType::UNCOMPRESSED,
            files: files.iter().map(scanned).collect(),
        };
        let url = ObjectStoreUrl::parse(store.root())?;
        let lost = BTreeMap::new();
        Ok(FilesTable { schema, partition: None, format: Format::Parquet, url, groups: vec![group], lost })
    }

    /// Every file, those that are decoded alike together.
    pub fn files(&self) -> impl Iterator<Item = &ScannedFile> {
        self.groups.iter().flat_map(|group| &group.files)
    }

    /// The same table over each of its files alone, with that file's place, in the order of the partitions' dates. A column that one of them
    /// lacks is null there.
    pub fn single_files(&self) -> Vec<(String, FilesTable)> {
        let files = self.groups.iter().flat_map(|group| group.files.iter().map(move |file| (group, file)));
        let mut files: Vec<(&FileGroupShape, &ScannedFile)> = files.collect();
        files.sort_by_key(|(_, file)| (file.date, &file.meta.location));
        let single = |(group, file): (&FileGroupShape, &ScannedFile)| {
            let one = FileGroupShape { files: vec![file.clone()], ..group.clone() };
            let table = FilesTable { groups: vec![one], lost: BTreeMap::new(), ..self.clone() };
            (file.meta.location.to_string(), table)
        };
        files.into_iter().map(single).collect()
    }

    /// The same table with another type for one of its columns.
    pub fn with_type(&self, column: &str, data_type: &DataType) -> FilesTable {
        let typed = |field: &Arc<Field>| match field.name() == column {
            true => Field::new(column, data_type.clone(), true),
            false => field.as_ref().clone(),
        };
        let schema = Schema::new(self.schema.fields().iter().map(typed).collect::<Vec<_>>());
        FilesTable { schema: Arc::new(schema), ..self.clone() }
    }

    /// A Parquet file of [`single_files`](Self::single_files) with the types that it has, so that nothing is converted; `None` for a text, which has none.
    pub fn as_written(&self) -> Option<FilesTable> {
        let schema = self.groups.first().filter(|_| self.format == Format::Parquet)?.schema.clone();
        Some(FilesTable { schema, ..self.clone() })
    }

    fn scan_group(&self, group: &FileGroupShape, wanted: &[usize], threads: usize) -> Result<Arc<dyn ExecutionPlan>> {
        let partition: Vec<_> =
            self.partition.iter().map(|name| Arc::new(Field::new(name, DataType::Date32, true))).collect();
        let table_schema = TableSchema::builder(group.schema.clone()).with_table_partition_cols(partition).build();
        let full = table_schema.table_schema().clone();
        let source: Arc<dyn FileSource> = match self.format {
            Format::Parquet => Arc::new(ParquetSource::new(table_schema)),
            Format::Csv => {
                // a quoted value may hold a line break, so one file is read by one task
                let options = CsvOptions { newlines_in_values: Some(true), ..Default::default() }.with_has_header(true);
                Arc::new(CsvSource::new(table_schema).with_csv_options(options))
            }
            Format::Json => Arc::new(JsonSource::new(table_schema)),
        };
        let mut needed: Vec<usize> =
            wanted.iter().filter_map(|at| full.index_of(self.schema.field(*at).name()).ok()).collect();
        needed.sort_unstable();
        let file = |file: &ScannedFile| {
            let date = || ScalarValue::Date32(file.date.map(days_since_epoch));
            let values = self.partition.iter().map(|_| date()).collect();
            PartitionedFile::new_from_meta(file.meta.clone()).with_partition_values(values)
        };
        let files: Vec<PartitionedFile> = group.files.iter().map(file).collect();
        let config = FileScanConfigBuilder::new(self.url.clone(), source)
            .with_file_groups(FileGroup::new(files).split_files(threads))
            .with_file_compression_type(group.compression)
            .with_statistics(statistics(group, &full))
            .with_projection_indices(Some(needed.clone()))?
            .build();
        let scan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(config);
        let scanned = scan.schema();
        let expressions = wanted
            .iter()
            .map(|at| {
                let field = self.schema.field(*at);
                let expr = convert(&scanned, field)?;
                Ok(ProjectionExpr { expr, alias: field.name().clone() })
            })
            .collect::<Result<Vec<_>>>()?;
        let in_place = |(at, one): (usize, &ProjectionExpr)| {
            one.expr.downcast_ref::<Column>().is_some_and(|column| column.index() == at && column.name() == one.alias)
        };
        if expressions.len() == scanned.fields().len() && expressions.iter().enumerate().all(in_place) {
            return Ok(scan);
        }
        Ok(Arc::new(ProjectionExec::try_new(expressions, scan)?))
    }
}

fn days_since_epoch(date: NaiveDate) -> i32 {
    (date - NaiveDate::default()).num_days() as i32
}

/// Counts of rows decide which side of a join is held in memory.
fn statistics(group: &FileGroupShape, schema: &Schema) -> Statistics {
    let mut statistics = Statistics::new_unknown(schema);
    let rows: Option<usize> = group.files.iter().map(|file| file.rows).sum();
    if let Some(rows) = rows {
        statistics.num_rows = Precision::Exact(rows);
    }
    statistics
}

/// The expression that makes `target` from what a file holds: its column, cast where types differ, or null.
fn convert(scanned: &SchemaRef, target: &Field) -> Result<Arc<dyn PhysicalExpr>> {
    let Ok(at) = scanned.index_of(target.name()) else {
        return Ok(Arc::new(Literal::new(ScalarValue::try_from(target.data_type())?)));
    };
    let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(target.name(), at));
    let found = scanned.field(at).data_type();
    if found == target.data_type() {
        return Ok(column);
    }
    if let (DataType::Utf8, DataType::List(item)) = (found, target.data_type()) {
        let parse = Arc::new(ScalarUDF::new_from_impl(ListText::new(item.data_type().clone())));
        return Ok(Arc::new(ScalarFunctionExpr::try_new(parse, vec![column], scanned, Default::default())?));
    }
    Ok(Arc::new(CastExpr::new(column, target.data_type().clone(), None)))
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let wanted = projection.unwrap_or(&all);
        if let Some(why) = wanted.iter().find_map(|at| self.lost.get(self.schema.field(*at).name())) {
            return plan_err!("{why}");
        }
        let threads = state.config().target_partitions();
        let scans =
            self.groups.iter().map(|group| self.scan_group(group, wanted, threads)).collect::<Result<Vec<_>>>()?;
        UnionExec::try_new(scans)
    }
}
