//! Where the dense layers run.

use burn::tensor::Device;

use crate::error::{Error, Result};

/// `cpu`, or `cuda:N` in a build with the cargo feature `cuda`.
pub fn device(name: &str) -> Result<Device> {
    match (name, name.strip_prefix("cuda:").map(str::parse::<usize>)) {
        ("cpu", _) => Ok(Device::flex()),
        (_, Some(Ok(index))) => cuda(index),
        _ => Err(Error::config(format!("training.device: found {name}, expected `cpu` or `cuda:0`"))),
    }
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device> {
    Ok(Device::cuda(index))
}

#[cfg(not(feature = "cuda"))]
fn cuda(index: usize) -> Result<Device> {
    Err(Error::config(format!(
        "training.device: found cuda:{index}, and this program was built without CUDA; use `cpu`, or build with --features cuda"
    )))
}
