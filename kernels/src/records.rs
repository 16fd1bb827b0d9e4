//! Rows as records of bytes, kept by group.

use std::ops::Range;

/// Groups of one bucket: so few that their records, and what they are brought to, lie in a near cache.
const GROUPS: usize = 64;
/// Bytes of the records that are allocated at a time, at least and at most.
const CHUNK: Range<usize> = 1 << 8..1 << 17;

/// Records of one width, each of a group: its first byte is ours.
///
/// They lie in buckets of a few groups. So each is copied twice, when it comes and when its group is given out, and both times between
/// places that are in a near cache; to take the values of each group from where they came costs a way to memory for each.
#[derive(Debug)]
pub struct Records {
    width: usize,
    buckets: Vec<Bucket>,
    bytes: usize,
}

/// Records of a few groups, in the order in which they came.
#[derive(Debug)]
pub struct Bucket {
    width: usize,
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
}

impl Records {
    /// Each of `width` bytes, the first included.
    pub fn new(width: usize) -> Self {
        Records { width, buckets: Vec::new(), bytes: 0 }
    }

    /// Bytes that are allocated.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds records that lie side by side, each of the group that `groups` names.
    pub fn add(&mut self, records: &mut [u8], groups: &[u32]) {
        for (record, group) in records.chunks_exact_mut(self.width).zip(groups) {
            let bucket = *group as usize / GROUPS;
            if bucket >= self.buckets.len() {
                let empty = || Bucket::new(self.width);
                self.buckets.resize_with(bucket + 1, empty);
            }
            record[0] = (*group as usize % GROUPS) as u8;
            let bucket = &mut self.buckets[bucket];
            if bucket.open.capacity() - bucket.open.len() < record.len() {
                self.bytes += bucket.begin_chunk();
            }
            bucket.open.extend_from_slice(record);
        }
    }

    /// The buckets of the groups before `count`, and how many groups each has.
    pub fn into_buckets(mut self, count: usize) -> impl Iterator<Item = (Bucket, usize)> {
        self.buckets.resize_with(count.div_ceil(GROUPS), || Bucket::new(self.width));
        let groups = move |number: usize| (count - number * GROUPS).min(GROUPS);
        self.buckets.into_iter().enumerate().map(move |(number, bucket)| (bucket, groups(number)))
    }
}

impl Bucket {
    fn new(width: usize) -> Self {
        Bucket { width, full: Vec::new(), open: Vec::new() }
    }

    /// Returns the bytes of the new chunk.
    fn begin_chunk(&mut self) -> usize {
        let bytes = (self.open.capacity() * 2).clamp(CHUNK.start, CHUNK.end).max(self.width);
        let full = std::mem::replace(&mut self.open, Vec::with_capacity(bytes));
        if !full.is_empty() {
            self.full.push(full);
        }
        self.open.capacity()
    }

    /// The place of each record when those of each group stand together, and where each of the `groups` groups begins and the last ends.
    pub fn places(&self, groups: usize) -> (Vec<u32>, Vec<i32>) {
        let mut ends = vec![0i32; groups + 1];
        self.each(|record| ends[record[0] as usize + 1] += 1);
        for at in 1..ends.len() {
            ends[at] += ends[at - 1];
        }
        let mut next = ends.clone();
        let mut places = Vec::with_capacity(ends[groups] as usize);
        self.each(|record| {
            let next = &mut next[record[0] as usize];
            places.push(*next as u32);
            *next += 1;
        });
        (places, ends)
    }

    fn each(&self, mut look_at: impl FnMut(&[u8])) {
        for chunk in self.full.iter().chain([&self.open]) {
            chunk.chunks_exact(self.width).for_each(&mut look_at);
        }
    }

    /// Brings `width` bytes of each record, from `at` on, to the record's place among values of that width.
    ///
    /// # Panics
    ///
    /// Where `width` is none of 1, 2, 4, 8, 16 and 32, or a place lies outside of `values`.
    pub fn place(&self, at: usize, width: usize, places: &[u32], values: &mut [u8]) {
        match width {
            1 => self.place_fixed::<1>(at, places, values),
            2 => self.place_fixed::<2>(at, places, values),
            4 => self.place_fixed::<4>(at, places, values),
            8 => self.place_fixed::<8>(at, places, values),
            16 => self.place_fixed::<16>(at, places, values),
            32 => self.place_fixed::<32>(at, places, values),
            _ => panic!("values of {width} bytes"),
        }
    }

    fn place_fixed<const N: usize>(&self, at: usize, places: &[u32], values: &mut [u8]) {
        let values = values.as_chunks_mut::<N>().0;
        let mut places = places.iter();
        self.each(|record| {
            let place = places.next().expect("a place for each record");
            values[*place as usize].copy_from_slice(&record[at..at + N]);
        });
    }

    /// Sets, in a row of bits that begins with the lowest of the first byte, those at the places of the records that have a bit of `mask` set
    /// in the byte `at`.
    pub fn place_bits(&self, at: usize, mask: u8, places: &[u32], bits: &mut [u8]) {
        let mut places = places.iter();
        self.each(|record| {
            let place = places.next().expect("a place for each record");
            let set = u8::from(record[at] & mask != 0);
            bits[*place as usize / 8] |= set << (place % 8);
        });
    }
}

