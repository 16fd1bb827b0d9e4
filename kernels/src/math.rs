//! Small vector routines, written so that LLVM vectorises them, and a checked front of `gemm`.

use gemm::Parallelism;
use rayon::prelude::*;

use crate::panel;

/// Rows per parallel piece of the row-wise routines.
const ROWS_PER_PIECE: usize = 256;
/// Adding and subtracting it rounds an f32 of magnitude below 2^22 to the nearest integer.
const ROUNDING: f32 = 12_582_912.0;
/// Below this exponent [`exp2`] gives exactly zero.
const EXP2_FLUSH: f32 = -100.0;

/// `a * b + c`, fused where the target has the instruction (without it `mul_add` is a library call).
#[inline(always)]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
}

/// `2^x` for `x < 127`, to 1e-7 relative; zero below 2^-100, which is nothing beside a row's maximum
/// (2^0 and more), and keeps subnormal numbers, slow on many CPUs, out of the products that follow.
/// -inf gives 0 and NaN gives NaN.
///
/// `x = n + f` with integer `n` and `|f| <= 1/2`; `2^f` is a polynomial of degree 6 (least squares of
/// the relative error, reweighted towards minimax: 2e-9), and `n` is added to the exponent bits.
#[inline(always)]
pub fn exp2(x: f32) -> f32 {
    let rounded = x + ROUNDING;
    let f = x - (rounded - ROUNDING);
    let mut p = 1.535_336_2e-4;
    p = fma(p, f, 1.339_887_5e-3);
    p = fma(p, f, 9.618_437e-3);
    p = fma(p, f, 5.550_332_5e-2);
    p = fma(p, f, 2.402_264_8e-1);
    p = fma(p, f, std::f32::consts::LN_2);
    p = fma(p, f, 1.0);
    let power = f32::from_bits(p.to_bits().wrapping_add(rounded.to_bits() << 23));
    if x < EXP2_FLUSH { 0.0 } else { power }
}

/// Inner product of two slices of the same length, in eight lanes.
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let (a_lanes, a_rest) = a.as_chunks::<8>();
    let (b_lanes, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0f32; 8];
    for (x, y) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..8 {
            sums[lane] = fma(x[lane], y[lane], sums[lane]);
        }
    }
    let tail: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    let pairs = [sums[0] + sums[4], sums[1] + sums[5], sums[2] + sums[6], sums[3] + sums[7]];
    (pairs[0] + pairs[2]) + (pairs[1] + pairs[3]) + tail
}

/// Inner product summed in f64, for values that are added up over a whole batch.
#[inline]
pub fn dot_f64(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let (a_lanes, a_rest) = a.as_chunks::<4>();
    let (b_lanes, b_rest) = b.as_chunks::<4>();
    let mut sums = [0.0f64; 4];
    for (x, y) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..4 {
            sums[lane] += f64::from(x[lane]) * f64::from(y[lane]);
        }
    }
    let tail: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + tail
}

/// `out += scale * x`, both of the same length.
#[inline]
pub fn add_scaled(out: &mut [f32], scale: f32, x: &[f32]) {
    for (o, &v) in out.iter_mut().zip(x) {
        *o = fma(scale, v, *o);
    }
}

/// `out = sum(scale * x)` over `terms`, in their order, each `x` as long as `out`. Columns are summed in registers, as many at a time
/// as there are, so it is gone through the terms more than once where there are more.
#[inline(always)]
pub(crate) fn weighted_sum<'a>(out: &mut [f32], terms: impl Iterator<Item = (f32, &'a [f32])> + Clone) {
    let at = sum_columns::<64>(out, 0, &terms);
    let at = sum_columns::<16>(out, at, &terms);
    if at < out.len() {
        out[at..].fill(0.0);
        terms.for_each(|(scale, x)| add_scaled(&mut out[at..], scale, &x[at..]));
    }
}

