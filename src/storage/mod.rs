//! The object store: one way to reach local folders, S3 and (in tests) memory, and Parquet shards on it.

mod blame;
mod credentials;
#[cfg(test)]
pub mod damage;
mod encode;
#[cfg(fail_points)]
mod fail;
mod files;
mod guard;
mod lease;
mod open;
mod patient;
mod read;
mod sealed;
mod shards;
#[cfg(test)]
pub mod simulated;
mod staged;
mod store;
mod write;

pub use blame::{Blame, blame};
pub use files::FileEntry;
pub use guard::{guarded, guarded_future, guarded_stream};
pub use lease::{Clock, Holder, Lease, Turn, release_held, user_and_host};
pub use open::open;
pub use read::{decode_parquet, parquet_schema, read_parquet, read_parquet_stream, sorted_parts};
pub use sealed::{seal, unseal};
pub use shards::{ShardWriter, encode_parquet};
pub use store::{Created, Object, Store, expired, full, full_text, sha256_hex};
pub use write::ObjectWriter;
