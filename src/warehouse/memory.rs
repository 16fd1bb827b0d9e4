//! The engine's memory: a pool that goes to those who need it, with what joins take and do not count.

use std::collections::HashMap;
use std::fmt::{Display, Formatter};
use std::sync::{Mutex, MutexGuard};

use datafusion::common::{Result, resources_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// How the engine names the held side of a hash join, sometimes with a number behind it.
const HELD_SIDE: &str = "HashJoinInput";

/// Bytes that the stage holds beside what the engine reserves, where there is that much.
const UNCOUNTED: usize = 512 << 20;

/// How the engine names the queues between threads. They can spill, but hold a few batches: nothing is kept for them.
const QUEUE: &str = "RepartitionExec";

/// How the engine names the rows of a sort, which it counts twice.
const SORT: &str = "ExternalSorter[";
/// How it names what a sort needs to put its rows in order: the keys of all of them. Those of ids and numbers take no more than the rows count for.
const MERGE: &str = "ExternalSorterMerge";

/// Bytes that are kept for each consumer that can spill and holds less, or else the quarter of an equal share; never more than that share.
const KEPT_FOR_EACH: usize = 128 << 20;

/// A pool that all share who can spill. Each is sure of a part of an equal share, and the rest goes to whoever asks: a plan has many consumers
/// that wait for others and hold nothing, and where nobody had more than an equal share, as in the engine's own fair pool, a grouping spilled
/// while three quarters of the memory stood empty. Who comes late may find too little, though. So there is the other way, too: equal shares.
///
/// The held side of a hash join, which cannot spill, counts for half as much again: once all of it is there, the engine puts it
/// together in one piece, and for that moment memory holds the rows twice beside their hash table. Not counted, the process outgrew its
/// limit by a quarter.
///
/// A sort sets memory aside for the merge of its rows, gives it back at the moment when it merges, and asks anew at once: so much is kept from those
/// who can spill, or another thread's sort takes it. The merge may need much more than that, the keys of all rows that the sort holds. With equal
/// shares that is kept too; if it were always, sorts that fit would spill.
#[derive(Debug)]
pub struct Pool {
    limit: usize,
    /// Bytes that the merge of a sort is sure of, once the sort has begun.
    for_merge: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether nobody who can spill gets more than an equal share.
    equal_shares: bool,
    /// Bytes of all held sides, as the engine counts them.
    held: usize,
    /// Bytes of all who cannot spill.
    fixed: usize,
    /// Bytes of each who can, but for queues.
    spilling: HashMap<usize, usize>,
    queues: usize,
    /// Bytes of all sorts' rows.
    sorting: usize,
    /// Bytes of the merge of each sort that has begun.
    merges: HashMap<usize, usize>,
    /// The sum for all who can.
    spillable: usize,
}

impl State {
    /// Bytes that `additional` of a held side come to, and the sum of all of them afterwards. The sums of what grew and what shrank are equal
    /// in the end, however they were cut into pieces.
    fn change(&self, consumer: &MemoryConsumer, bytes: usize, grows: bool) -> (usize, usize) {
        if !consumer.name().starts_with(HELD_SIDE) {
            return (bytes, self.held);
        }
        let after = if grows { self.held + bytes } else { self.held.saturating_sub(bytes) };
        (with_copy(after).abs_diff(with_copy(self.held)), after)
    }

    fn grow(&mut self, consumer: &MemoryConsumer, additional: usize) {
        let (bytes, held) = self.change(consumer, additional, true);
        self.held = held;
        if consumer.can_spill() {
            self.spillable += bytes;
            self.sorting += if consumer.name().starts_with(SORT) { bytes } else { 0 };
            if let Some(holds) = self.spilling.get_mut(&consumer.id()) {
                *holds += bytes;
            }
        } else {
            self.fixed += bytes;
            if consumer.name().starts_with(MERGE) {
                *self.merges.entry(consumer.id()).or_default() += bytes;
            }
        }
    }

    fn shrink(&mut self, consumer: &MemoryConsumer, less: usize) {
        let (bytes, held) = self.change(consumer, less, false);
        self.held = held;
        if consumer.can_spill() {
            self.spillable -= bytes;
            self.sorting -= if consumer.name().starts_with(SORT) { bytes } else { 0 };
            if let Some(holds) = self.spilling.get_mut(&consumer.id()) {
                *holds -= bytes;
            }
        } else {
            self.fixed -= bytes;
            if let Some(holds) = self.merges.get_mut(&consumer.id()) {
                *holds -= bytes;
            }
        }
    }

    /// Bytes by which a consumer may grow that holds `holds`, when `for_merge` are kept for each merge.
    fn left_for(&self, consumer: &MemoryConsumer, holds: usize, limit: usize, for_merge: usize) -> usize {
        if !consumer.can_spill() {
            return limit.saturating_sub(self.fixed + self.spillable);
        }
        let mut for_merges: usize = self.merges.values().map(|holds| for_merge.saturating_sub(*holds)).sum();
        if self.equal_shares {
            for_merges = for_merges.max(self.sorting.saturating_sub(self.merges.values().sum()));
        }
        let limit = limit.saturating_sub(for_merges);
        let free = limit.saturating_sub(self.fixed + self.spillable);
        let spillable = limit.saturating_sub(self.fixed);
        if self.equal_shares {
            return (spillable / (self.spilling.len() + self.queues).max(1)).saturating_sub(holds);
        }
        let equal = spillable / self.spilling.len().max(1);
        let sure = equal.min(KEPT_FOR_EACH.max(equal / 4));
        let others = self.spilling.iter().filter(|(id, _)| **id != consumer.id());
        let kept: usize = others.map(|(_, holds)| sure.saturating_sub(*holds)).sum();
        free.saturating_sub(kept).max(sure.saturating_sub(holds))
    }
}

fn is_queue(consumer: &MemoryConsumer) -> bool {
    consumer.name().starts_with(QUEUE)
}

impl Pool {
    /// A pool for a process that may hold `bytes`. Decoders, the encoder of what is written and the program itself are counted by nobody and
    /// come off first.
    /// A sort sets `for_merge` bytes aside when it begins.
    pub fn within(bytes: usize, for_merge: usize) -> Self {
        Pool { for_merge, ..Pool::new(bytes - (bytes / 8).min(UNCOUNTED)) }
    }

    /// From now on, nobody who can spill gets more than an equal share, or else whoever asks may.
    pub fn share_equally(&self, equally: bool) {
        self.state().equal_shares = equally;
    }

    fn new(limit: usize) -> Self {
        Pool { limit, for_merge: 0, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

impl Display for Pool {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        write!(
            f,
            "{} bytes, {} in use, {} of them can be spilled",
            self.limit,
            state.fixed + state.spillable,
            state.spillable
        )
    }
}

impl MemoryPool for Pool {
    fn name(&self) -> &str {
        "shared"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        match consumer.can_spill() {
            true if is_queue(consumer) => self.state().queues += 1,
            true => _ = self.state().spilling.insert(consumer.id(), 0),
            false => {}
        }
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        match consumer.can_spill() {
            true if is_queue(consumer) => self.state().queues -= 1,
            true => _ = self.state().spilling.remove(&consumer.id()),
            false => _ = self.state().merges.remove(&consumer.id()),
        }
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.state().grow(reservation.consumer(), additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.state().shrink(reservation.consumer(), shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let consumer = reservation.consumer();
        let mut state = self.state();
        let (wanted, _) = state.change(consumer, additional, true);
        let left = state.left_for(consumer, reservation.size(), self.limit, self.for_merge);
        if wanted > left {
            return resources_err!(
                "{} holds {} bytes and needs {wanted} more; {left} of {} are left for it",
                consumer.name(),
                reservation.size(),
                self.limit
            );
        }
        state.grow(consumer, additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        let state = self.state();
        state.fixed + state.spillable
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
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

    #[test]
    fn one_consumer_may_have_what_is_not_kept_for_the_others() {
        const MIB: usize = 1 << 20;
        let limited = Arc::new(Pool::new(1200 * MIB));
        let pool: Arc<dyn MemoryPool> = limited.clone();
        let spilling = |name: &str| MemoryConsumer::new(name).with_can_spill(true).register(&pool);
        let (grouping, sort, _idle) = (spilling("grouping"), spilling("sort"), spilling("idle"));
        let queue = spilling("RepartitionExec[0]");
        let join = MemoryConsumer::new("join").register(&pool);
        // an equal share is 400 MiB, and 128 are kept for each
        grouping.try_grow(900 * MIB).unwrap();
        assert!(grouping.try_grow(45 * MIB).is_err());
        grouping.try_grow(44 * MIB).unwrap();
        // nothing is kept for a queue, but it is not refused what others are sure of
        assert!(queue.try_grow(129 * MIB).is_err());
        sort.try_grow(128 * MIB).unwrap();
        assert!(sort.try_grow(MIB).is_err());
        // what cannot spill may have what is kept for those that can
        assert!(join.try_grow(129 * MIB).is_err());
        join.try_grow(128 * MIB).unwrap();
        drop((grouping, join));
        sort.try_grow(500 * MIB).unwrap();
        queue.try_grow(100 * MIB).unwrap();
        sort.free();
        queue.free();
        // three and the queue
        let late = spilling("late");
        limited.share_equally(true);
        sort.try_grow(300 * MIB).unwrap();
        assert!(sort.try_grow(1).is_err());
        drop((sort, queue, late));
        assert_eq!(pool.reserved(), 0);
    }

    /// A pool of 1000 bytes that keeps 10 for each merge, and of two sorts the rows and the merge.
    fn two_sorts(equal_shares: bool) -> (Arc<dyn MemoryPool>, [(MemoryReservation, MemoryReservation); 2]) {
        let pool = Pool { for_merge: 10, ..Pool::new(1000) };
        pool.share_equally(equal_shares);
        let pool: Arc<dyn MemoryPool> = Arc::new(pool);
        let sorts = [0, 1].map(|number| {
            let rows = MemoryConsumer::new(format!("ExternalSorter[{number}]")).with_can_spill(true).register(&pool);
            (rows, MemoryConsumer::new(format!("ExternalSorterMerge[{number}]")).register(&pool))
        });
        (pool, sorts)
    }

    #[test]
    fn what_a_sort_set_aside_to_merge_is_kept_until_it_asks_again() {
        let (pool, [(rows, merge), (others, others_merge)]) = two_sorts(false);
        merge.try_grow(10).unwrap();
        others_merge.try_grow(10).unwrap();
        rows.try_grow(490).unwrap();
        merge.free();
        others.try_grow(490).unwrap();
        assert!(others.try_grow(1).is_err() && rows.try_grow(1).is_err());
        merge.try_grow(7).unwrap();
        assert!(others.try_grow(1).is_err() && rows.try_grow(1).is_err());
        // a sort that has ended needs none
        drop((rows, merge));
        others.try_grow(1).unwrap();
        drop((others, others_merge));
        assert_eq!(pool.reserved(), 0);
    }

    #[test]
    fn with_equal_shares_sorts_leave_what_their_merges_may_need() {
        let (pool, [(rows, merge), (others, others_merge)]) = two_sorts(true);
        rows.try_grow(250).unwrap();
        others.try_grow(250).unwrap();
        assert!(others.try_grow(1).is_err() && rows.try_grow(1).is_err());
        merge.try_grow(250).unwrap();
        assert!(others.try_grow(1).is_err());
        others_merge.try_grow(250).unwrap();
        // rows that went to disk, and the memory of their merge, make room for as many
        drop((rows, merge));
        others.try_grow(125).unwrap();
        drop((others, others_merge));
        assert_eq!(pool.reserved(), 0);
    }

    #[test]
    fn small_pools_are_shared_equally() {
        let pool: Arc<dyn MemoryPool> = Arc::new(Pool::new(16 << 20));
        let [one, _other] = ["one", "other"].map(|name| MemoryConsumer::new(name).with_can_spill(true).register(&pool));
        one.try_grow(8 << 20).unwrap();
        assert!(one.try_grow(1).is_err());
    }
}
