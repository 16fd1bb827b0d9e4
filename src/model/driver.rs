//! What the NVIDIA driver says of this machine. It is asked before burn is, whose threads panic where there is no device.

use std::ffi::{CStr, c_int, c_uint, c_void};

/// The driver, and the compiler of the kernels that are made at run time, by the names they have on Linux.
const DRIVER: [&CStr; 2] = [c"libcuda.so.1", c"libcuda.so"];
const COMPILER: [&CStr; 4] = [c"libnvrtc.so", c"libnvrtc.so.13", c"libnvrtc.so.12", c"libnvrtc.so.11"];

/// The number of devices, at least one; or in words what is missing.
pub fn devices() -> Result<usize, String> {
    let driver = load(&DRIVER).ok_or("no NVIDIA driver is here (libcuda.so.1 cannot be loaded)")?;
    // SAFETY: the signatures are those of the CUDA driver API, which has not changed them since its first version
    let (init, count): (
        Option<unsafe extern "C" fn(c_uint) -> c_int>,
        Option<unsafe extern "C" fn(*mut c_int) -> c_int>,
    ) = unsafe {
        (std::mem::transmute(symbol(driver, c"cuInit")), std::mem::transmute(symbol(driver, c"cuDeviceGetCount")))
    };
    let (init, count) = init.zip(count).ok_or("libcuda.so.1 is not NVIDIA's driver")?;
    let mut devices = 0;
    // SAFETY: as the API wants them: no flags, and a place for the answer
    let code = unsafe {
        match init(0) {
            0 => count(&mut devices),
            code => code,
        }
    };
    if code != 0 || devices < 1 {
        return Err(format!("the NVIDIA driver finds no device (it answers {code})"));
    }
    load(&COMPILER).ok_or("the CUDA toolkit's compiler is missing (libnvrtc.so cannot be loaded)")?;
    Ok(devices as usize)
}

/// A library by the first of its names that can be loaded. It stays loaded: burn loads it next.
fn load(names: &[&CStr]) -> Option<*mut c_void> {
    // SAFETY: a C string; what the library runs when it is loaded is what burn would run
    let open = |name: &&CStr| unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
    names.iter().map(open).find(|library| !library.is_null())
}

fn symbol(library: *mut c_void, name: &CStr) -> *mut c_void {
    // SAFETY: a library that is loaded, and a C string
    unsafe { libc::dlsym(library, name.as_ptr()) }
}
