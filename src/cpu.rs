//! What the processor must be able to do.

use crate::error::Result;

/// Refuses a processor that this build cannot run on, in words and before it would end in an illegal instruction.
///
/// The build takes the level x86-64-v3 for granted, so the standard library's feature detection is folded to `true` at compile
/// time: this asks the processor itself. Elsewhere than on x86-64 there is nothing to check.
pub fn check() -> Result<()> {
    #[cfg(target_arch = "x86_64")]
    {
        let lacking = x86::lacking();
        if !lacking.is_empty() {
            return Err(crate::error::Error::config(format!(
                "this processor lacks {}; this build of twotower needs x86-64 with AVX2 and FMA (any server since 2013): \
                 run it on another machine, or build it with RUSTFLAGS and CXXFLAGS for this one",
                lacking.join(", ")
            )));
        }
    }
    Ok(())
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::__cpuid_count;

    /// Bits by name: what x86-64-v3 adds and the vector code relies on. (leaf, register, bit)
    const NEEDED: [(&str, u32, usize, u32); 8] = [
        ("POPCNT", 1, 2, 23),
        ("FMA", 1, 2, 12),
        ("MOVBE", 1, 2, 22),
        ("AVX", 1, 2, 28),
        ("F16C", 1, 2, 29),
        ("AVX2", 7, 1, 5),
        ("BMI1", 7, 1, 3),
        ("BMI2", 7, 1, 8),
    ];
    const OSXSAVE: u32 = 27;

    pub fn lacking() -> Vec<&'static str> {
        let mut lacking: Vec<&str> =
            NEEDED.iter().filter(|(_, leaf, register, bit)| !has(*leaf, *register, *bit)).map(|n| n.0).collect();
        if lacking.is_empty() && !system_saves_vectors() {
            lacking.push("an operating system that saves AVX registers");
        }
        lacking
    }

    /// Register 0 to 3 is EAX, EBX, ECX, EDX.
    fn has(leaf: u32, register: usize, bit: u32) -> bool {
        if __cpuid_count(0, 0).eax < leaf {
            return false;
        }
        let found = __cpuid_count(leaf, 0);
        [found.eax, found.ebx, found.ecx, found.edx][register] >> bit & 1 == 1
    }

    fn system_saves_vectors() -> bool {
        if !has(1, 2, OSXSAVE) {
            return false;
        }
        let low: u32;
        // SAFETY: OSXSAVE says that xgetbv exists; register 0 always does, and reading it changes nothing but eax and edx
        unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _, options(nomem, nostack)) };
        low & 0b110 == 0b110
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn a_machine_that_runs_this_test_lacks_nothing_and_an_unknown_leaf_has_nothing() {
            assert_eq!(super::lacking(), Vec::<&str>::new());
            assert!(!super::has(0x7fff_ffff, 1, 5));
        }
    }
}
