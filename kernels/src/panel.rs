//! Products of the small matrices of a training step on a CPU with AVX-512: `out (+)= scale * a b`, where `out` and `b` have rows of
//! whole registers and lie in cache. Such a `b` needs no copy into another order, which is what a general product begins
//! with and costs as much as the product itself where a matrix is 64 wide.
//!
//! A tile of `out` of up to 64 columns is held in registers while a row of `b` after the other is multiplied by one number of each row
//! of `a`. Each element is summed in the order of `b`'s rows, so its bits do not depend on the tile that it falls into.

use crate::math::{Layout, Output};

/// Numbers in a register.
const WIDTH: usize = 16;
/// Most rows of `b`: 64 columns of that many fit the L2 cache beside what streams by.
const MOST_DEPTH: usize = 512;

/// Whether [`multiply`] can make the product.
pub fn suits(out: Layout, a: Layout, b: Layout) -> bool {
    crate::wide::is_there()
        && out.col_stride == 1
        && b.col_stride == 1
        && out.cols.is_multiple_of(WIDTH)
        && a.cols <= MOST_DEPTH
}

/// `out (+)= scale * a b`.
///
/// # Safety
/// [`suits`] must hold, and each layout lie in the memory behind its pointer; `out` must overlap neither `a` nor `b`.
#[cfg(target_arch = "x86_64")]
pub unsafe fn multiply(
    (out, o): (*mut f32, Layout),
    (a, la): (*const f32, Layout),
    (b, lb): (*const f32, Layout),
    scale: f32,
    mode: Output,
) {
    let whole = avx512::Product {
        out,
        out_stride: o.row_stride,
        a,
        a_strides: (la.row_stride, la.col_stride),
        b,
        b_stride: lb.row_stride,
        depth: la.cols,
        scale,
        mode,
    };
    // SAFETY: the caller's, and `suits` has looked for AVX-512; a piece of the columns lies where the whole does.
    unsafe {
        for first in (0..o.cols).step_by(4 * WIDTH) {
            let piece = avx512::Product { out: out.add(first), b: b.add(first), ..whole };
            match (o.cols - first) / WIDTH {
                1 => piece.run::<1, 12>(o.rows),
                2 => piece.run::<2, 12>(o.rows),
                3 => piece.run::<3, 8>(o.rows),
                _ => piece.run::<4, 6>(o.rows),
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub unsafe fn multiply(_: (*mut f32, Layout), _: (*const f32, Layout), _: (*const f32, Layout), _: f32, _: Output) {
    unreachable!("suits nothing on this CPU");
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        _MM_HINT_T0, _mm_prefetch, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps,
        _mm512_storeu_ps,
    };

    use super::WIDTH;
    use crate::math::Output;

    /// A product of whose columns some registers are made.
    #[derive(Clone, Copy)]
    pub struct Product {
        pub out: *mut f32,
        pub out_stride: usize,
        pub a: *const f32,
        pub a_strides: (usize, usize),
        pub b: *const f32,
        pub b_stride: usize,
        pub depth: usize,
        pub scale: f32,
        pub mode: Output,
    }

    impl Product {
        /// `REGISTERS` registers of each row, `ROWS` rows at a time. Together they leave some of the 32 for `a` and `b`.
        #[target_feature(enable = "avx512f")]
        pub unsafe fn run<const REGISTERS: usize, const ROWS: usize>(&self, rows: usize) {
            let mut row = 0;
            // SAFETY: the caller's.
            unsafe {
                while row + ROWS <= rows {
                    self.tile::<REGISTERS, ROWS>(row);
                    row += ROWS;
                }
                while row + 4 <= rows {
                    self.tile::<REGISTERS, 4>(row);
                    row += 4;
                }
                while row < rows {
                    self.tile::<REGISTERS, 1>(row);
                    row += 1;
                }
            }
        }

        #[target_feature(enable = "avx512f")]
        unsafe fn tile<const REGISTERS: usize, const ROWS: usize>(&self, first: usize) {
            // SAFETY: rows `first..first + ROWS` are in `out` and `a`, and all rows of `b` have these registers.
            unsafe {
                let out = self.out.add(first * self.out_stride);
                let a = self.a.add(first * self.a_strides.0);
                if self.mode == Output::Accumulate {
                    // from a far cache it takes as long as the loop below
                    for row in 0..ROWS {
                        for register in 0..REGISTERS {
                            _mm_prefetch::<_MM_HINT_T0>(out.add(row * self.out_stride + register * WIDTH).cast());
                        }
                    }
                }
                let mut sums = [[_mm512_setzero_ps(); REGISTERS]; ROWS];
                for k in 0..self.depth {
                    let b = self.b.add(k * self.b_stride);
                    let a = a.add(k * self.a_strides.1);
                    let mut of_b = [_mm512_setzero_ps(); REGISTERS];
                    for (register, values) in of_b.iter_mut().enumerate() {
                        *values = _mm512_loadu_ps(b.add(register * WIDTH));
                    }
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let of_a = _mm512_set1_ps(*a.add(row * self.a_strides.0));
                        for (sum, of_b) in sums.iter_mut().zip(of_b) {
                            *sum = _mm512_fmadd_ps(of_a, of_b, *sum);
                        }
                    }
                }
                let scale = _mm512_set1_ps(self.scale);
                for (row, sums) in sums.into_iter().enumerate() {
                    for (register, sum) in sums.into_iter().enumerate() {
                        let place = out.add(row * self.out_stride + register * WIDTH);
                        let value = match self.mode {
                            Output::Overwrite => _mm512_mul_ps(sum, scale),
                            Output::Accumulate => _mm512_fmadd_ps(sum, scale, _mm512_loadu_ps(place)),
                        };
                        _mm512_storeu_ps(place, value);
                    }
                }
            }
        }
    }
}
