//! Long arrays that memory need not hold: past a budget they lie in a file without a name, mapped for reading, so that whoever reads them
//! sees a slice either way.

use std::fs::File;
use std::io::Write;
use std::ops::{Deref, Range};
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// Values that whoever goes through a long array reads before he lets go of them.
pub const AT_ONCE: usize = 1 << 20;

/// The places of `len` values in pieces of [`AT_ONCE`]; the last may be shorter. `let_go`, which releases the columns that
/// are gone through, is called before each piece and behind the last.
pub fn pieces(len: usize, let_go: impl Fn()) -> impl Iterator<Item = Range<usize>> {
    let mut starts = (0..len).step_by(AT_ONCE);
    std::iter::from_fn(move || {
        let_go();
        let start = starts.next()?;
        Some(start..len.min(start + AT_ONCE))
    })
}

/// What arrays may hold in memory together, and the folder of those beyond.
#[derive(Debug, Clone)]
pub struct Spill {
    folder: PathBuf,
    /// Bytes of memory that nothing has taken.
    left: Arc<AtomicUsize>,
}

impl Spill {
    /// The system's temporary folder, where none is given.
    pub fn new(folder: Option<String>, memory: usize) -> Self {
        let folder = folder.map_or_else(std::env::temp_dir, PathBuf::from);
        Spill { folder, left: Arc::new(AtomicUsize::new(memory)) }
    }

    fn take(&self, bytes: usize) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A file that is gone when it is closed, and with the process.
    fn file(&self) -> Result<File> {
        let made = std::fs::create_dir_all(&self.folder).and_then(|()| tempfile::tempfile_in(&self.folder));
        made.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::transient(format!(
            "cannot write encoded samples to {}: make room there, name another folder in `samples.spill`, or raise `training.samples_memory`",
            self.folder.display()
        ))
        .caused_by(error)
    }
}

/// A number all of whose bit patterns are values.
///
/// # Safety
/// The type has no padding and no invalid values.
pub unsafe trait Number: Copy + Send + Sync + 'static {}

// SAFETY: plain numbers
unsafe impl Number for u32 {}
unsafe impl Number for u64 {}
unsafe impl Number for i64 {}
unsafe impl Number for f32 {}

/// An array that only grows.
#[derive(Debug)]
pub struct Column<T: Number>(Place<T>);

#[derive(Debug)]
enum Place<T: Number> {
    Memory(Vec<T>),
    File(Mapped<T>),
}

impl<T: Number> Column<T> {
    /// Appends values. Where memory has no room for them, all go to a file.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn append(&mut self, values: &[T], spill: &Spill) -> Result<()> {
        if let Place::Memory(all) = &mut self.0 {
            if spill.take(size_of_val(values)) {
                all.extend_from_slice(values);
                return Ok(());
            }
            let mut file = Mapped { file: spill.file()?, map: NonNull::dangling(), len: 0 };
            file.append(all).map_err(|error| spill.failed(error))?;
            spill.give_back(size_of_val(&all[..]));
            self.0 = Place::File(file);
        }
        match &mut self.0 {
            Place::File(file) => file.append(values).map_err(|error| spill.failed(error)),
            Place::Memory(_) => Ok(()),
        }
    }

    /// The same array where `spill` has room for it.
    pub fn placed(values: Vec<T>, spill: &Spill) -> Result<Self> {
        if spill.take(size_of_val(&values[..])) {
            return Ok(Column(Place::Memory(values)));
        }
        let mut file = Mapped { file: spill.file()?, map: NonNull::dangling(), len: 0 };
        file.append(&values).map_err(|error| spill.failed(error))?;
        Ok(Column(Place::File(file)))
    }

    /// An array that is in memory, to be changed.
    ///
    /// # Panics
    /// If it lies in a file, which is only read and appended to.
    pub fn memory(&mut self) -> &mut Vec<T> {
        match &mut self.0 {
            Place::Memory(values) => values,
            Place::File(_) => panic!("an array in a file is only read"),
        }
    }

    /// Gives back memory that was reserved for more values.
    pub fn shrink(&mut self) {
        if let Place::Memory(values) = &mut self.0 {
            values.shrink_to_fit();
        }
    }

    /// Says that what was read of a file will not be needed soon: its pages no longer count as this process's.
    pub fn release(&self) {
        if let Place::File(file) = &self.0 {
            file.advise(0..file.len, libc::MADV_DONTNEED);
        }
    }

    /// Says that the values at `places` will be needed, so that the system reads them in one go.
    pub fn will_need(&self, places: Range<usize>) {
        if let Place::File(file) = &self.0 {
            file.advise(places.start..places.end.min(file.len), libc::MADV_WILLNEED);
        }
    }
}

impl<T: Number> Default for Column<T> {
    fn default() -> Self {
        Column(Place::Memory(Vec::new()))
    }
}

impl<T: Number> From<Vec<T>> for Column<T> {
    fn from(values: Vec<T>) -> Self {
        Column(Place::Memory(values))
    }
}

