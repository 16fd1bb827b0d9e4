//! The numeric hot path: everything a training step spends its time in but for tower layers that are not plain, and of the sample tables
//! the draws and the rows of groups.
//!
//! Plain slices in, plain slices out: no tensor library, no configuration, no clock. Every result is
//! the same to the bit for any number of rayon threads, because work is cut into pieces by the size
//! of the problem (never by the number of threads) and partial sums are added in a fixed order.
//! Another CPU model may round differently, since `gemm` picks its tiles by the caches it finds.

pub mod draws;
mod hardest;
pub mod layers;
pub mod math;
mod panel;
pub mod pooling;
pub mod random;
pub mod records;
pub mod softmax;
pub mod tables;
mod wide;