/// Writes values of `width` bytes into records of `record` bytes each, from `at` on.
///
/// # Panics
///
/// Where `width` is none of 1, 2, 4, 8, 16 and 32.
pub fn write(records: &mut [u8], record: usize, at: usize, width: usize, values: &[u8]) {
    match width {
        1 => write_fixed::<1>(records, record, at, values),
        2 => write_fixed::<2>(records, record, at, values),
        4 => write_fixed::<4>(records, record, at, values),
        8 => write_fixed::<8>(records, record, at, values),
        16 => write_fixed::<16>(records, record, at, values),
        32 => write_fixed::<32>(records, record, at, values),
        _ => panic!("values of {width} bytes"),
    }
}

fn write_fixed<const N: usize>(records: &mut [u8], record: usize, at: usize, values: &[u8]) {
    for (record, value) in records.chunks_exact_mut(record).zip(values.as_chunks::<N>().0) {
        record[at..at + N].copy_from_slice(value);
    }
}

/// Sets `mask` in the byte `at` of those records whose bit is set, or unset where `of` says so, in a row of bits from `offset` on.
pub fn write_bits(
    records: &mut [u8],
    record: usize,
    (at, mask): (usize, u8),
    (bits, offset): (&[u8], usize),
    of: bool,
) {
    for (row, record) in (offset..).zip(records.chunks_exact_mut(record)) {
        let set = bits[row / 8] >> (row % 8) & 1 != 0;
        record[at] |= if set == of { mask } else { 0 };
    }
}

/// Sorts what stands for rows by its words, and has `ties` put each run of equal words in order, which it is given by rising row.
pub fn sort(rows: &mut [(u64, u32)], mut ties: impl FnMut(&mut [(u64, u32)])) {
    rows.sort_unstable();
    for run in tied(rows) {
        ties(&mut rows[run]);
    }
}

/// The runs of equal words.
fn tied(rows: &[(u64, u32)]) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut from = 0;
    for at in 1..=rows.len() {
        if at == rows.len() || rows[at].0 != rows[from].0 {
            if at - from > 1 {
                runs.push(from..at);
            }
            from = at;
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_to_their_groups_in_the_order_in_which_they_came() {
        // a record: its group within the bucket, a number of two bytes, and a byte of bits
        let rows: Vec<(u32, u16)> =
            (0..5000u32).map(|n| (n * 7919 % 150, n as u16)).filter(|row| row.0 != 70).collect();
        let mut all = Records::new(4);
        for part in rows.chunks(700) {
            let mut records = vec![0; part.len() * 4];
            let numbers: Vec<u8> = part.iter().flat_map(|row| row.1.to_ne_bytes()).collect();
            write(&mut records, 4, 1, 2, &numbers);
            let odd: Vec<u8> =
                part.chunks(8).map(|rows| (0..).zip(rows).map(|(bit, row)| ((row.1 % 2) as u8) << bit).sum()).collect();
            write_bits(&mut records, 4, (3, 2), (&odd, 0), true);
            write_bits(&mut records, 4, (3, 4), (&odd, 0), false);
            all.add(&mut records, &part.iter().map(|row| row.0).collect::<Vec<_>>());
        }
        assert!(all.bytes() >= rows.len() * 4);
        let mut expected = rows.clone();
        expected.sort_by_key(|row| row.0);
        let mut found = Vec::new();
        for (bucket, groups) in all.into_buckets(151) {
            let (places, ends) = bucket.places(groups);
            let mut numbers = vec![0; places.len() * 2];
            bucket.place(1, 2, &places, &mut numbers);
            let mut bits = [vec![0; places.len().div_ceil(8)], vec![0; places.len().div_ceil(8)]];
            for (mask, bits) in [2, 4].into_iter().zip(&mut bits) {
                bucket.place_bits(3, mask, &places, bits);
            }
            let before = found.len() as i32;
            found.extend(numbers.as_chunks::<2>().0.iter().map(|bytes| u16::from_ne_bytes(*bytes)));
            for (row, number) in found[before as usize..].iter().enumerate() {
                for (bits, odd) in bits.iter().zip([1, 0]) {
                    assert_eq!(bits[row / 8] >> (row % 8) & 1, (number % 2 == odd) as u8);
                }
            }
            let of_groups = ends.windows(2).map(|range| (range[1] - range[0]) as usize);
            let first = expected[before as usize].0;
            let lengths = (first / 64 * 64..).take(groups).map(|of| rows.iter().filter(|row| row.0 == of).count());
            assert!(of_groups.eq(lengths));
        }
        assert_eq!(found, expected.iter().map(|row| row.1).collect::<Vec<_>>());
    }

    #[test]
    fn equal_words_are_put_in_order_by_the_caller() {
        let mut rows = [(5, 0), (3, 1), (5, 2), (1, 3), (3, 4), (3, 5)];
        let mut runs = 0;
        sort(&mut rows, |run| {
            assert!(run.is_sorted());
            run.reverse();
            runs += 1;
        });
        assert_eq!((rows, runs), ([(1, 3), (3, 5), (3, 4), (3, 1), (5, 2), (5, 0)], 2));
        sort(&mut [], |_| unreachable!("no rows"));
    }
}