impl<T: Number> Deref for Column<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Place::Memory(values) => values,
            Place::File(file) => file.values(),
        }
    }
}

/// Values in a file, mapped for reading.
#[derive(Debug)]
struct Mapped<T> {
    file: File,
    /// The start of the mapping; of no meaning without values.
    map: NonNull<T>,
    len: usize,
}

// SAFETY: the mapping is read only while it is shared, and changed through `&mut` alone
unsafe impl<T: Number> Send for Mapped<T> {}
unsafe impl<T: Number> Sync for Mapped<T> {}

impl<T: Number> Mapped<T> {
    fn append(&mut self, values: &[T]) -> std::io::Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        // SAFETY: the values are numbers without padding, so all of their bytes are initialised
        let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
        self.file.write_all(bytes)?;
        self.unmap();
        let len = self.len + values.len();
        self.len = 0;
        // SAFETY: the file has `len` values. It has no name, so no other process can make it shorter
        let map = unsafe {
            use std::os::fd::AsRawFd;
            let (read, shared) = (libc::PROT_READ, libc::MAP_SHARED);
            libc::mmap(std::ptr::null_mut(), len * size_of::<T>(), read, shared, self.file.as_raw_fd(), 0)
        };
        if map == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        let map = NonNull::new(map.cast::<T>()).ok_or_else(|| std::io::Error::other("mapped at address 0"))?;
        (self.map, self.len) = (map, len);
        Ok(())
    }

    fn values(&self) -> &[T] {
        // SAFETY: `len` values are mapped from `map` on (none from a dangling one), and stay so until `&mut self` maps anew
        unsafe { std::slice::from_raw_parts(self.map.as_ptr(), self.len) }
    }

    fn unmap(&mut self) {
        if self.len > 0 {
            // SAFETY: mapped with this length, and no slice of it is alive
            unsafe { libc::munmap(self.map.as_ptr().cast(), self.len * size_of::<T>()) };
        }
    }

    /// A hint; what it is refused is no loss.
    fn advise(&self, places: Range<usize>, advice: libc::c_int) {
        /// Pages begin at multiples of their size, which is no more than this on any system.
        const PAGE: usize = 64 << 10;
        if places.is_empty() {
            return;
        }
        let (first, end) = (places.start * size_of::<T>() / PAGE * PAGE, places.end * size_of::<T>());
        // SAFETY: within the mapping, which starts at a page; neither advice changes what a shared mapping of a file reads
        unsafe { libc::madvise(self.map.as_ptr().byte_add(first).cast(), end - first, advice) };
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: as in `unmap`
            unsafe { libc::munmap(self.map.as_ptr().cast(), self.len * size_of::<T>()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn appended(spill: &Spill, pieces: usize) -> Column<u32> {
        let mut column = Column::default();
        for piece in 0..pieces as u32 {
            let values: Vec<u32> = (piece * 1000..(piece + 1) * 1000).collect();
            column.append(&values, spill).unwrap();
            assert_eq!(column.last(), values.last(), "it can be read between two pieces");
        }
        column
    }

    #[test]
    fn an_array_reads_the_same_in_memory_and_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("made");
        let spill = Spill::new(Some(place.to_string_lossy().into()), 10_000);
        let (small, large) = (appended(&spill, 2), appended(&spill, 300));
        assert!(matches!((&small.0, &large.0), (Place::Memory(_), Place::File(_))));
        assert!(large.iter().copied().eq(0..300_000));
        large.will_need(1000..2000);
        large.will_need(299_000..400_000);
        large.release();
        assert_eq!((large[1234], large[299_999]), (1234, 299_999));
        // the file has no name, and its memory went back
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
        let placed = [Column::placed(vec![1.5f32; 400], &spill), Column::placed(vec![2.5f32; 400], &spill)];
        let [first, second] = placed.map(Result::unwrap);
        assert!(matches!((&first.0, &second.0), (Place::Memory(_), Place::File(_))));
        assert_eq!((first[399], second[399]), (1.5, 2.5));
    }

    #[test]
    fn pieces_cover_all_places_and_what_they_read_is_let_go_between_them() {
        let let_go = std::cell::Cell::new(0);
        let cut = |len: usize| pieces(len, || let_go.set(let_go.get() + 1)).collect::<Vec<_>>();
        assert_eq!(cut(2 * AT_ONCE + 5), [0..AT_ONCE, AT_ONCE..2 * AT_ONCE, 2 * AT_ONCE..2 * AT_ONCE + 5]);
        assert_eq!(let_go.get(), 4);
        assert!(cut(0).is_empty() && cut(AT_ONCE).len() == 1);
    }

    #[test]
    fn a_folder_that_takes_no_file_is_named_with_what_to_do() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let spill = Spill::new(Some(file.path().to_string_lossy().into()), 8);
        let mut column = Column::default();
        column.append(&[1u64], &spill).unwrap();
        let error = column.append(&[2], &spill).unwrap_err();
        assert_eq!(error.kind, Kind::Transient);
        assert!(error.message.contains("name another folder in `samples.spill`"), "{error}");
        assert_eq!(column[..], [1]);
    }
}
