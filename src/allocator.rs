//! The process's allocator, and how it gives memory back.

use std::ffi::{c_int, c_long};
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::progress::resident;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` in the enumeration of mimalloc 3: milliseconds for which unused memory stays with the process.
const PURGE_DELAY: c_int = 15;
/// Its default.
const A_SECOND: c_long = 1000;
/// Longer than any job.
const A_WEEK: c_long = 7 * 86_400_000;
/// `mi_option_minimal_purge_size`: KiB below which unused memory stays with the process.
const MINIMAL_PURGE_SIZE: c_int = 44;
/// A huge page of x86-64.
const HUGE_PAGE_KIB: c_long = 2048;

/// How often it is looked how much the process holds.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(50);

unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
    /// Sets what the environment (`MIMALLOC_…`) does not.
    fn mi_option_set_default(option: c_int, value: c_long);
    fn mi_collect(force: bool);
}

/// Gives memory back in whole huge pages. By default that is done in pieces of 64 KiB, which breaks huge pages up: each piece
/// costs the kernel a fault and a clearing for every 4 KiB when it is used again, and batches of rows come and go all the time.
pub fn set_up() {
    // SAFETY: the function writes one number of mimalloc's own table, and ignores an option that it does not have
    unsafe { mi_option_set_default(MINIMAL_PURGE_SIZE, HUGE_PAGE_KIB) }
}

/// While one lives, memory that is not used stays with the process. What is given back must be cleared by the kernel before it is used
/// again: a quarter of the processor time of sorts, joins and groupings that follow one another.
pub struct Kept {
    /// Hung up to end the watch.
    watched: Option<Sender<()>>,
    watch: Option<JoinHandle<()>>,
}

/// How many [`Kept`] live.
static KEEPING: Mutex<usize> = Mutex::new(0);

impl Kept {
    /// As long as the process holds no more than `most` bytes; above that, all that is not used is given back at once.
    pub fn up_to(most: usize) -> Kept {
        let mut keeping = KEEPING.lock().unwrap_or_else(|broken| broken.into_inner());
        *keeping += 1;
        keep_for(A_WEEK);
        let (watched, hung_up) = channel::<()>();
        let watch = std::thread::Builder::new().name("memory".into()).spawn(move || {
            while hung_up.recv_timeout(LOOKED_AT_EVERY) == Err(RecvTimeoutError::Timeout) {
                if resident().is_some_and(|held| held > most as u64) {
                    give_back();
                }
            }
        });
        if watch.is_err() {
            // nobody would look
            keep_for(A_SECOND);
        }
        Kept { watched: Some(watched), watch: watch.ok() }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.watched.take();
        if let Some(watch) = self.watch.take() {
            let _ = watch.join();
        }
        let mut keeping = KEEPING.lock().unwrap_or_else(|broken| broken.into_inner());
        *keeping -= 1;
        if *keeping == 0 {
            keep_for(A_SECOND);
            give_back();
        }
    }
}

/// Memory that is not used stays with the process for so many milliseconds.
fn keep_for(milliseconds: c_long) {
    // SAFETY: writes one number
    unsafe { mi_option_set(PURGE_DELAY, milliseconds) }
}

/// Gives all memory that is not used back to the system.
fn give_back() {
    // SAFETY: any thread may call it at any time
    unsafe { mi_collect(true) }
}

#[cfg(test)]
mod tests {
    use std::ffi::{CStr, c_char, c_void};
    use std::ptr::from_mut;

    use super::*;

    unsafe extern "C" {
        fn mi_options_print_out(out: extern "C" fn(*const c_char, *mut c_void), to: *mut c_void);
    }

    extern "C" fn append(text: *const c_char, to: *mut c_void) {
        // SAFETY: mimalloc hands over a C string, and what the test gave it
        let (text, to) = unsafe { (CStr::from_ptr(text), &mut *to.cast::<String>()) };
        to.push_str(&text.to_string_lossy());
    }

    fn options() -> String {
        let mut told = String::new();
        // SAFETY: `append` is called before this returns, with the string that is given here
        unsafe { mi_options_print_out(append, from_mut(&mut told).cast()) };
        told
    }

    #[test]
    fn the_options_that_are_set_are_the_ones_meant() {
        set_up();
        assert!(options().contains("option 'minimal_purge_size': 2048 KiB"), "{}", options());
        let kept = [Kept::up_to(1 << 40), Kept::up_to(1 << 40)];
        for one in kept {
            assert!(options().contains("option 'purge_delay': 604800000"), "{}", options());
            drop(one);
        }
        assert!(options().contains("option 'purge_delay': 1000"), "{}", options());
    }
}
