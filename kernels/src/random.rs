//! Draws and hashes that are functions of what they are given, the same in any order, on any number of threads and on every
//! machine.

/// 2^64 divided by the golden ratio, made odd: the increment of SplitMix64.
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014): a bijection of 64
/// bits in which every input bit flips each output bit with probability near one half. It maps 0 to 0.
#[inline(always)]
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The output of SplitMix64 for a state: one increment, then [`mix`].
pub fn splitmix64(state: u64) -> u64 {
    mix(state.wrapping_add(GOLDEN))
}

/// Adds a value of a kind to a running hash.
#[inline(always)]
pub fn absorb(state: u64, kind: u64, value: u64) -> u64 {
    mix(mix(state.wrapping_add(GOLDEN).wrapping_add(kind)) ^ value)
}

/// [`absorb`] for a column of values, one running hash each.
pub fn absorb_integers(states: &mut [u64], kind: u64, values: &[i64]) {
    for (state, value) in states.iter_mut().zip(values) {
        *state = absorb(*state, kind, *value as u64);
    }
}

/// 64 random bits as a number uniform in [0, 1).
pub fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// 64 random bits as a number uniform in 0..n.
pub fn below(bits: u64, n: usize) -> usize {
    ((u128::from(bits) * n as u128) >> 64) as usize
}

/// FNV-1a of 64 bits, byte by byte: short, and easy to write again in another language.
pub fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix64_gives_the_numbers_of_the_reference_implementation() {
        // the first three outputs of the generator seeded with 1234567
        let states = (0..3u64).map(|n| 1_234_567u64.wrapping_add(n.wrapping_mul(GOLDEN)));
        let outputs: Vec<u64> = states.map(splitmix64).collect();
        assert_eq!(outputs, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn the_hash_is_fnv1a() {
        // test vectors of the reference implementation
        assert_eq!(fnv1a64(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a64(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
