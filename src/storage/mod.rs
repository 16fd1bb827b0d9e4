//! The object store: one way to reach local folders, S3 and (in tests) memory, and Parquet shards on it.

mod credentials;
mod open;
mod read;
mod shards;
mod store;

pub use open::open;
pub use read::{parquet_schema, read_parquet, read_parquet_stream, sorted_parts};
pub use shards::{FileEntry, ShardWriter};
pub use store::{Created, Object, Store, sha256_hex};
