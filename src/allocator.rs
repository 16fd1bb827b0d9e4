//! The process's allocator, and how it gives memory back.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_minimal_purge_size` in the enumeration of mimalloc 3: KiB below which unused memory stays with the process.
const MINIMAL_PURGE_SIZE: c_int = 44;
/// A huge page of x86-64.
const HUGE_PAGE_KIB: c_long = 2048;

unsafe extern "C" {
    /// Sets what the environment (`MIMALLOC_…`) does not.
    fn mi_option_set_default(option: c_int, value: c_long);
}

/// Gives memory back in whole huge pages. By default that is done in pieces of 64 KiB, which breaks huge pages up: each piece
/// costs the kernel a fault and a clearing for every 4 KiB when it is used again, and batches of rows come and go all the time.
pub fn set_up() {
    // SAFETY: the function writes one number of mimalloc's own table, and ignores an option that it does not have
    unsafe { mi_option_set_default(MINIMAL_PURGE_SIZE, HUGE_PAGE_KIB) }
}

#[cfg(test)]
mod tests {
    use std::ffi::{CStr, c_char, c_void};
    use std::ptr::from_mut;

    unsafe extern "C" {
        fn mi_options_print_out(out: extern "C" fn(*const c_char, *mut c_void), to: *mut c_void);
    }

    extern "C" fn append(text: *const c_char, to: *mut c_void) {
        // SAFETY: mimalloc hands over a C string, and what the test gave it
        let (text, to) = unsafe { (CStr::from_ptr(text), &mut *to.cast::<String>()) };
        to.push_str(&text.to_string_lossy());
    }

    #[test]
    fn the_option_that_is_set_is_the_one_meant() {
        super::set_up();
        let mut told = String::new();
        // SAFETY: `append` is called before this returns, with the string that is given here
        unsafe { mi_options_print_out(append, from_mut(&mut told).cast()) };
        assert!(told.contains("option 'minimal_purge_size': 2048 KiB"), "{told}");
    }
}
