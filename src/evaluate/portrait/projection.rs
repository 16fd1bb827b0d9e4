//! Vectors on the two axes along which they differ most: principal components, by subspace iteration.

/// Steps of the iteration. Where more would still turn the axes, the axes are nearly as good as each other.
const STEPS: usize = 100;

/// Points on the two axes.
pub struct Picture {
    pub x: Vec<f32>,
    pub y: Vec<f32>,
    /// Share of the variance on each axis.
    pub explained: [f64; 2],
}

/// Projects `[n, dim]` vectors. The same vectors give the same picture: the start is fixed, and of an axis and its mirror image the
/// one is taken whose largest part is positive.
pub fn project(vectors: &[f32], dim: usize) -> Picture {
    let rows = vectors.len() / dim;
    let mut mean = vec![0.0; dim];
    for vector in vectors.chunks_exact(dim) {
        mean.iter_mut().zip(vector).for_each(|(sum, value)| *sum += f64::from(*value) / rows as f64);
    }
    let mut covariance = vec![0.0; dim * dim];
    let mut centred = vec![0.0; dim];
    for vector in vectors.chunks_exact(dim) {
        for ((to, value), mean) in centred.iter_mut().zip(vector).zip(&mean) {
            *to = f64::from(*value) - mean;
        }
        for (row, a) in covariance.chunks_exact_mut(dim).zip(&centred) {
            row.iter_mut().zip(&centred).for_each(|(sum, b)| *sum += a * b / rows as f64);
        }
    }
    let total: f64 = (0..dim).map(|at| covariance[at * dim + at]).sum();
    let (axes, spread) = leading(&covariance, dim);
    let along = |axis: &[f64]| -> Vec<f32> {
        let place = |vector: &[f32]| {
            let sum: f64 = vector.iter().zip(&mean).zip(axis).map(|((v, mean), a)| (f64::from(*v) - mean) * a).sum();
            ((sum * 1e4).round() / 1e4) as f32
        };
        vectors.chunks_exact(dim).map(place).collect()
    };
    let share = |value: f64| if total > 0.0 { (value / total * 1e4).round() / 1e4 } else { 0.0 };
    Picture { x: along(&axes[0]), y: along(&axes[1]), explained: spread.map(share) }
}

/// The two eigenvectors of a symmetric matrix with the largest eigenvalues, and these.
fn leading(matrix: &[f64], dim: usize) -> ([Vec<f64>; 2], [f64; 2]) {
    let start = |salt: f64| (0..dim).map(|at| (at as f64 * salt + 1.0).sin()).collect::<Vec<f64>>();
    let mut axes = [start(1.7), start(2.9)];
    for _ in 0..STEPS {
        let [first, second] = &axes;
        let mut next = [times(matrix, first), times(matrix, second)];
        orthonormal(&mut next);
        axes = next;
    }
    // within the plane that was found, the axes themselves: the eigenvectors of a matrix of two rows
    let images = [times(matrix, &axes[0]), times(matrix, &axes[1])];
    let (a, b, c) = (inner(&axes[0], &images[0]), inner(&axes[0], &images[1]), inner(&axes[1], &images[1]));
    let angle = 0.5 * (2.0 * b).atan2(a - c);
    let turned =
        |cos: f64, sin: f64| -> Vec<f64> { axes[0].iter().zip(&axes[1]).map(|(x, y)| x * cos + y * sin).collect() };
    let mut axes = [turned(angle.cos(), angle.sin()), turned(-angle.sin(), angle.cos())];
    for axis in &mut axes {
        let largest = axis.iter().fold(0.0_f64, |most, value| if value.abs() > most.abs() { *value } else { most });
        if largest < 0.0 {
            axis.iter_mut().for_each(|value| *value = -*value);
        }
    }
    let spread = [0, 1].map(|at| inner(&axes[at], &times(matrix, &axes[at])).max(0.0));
    (axes, spread)
}

fn times(matrix: &[f64], vector: &[f64]) -> Vec<f64> {
    matrix.chunks_exact(vector.len()).map(|row| inner(row, vector)).collect()
}

fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Makes both of length one and the second orthogonal to the first. One without any length becomes zero.
fn orthonormal(axes: &mut [Vec<f64>; 2]) {
    let [first, second] = axes;
    scale(first);
    let shared = inner(first, second);
    second.iter_mut().zip(first.iter()).for_each(|(to, from)| *to -= shared * from);
    scale(second);
}

fn scale(axis: &mut [f64]) {
    let length = inner(axis, axis).sqrt();
    axis.iter_mut().for_each(|value| *value = if length > 1e-12 { *value / length } else { 0.0 });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axes_are_those_along_which_the_vectors_differ_most() {
        // spread of 3 along (1, 1, 0), 1 along (0, 0, 1), little along (1, -1, 0)
        let mut vectors = Vec::new();
        for at in 0..200 {
            let (long, short, least) =
                ((at as f64).sin() * 3.0, (at as f64 * 1.3).cos(), (at as f64 * 0.7).sin() * 0.1);
            vectors.extend([long + least, long - least, short].map(|value| (value + 5.0) as f32));
        }
        let picture = project(&vectors, 3);
        let at = |row: usize| (f64::from(picture.x[row]), f64::from(picture.y[row]));
        for row in 1..200 {
            let ((x, y), (x0, y0)) = (at(row), at(0));
            let long = ((row as f64).sin() - 0.0) * 3.0 * 2f64.sqrt();
            assert!((x - x0 - long).abs() < 0.15, "row {row}: {x} and not {long}");
            assert!((y - y0 - ((row as f64 * 1.3).cos() - 1.0)).abs() < 0.15, "row {row}: {y}");
        }
        let [first, second] = picture.explained;
        assert!(first > 0.9 && second > 0.02 && first + second <= 1.0, "{first} {second}");
        assert_eq!(picture.x, project(&vectors, 3).x);
    }

    #[test]
    fn vectors_that_do_not_differ_and_those_of_one_dimension_lie_on_a_point_or_a_line() {
        let same = project(&[0.5, 0.5, 0.5, 0.5], 2);
        assert_eq!((same.x, same.y, same.explained), (vec![0.0; 2], vec![0.0; 2], [0.0; 2]));
        let line = project(&[1.0, -1.0, 1.0], 1);
        assert!(line.x[0] > line.x[1] && line.y.iter().all(|y| *y == 0.0));
        assert!(project(&[], 4).x.is_empty());
    }
}