/// Whole runs of `N` columns of a [`weighted_sum`] from column `at` on; returns where they end.
#[inline(always)]
fn sum_columns<'a, const N: usize>(
    out: &mut [f32],
    mut at: usize,
    terms: &(impl Iterator<Item = (f32, &'a [f32])> + Clone),
) -> usize {
    let (runs, _) = out[at..].as_chunks_mut::<N>();
    for run in runs {
        let mut sums = [0.0f32; N];
        for (scale, x) in terms.clone() {
            for (sum, v) in sums.iter_mut().zip(&x[at..at + N]) {
                *sum = fma(scale, *v, *sum);
            }
        }
        *run = sums;
        at += N;
    }
    at
}

/// Asks the CPU to bring `values` into cache; a hint that changes no result, and nothing on a CPU
/// other than x86-64. For rows at random places of a table larger than the caches.
#[inline(always)]
pub fn prefetch(values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of every x86-64, and a prefetch neither faults nor writes.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// Divides each row of `rows` [n, dim] by its L2 norm, in place, and writes the norms `[n]`.
/// A norm below `epsilon` counts as 1: a row of zeros stays zeros, and its gradient, which has no direction to lose, comes
/// through as it is. (Divided by `epsilon` it would outweigh those of all other rows.)
pub fn normalize_rows(rows: &mut [f32], dim: usize, epsilon: f32, norms: &mut [f32]) {
    assert_eq!(rows.len(), norms.len() * dim);
    let pieces = rows.par_chunks_mut(ROWS_PER_PIECE * dim).zip(norms.par_chunks_mut(ROWS_PER_PIECE));
    pieces.for_each(|(rows, norms)| {
        for (row, norm) in rows.chunks_exact_mut(dim).zip(norms) {
            let length = dot(row, row).sqrt();
            *norm = if length < epsilon { 1.0 } else { length };
            let inverse = 1.0 / *norm;
            row.iter_mut().for_each(|v| *v *= inverse);
        }
    });
}

/// Turns the gradient by the normalised rows into the gradient by the raw rows, in place:
/// `(g - y (y . g)) / norm`, with `y` = `normalized` [n, dim] and `norms` `[n]` as
/// [`normalize_rows`] left them.
pub fn normalize_rows_backward(grads: &mut [f32], normalized: &[f32], dim: usize, norms: &[f32]) {
    assert_eq!(grads.len(), normalized.len());
    assert_eq!(grads.len(), norms.len() * dim);
    let pieces = grads.par_chunks_mut(ROWS_PER_PIECE * dim).enumerate();
    pieces.for_each(|(piece, grads)| {
        for (offset, g) in grads.chunks_exact_mut(dim).enumerate() {
            let row = piece * ROWS_PER_PIECE + offset;
            let y = &normalized[row * dim..(row + 1) * dim];
            let along = -dot(y, g);
            add_scaled(g, along, y);
            let inverse = 1.0 / norms[row];
            g.iter_mut().for_each(|v| *v *= inverse);
        }
    });
}

/// The place of a matrix in a slice: element (r, c) stands at `r * row_stride + c * col_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub rows: usize,
    pub cols: usize,
    pub row_stride: usize,
    pub col_stride: usize,
}

impl Layout {
    /// [rows, cols], row after row.
    pub fn row_major(rows: usize, cols: usize) -> Self {
        Self { rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The same elements, seen as the transposed matrix.
    pub fn transposed(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride }
    }

    fn fits(&self, len: usize) -> bool {
        self.rows == 0 || self.cols == 0 || (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride < len
    }
}

/// What becomes of the values that the output of [`multiply`] already holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Overwrite,
    Accumulate,
}

/// `out (+)= scale * a b` on the calling thread; the strides of each matrix may be any.
pub fn multiply(out: (&mut [f32], Layout), a: (&[f32], Layout), b: (&[f32], Layout), scale: f32, mode: Output) {
    let ((out, o), (a, la), (b, lb)) = (out, a, b);
    assert!(la.cols == lb.rows && o.rows == la.rows && o.cols == lb.cols, "matrix shapes do not fit");
    assert!(o.fits(out.len()) && la.fits(a.len()) && lb.fits(b.len()), "matrix outside its slice");
    // SAFETY: as below; the transposed product has the transposed places.
    unsafe {
        if panel::suits(o, la, lb) {
            return panel::multiply((out.as_mut_ptr(), o), (a.as_ptr(), la), (b.as_ptr(), lb), scale, mode);
        }
        let (o, la, lb) = (o.transposed(), la.transposed(), lb.transposed());
        if panel::suits(o, lb, la) {
            return panel::multiply((out.as_mut_ptr(), o), (b.as_ptr(), lb), (a.as_ptr(), la), scale, mode);
        }
    }
    let s = |stride: usize| stride as isize;
    // SAFETY: the asserts above show that every element addressed lies in its slice, and `out`, a
    // mutable borrow, overlaps neither `a` nor `b`.
    unsafe {
        gemm::gemm(
            o.rows,
            o.cols,
            la.cols,
            out.as_mut_ptr(),
            s(o.col_stride),
            s(o.row_stride),
            mode == Output::Accumulate,
            a.as_ptr(),
            s(la.col_stride),
            s(la.row_stride),
            b.as_ptr(),
            s(lb.col_stride),
            s(lb.row_stride),
            1.0,
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp2_is_accurate_over_its_whole_range() {
        let mut worst = 0.0f64;
        for step in -2_000_000..2_500_000i32 {
            let x = step as f32 * 5e-5;
            let exact = f64::from(x).exp2();
            worst = worst.max((f64::from(exp2(x)) - exact).abs() / exact);
        }
        assert!(worst < 1.2e-7, "worst relative error {worst:e}");
    }

    #[test]
    fn exp2_keeps_the_edges() {
        assert_eq!(exp2(0.0), 1.0);
        assert_eq!(exp2(-0.0), 1.0);
        assert_eq!(exp2(-1.0), 0.5);
        assert_eq!(exp2(-101.0), 0.0);
        assert_eq!(exp2(-1e30), 0.0);
        assert_eq!(exp2(f32::NEG_INFINITY), 0.0);
        assert!(exp2(f32::NAN).is_nan());
    }

    #[test]
    fn dots_of_every_length_are_right() {
        for len in 0..40 {
            let a: Vec<f32> = (0..len).map(|i| i as f32 - 7.0).collect();
            let b: Vec<f32> = (0..len).map(|i| (i * i) as f32 * 0.25).collect();
            let exact: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            assert_eq!(dot(&a, &b), exact as f32);
            assert_eq!(dot_f64(&a, &b), exact);
        }
    }

    #[test]
    fn products_of_every_shape_and_order_agree_with_straight_loops() {
        let number = |at: usize| ((at * 37) % 101) as f32 * 0.02 - 1.0;
        for (rows, depth, cols) in [
            (1, 1, 16),
            (5, 3, 32),
            (7, 64, 48),
            (13, 48, 64),
            (25, 130, 80),
            (48, 64, 192),
            (6, 600, 64),
            (9, 5, 7),
            (4, 0, 16),
        ] {
            let a: Vec<f32> = (0..rows * depth).map(number).collect();
            let b: Vec<f32> = (0..depth * cols).map(|at| number(at + 11)).collect();
            let before: Vec<f32> = (0..rows * cols).map(|at| number(at + 5)).collect();
            let exact = |row: usize, col: usize| {
                let products = (0..depth).map(|k| f64::from(a[row * depth + k]) * f64::from(b[k * cols + col]));
                products.sum::<f64>() * 0.5
            };
            let (la, lb) = (Layout::row_major(rows, depth), Layout::row_major(depth, cols));
            for mode in [Output::Overwrite, Output::Accumulate] {
                let (mut out, mut turned) = (before.clone(), before.clone());
                multiply((&mut out, Layout::row_major(rows, cols)), (&a, la), (&b, lb), 0.5, mode);
                // the same product, asked for as that of the transposed matrices
                let o = Layout::row_major(rows, cols).transposed();
                multiply((&mut turned, o), (&b, lb.transposed()), (&a, la.transposed()), 0.5, mode);
                for at in 0..rows * cols {
                    let kept = if mode == Output::Accumulate { f64::from(before[at]) } else { 0.0 };
                    let expected = exact(at / cols, at % cols) + kept;
                    for found in [out[at], turned[at]] {
                        let near = (f64::from(found) - expected).abs() < 1e-4;
                        assert!(near, "{rows} x {depth} x {cols} at {at}: {found}, expected {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn normalisation_and_its_gradient_agree_with_finite_differences() {
        let dim = 3;
        let raw = [0.3f32, -1.2, 2.0, 0.0, 0.0, 0.0, 1.0, 1.0, -4.0];
        let upstream = [0.7f32, 0.1, -0.4, 0.0, 0.0, 0.0, 0.2, -0.9, 0.3];
        let mut y = raw;
        let mut norms = [0.0f32; 3];
        normalize_rows(&mut y, dim, 1e-6, &mut norms);
        assert_eq!((&y[3..6], norms[1]), ([0.0; 3].as_slice(), 1.0));
        let mut grad = upstream;
        normalize_rows_backward(&mut grad, &y, dim, &norms);
        let value = |raw: &[f64; 9], row: usize| {
            let r = &raw[row * 3..row * 3 + 3];
            let norm = r.iter().map(|v| v * v).sum::<f64>().sqrt();
            (0..3).map(|k| r[k] / norm * f64::from(upstream[row * 3 + k])).sum::<f64>()
        };
        assert_eq!(grad[3..6], upstream[3..6]);
        for row in [0, 2] {
            for k in row * 3..row * 3 + 3 {
                let (mut plus, mut minus) = (raw.map(f64::from), raw.map(f64::from));
                plus[k] += 1e-6;
                minus[k] -= 1e-6;
                let numeric = (value(&plus, row) - value(&minus, row)) / 2e-6;
                assert!((numeric - f64::from(grad[k])).abs() < 1e-6);
            }
        }
    }
}
