//! Weighted draws in constant time, and without what is known.

use crate::random::{GOLDEN, mix};

/// Walker's alias table in Vose's construction: a uniform slot, then the slot itself or its alias.
#[derive(Debug)]
pub struct AliasTable {
    /// Of each slot, the chance that it yields itself, in units of 2^-32, and what it yields otherwise: together, for one read each draw.
    slots: Vec<(u32, u32)>,
}

impl AliasTable {
    /// A table that yields `0..weights.len()`, which must be less than 2^32, by the weights.
    pub fn new(weights: &[f64]) -> Self {
        let n = weights.len();
        let total: f64 = weights.iter().sum();
        let mut share: Vec<f64> = weights.iter().map(|weight| weight / total * n as f64).collect();
        let mut alias: Vec<u32> = (0..n as u32).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..n).partition(|slot| share[*slot] < 1.0);
        while let (Some(low), Some(high)) = (small.pop(), large.last().copied()) {
            alias[low] = high as u32;
            share[high] -= 1.0 - share[low];
            if share[high] < 1.0 {
                large.pop();
                small.push(high);
            }
        }
        // what is left is 1 but for rounding, and yields itself as its own alias
        let slots = share.iter().zip(alias).map(|(share, alias)| ((share * 2f64.powi(32)) as u32, alias));
        AliasTable { slots: slots.collect() }
    }

    /// The `draw`-th slot of the stream that belongs to `key`.
    pub fn draw(&self, key: u64, draw: u64) -> u32 {
        let bits = mix(key.wrapping_add(GOLDEN.wrapping_mul(draw + 1)));
        // the whole part of a number uniform in 0..n is the slot; what is behind the point is uniform too, and decides about its alias
        let place = u128::from(bits) * self.slots.len() as u128;
        let (slot, rest) = ((place >> 64) as usize, ((place as u64) >> 32) as u32);
        let (keep, alias) = self.slots[slot];
        // which of both is as good as random: a branch would be foretold wrong every other time
        let itself = u32::from(rest < keep).wrapping_neg();
        (slot as u32 & itself) | (alias & !itself)
    }

    /// Appends the first `count` slots of the stream of `key`, in order of the slots, without those whose number in `numbers` is known.
    pub fn draw_unknown(&self, key: u64, count: u64, numbers: &[i64], known: &NumberSet, drawn: &mut Vec<i32>) {
        let start = drawn.len();
        drawn.extend((0..count).map(|draw| self.draw(key, draw) as i32));
        let mut kept = start;
        for place in start..drawn.len() {
            let slot = drawn[place];
            drawn[kept] = slot;
            kept += usize::from(!known.has(numbers[slot as usize]));
        }
        drawn.truncate(kept);
        drawn[start..].sort_unstable();
    }
}

/// A set of numbers that is filled again and again.
#[derive(Default)]
pub struct NumberSet {
    /// A number and the filling that put it there.
    places: Vec<(i64, u32)>,
    filling: u32,
    /// Bits of a place, of those that this filling uses.
    bits: u32,
    /// For each number a bit, of [`MARKS`] times as many as there are places. Most numbers that are asked for are not there, and few of those find
    /// their bit set, so that the processor foretells the answer; whether a place is taken it does not.
    marks: Vec<u64>,
}

/// Bits in [`NumberSet::marks`] for each place.
const MARKS: u32 = 8;

impl NumberSet {
    /// Holds these numbers in place of those before.
    pub fn fill(&mut self, numbers: &[i64]) {
        // at most half full
        self.bits = (2 * numbers.len().max(4)).next_power_of_two().trailing_zeros();
        if self.filling == u32::MAX || self.places.len() < 1 << self.bits {
            self.places = vec![(0, 0); self.places.len().max(1 << self.bits)];
            self.filling = 0;
        }
        self.filling += 1;
        self.marks.clear();
        self.marks.resize(((MARKS << self.bits) / u64::BITS) as usize, 0);
        for number in numbers {
            let place = self.find(*number);
            self.places[place] = (*number, self.filling);
            let (word, bit) = self.mark(*number);
            self.marks[word] |= bit;
        }
    }

    pub fn has(&self, number: i64) -> bool {
        let (word, bit) = self.mark(number);
        self.marks[word] & bit != 0 && self.places[self.find(number)].1 == self.filling
    }

    /// The word and the bit in it that a number marks.
    fn mark(&self, number: i64) -> (usize, u64) {
        let mark = (number as u64).wrapping_mul(GOLDEN) >> (64 - self.bits - MARKS.trailing_zeros());
        ((mark / u64::from(u64::BITS)) as usize, 1 << (mark % u64::from(u64::BITS)))
    }

    /// Where a number is, or the free place for it.
    fn find(&self, number: i64) -> usize {
        let mut place = ((number as u64).wrapping_mul(GOLDEN) >> (64 - self.bits)) as usize;
        while self.places[place].1 == self.filling && self.places[place].0 != number {
            place = (place + 1) & ((1 << self.bits) - 1);
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_drawn_by_their_weights() {
        let weights = [1.0, 0.0, 2.0, 5.0, 0.5];
        let table = AliasTable::new(&weights);
        let n = 200_000;
        let mut counts = [0f64; 5];
        for key in 0..n / 10 {
            (0..10).for_each(|draw| counts[table.draw(mix(key), draw) as usize] += 1.0);
        }
        let total: f64 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(weights) {
            let (share, expected) = (count / n as f64, weight / total);
            assert!((share - expected).abs() <= 4.0 * (expected / n as f64).sqrt(), "{share} against {expected}");
        }
    }

    #[test]
    fn a_set_holds_what_it_was_filled_with_last() {
        let mut set = NumberSet::default();
        for n in [0i64, 1, 100, 3, 5000] {
            set.fill(&(0..n).map(|x| x * x).collect::<Vec<_>>());
            (0..n).for_each(|x| assert!(set.has(x * x)));
            assert!(!set.has(n * n) && !set.has(-1) && !set.has(i64::MAX));
        }
    }
}
