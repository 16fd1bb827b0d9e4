//! What index, evaluation and `recommend` share: item and user vectors read in blocks, exact search, and seeded choices.

mod exact;
#[cfg(test)]
pub mod fixture;
mod hash;
mod items;
mod numbers;
mod users;

pub use exact::{ExactSearch, Hit, exact_top};
pub use hash::{seeded_hash, smallest};
pub use items::{ItemVectors, item_vectors};
pub use numbers::{IdNumbers, id_pairs};
pub use users::{UserTower, each_user_block, table, user_ids};
