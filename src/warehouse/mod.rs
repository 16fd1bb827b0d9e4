//! From sources to SQL tables: which files a window of days means, what they hold, and the session that reads them.

mod catalog;
mod collect;
mod corpus;
mod drift;
mod early_sort;
mod expressions;
mod faults;
mod grouped_rows;
mod hash;
mod histories;
mod inspect;
mod keep;
mod listing;
mod lists;
mod memory;
mod one_step;
mod ordered_runs;
mod own_rows;
mod parts;
mod ranker;
mod rule;
mod sample_draws;
mod schema;
mod seen;
mod session;
mod table;
#[cfg(test)]
mod tests;
mod types;

pub use catalog::Catalog;
pub use corpus::{Corpus, DRAWING_FUNCTIONS, weights_of};
pub use drift::Retyped;
pub use expressions::{is_taken_for_a_column, type_of_expression};
pub use faults::{diagnose, execute, explain_execution, is_out_of_memory};
pub use hash::{ORDER_SEED, StableHash, place_of_sample};
pub use inspect::{Inspected, Partitions, inspect};
pub use keep::Dropped;
pub use listing::{Listing, Partition, Unlisted, is_after_date};
pub use schema::{read_schema, rows_of};
pub use seen::{ColumnSeen, EPOCH_SECONDS, EPOCHS, column_type};
pub use session::{Joins, Warehouse};
pub use table::{FilesTable, SourceTable};
pub use types::{TIMESTAMP, declared, normalised, sql_name, table_type};
