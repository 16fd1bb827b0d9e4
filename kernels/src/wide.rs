//! Loops in two versions: for every CPU that the program runs on, and for those with AVX-512, whose registers are twice as wide.

/// Whether this CPU has AVX-512, in the parts that all server CPUs with it have.
#[inline]
pub(crate) fn is_there() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Defines a function whose loops are compiled twice; a call takes the version that suits the CPU. What it calls must be
/// inlined into it. Both versions do the same operations in the same order.
macro_rules! in_two_widths {
    ($(#[$comment:meta])* $visible:vis fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$comment])*
        #[inline]
        $visible fn $name($($argument: $kind),*) $(-> $result)? {
            #[inline(always)]
            fn narrow($($argument: $kind),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            if crate::wide::is_there() {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
                fn wide($($argument: $kind),*) $(-> $result)? {
                    narrow($($argument),*)
                }
                // SAFETY: this CPU has the features.
                return unsafe { wide($($argument),*) };
            }
            narrow($($argument),*)
        }
    };
}
pub(crate) use in_two_widths;
