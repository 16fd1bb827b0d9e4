//! The engine's memory: a pool that is shared fairly by all that can spill, with what joins take and do not count.

use std::fmt::{Display, Formatter};
use std::sync::Mutex;

use datafusion::common::Result;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// How the engine names the held side of a hash join, sometimes with a number behind it.
const HELD_SIDE: &str = "HashJoinInput";

/// Bytes that the stage holds beside what the engine reserves, where there is that much.
const UNCOUNTED: usize = 512 << 20;

/// The engine's fair pool, in which the held side of a hash join counts for half as much again: once all of it is there, the engine puts it
/// together in one piece, and for that moment memory holds the rows twice beside their hash table. Not counted, the process outgrew its
/// limit by a quarter.
#[derive(Debug)]
pub struct Pool {
    inner: FairSpillPool,
    /// Bytes of all held sides, as the engine counts them.
    held: Mutex<usize>,
}

impl Pool {
    /// A pool for a process that may hold `bytes`. Decoders, the encoder of what is written and the program itself are counted by nobody and
    /// come off first.
    pub fn within(bytes: usize) -> Self {
        Pool::new(bytes - (bytes / 8).min(UNCOUNTED))
    }

    fn new(bytes: usize) -> Self {
        Pool { inner: FairSpillPool::new(bytes), held: Mutex::default() }
    }

    /// Hands a change of `bytes` to `change` as it counts here. The sums of what grew and what shrank are equal in the end, however they
    /// were cut into pieces.
    fn counted(
        &self,
        reservation: &MemoryReservation,
        bytes: usize,
        grows: bool,
        change: impl FnOnce(usize) -> Result<()>,
    ) -> Result<()> {
        if !reservation.consumer().name().starts_with(HELD_SIDE) {
            return change(bytes);
        }
        let mut held = self.held.lock().expect("no holder of this lock panics");
        let after = if grows { *held + bytes } else { held.saturating_sub(bytes) };
        change(with_copy(after).abs_diff(with_copy(*held)))?;
        *held = after;
        Ok(())
    }
}

impl Display for Pool {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl MemoryPool for Pool {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.inner.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.inner.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        let grown = self.counted(reservation, additional, true, |bytes| {
            self.inner.grow(reservation, bytes);
            Ok(())
        });
        debug_assert!(grown.is_ok());
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        let shrunk = self.counted(reservation, shrink, false, |bytes| {
            self.inner.shrink(reservation, bytes);
            Ok(())
        });
        debug_assert!(shrunk.is_ok());
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.counted(reservation, additional, true, |bytes| self.inner.try_grow(reservation, bytes))
    }

    fn reserved(&self) -> usize {
        self.inner.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.inner.memory_limit()
    }
}

/// Bytes of a held side at the moment when there is most of it.
fn with_copy(bytes: usize) -> usize {
    bytes + bytes / 2
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_held_side_of_a_join_counts_for_half_as_much_again_and_all_of_it_comes_back() {
        let pool: Arc<dyn MemoryPool> = Arc::new(Pool::new(150));
        let side = |number: u32| MemoryConsumer::new(format!("HashJoinInput[{number}]")).register(&pool);
        let (first, second) = (side(0), side(1));
        for _ in 0..33 {
            first.try_grow(1).unwrap();
        }
        second.try_grow(67).unwrap();
        assert_eq!(pool.reserved(), 150);
        assert!(first.try_grow(1).is_err() && second.try_grow(1).is_err());
        let sort = MemoryConsumer::new("ExternalSorter[0]").with_can_spill(true).register(&pool);
        assert!(sort.try_grow(1).is_err());
        drop(first);
        second.shrink(33);
        assert_eq!(pool.reserved(), 51);
        sort.try_grow(99).unwrap();
        assert_eq!(pool.reserved(), 150);
        drop((second, sort));
        assert_eq!(pool.reserved(), 0);
    }
}
