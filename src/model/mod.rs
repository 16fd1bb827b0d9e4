//! The two towers: rows of embedding tables and numbers become one input row, dense layers follow, and the output is
//! divided by its L2 norm.
//!
//! The tables and the normalisation stay outside of burn: its embedding would make a gradient as large as the table
//! at every step. Between them are dense layers: plain ones on the CPU are the kernel's, all others burn's.

mod dense;
mod device;
#[cfg(feature = "cuda")]
mod driver;
mod dropout;
mod files;
mod input;
mod parameters;
pub mod tensors;
mod towers;

pub use dense::{BatchStatistics, Dense};
pub use device::device;
pub use dropout::Dropout;
pub use files::{Files, Part, read_spec, read_weights};
pub use input::Input;
pub(crate) use towers::read;
pub use towers::{NORM_EPSILON, Towers, Weights};
