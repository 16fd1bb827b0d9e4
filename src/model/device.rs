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
    let refused = |why: String| {
        Error::config(format!("training.device: found cuda:{index}, and {why}; use `cpu`, or run where the device is"))
    };
    match super::driver::devices() {
        Ok(count) if index < count => Ok(Device::cuda(index)),
        Ok(1) => Err(refused("this machine has one NVIDIA device, cuda:0".into())),
        Ok(count) => Err(refused(format!("this machine has {count} NVIDIA devices, numbered from 0"))),
        Err(why) => Err(refused(why)),
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda(index: usize) -> Result<Device> {
    Err(Error::config(format!(
        "training.device: found cuda:{index}, and this program was built without CUDA; use `cpu`, or build with --features cuda"
    )))
}

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_device_that_is_not_there_is_an_error_that_says_what_was_found() {
        let error = device("cuda:99").expect_err("no machine has a hundred");
        assert_eq!(error.kind, Kind::Config);
        assert!(error.message.starts_with("training.device: found cuda:99, and "), "{error}");
        assert!(error.message.ends_with("; use `cpu`, or run where the device is"), "{error}");
    }
}
