//! Ensembles of decision trees as flat arrays, and the walk over a batch of rows.

use std::fmt;

/// How a node compares a feature with its threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    Leq,
    Lt,
    Gte,
    Gt,
    Eq,
    Neq,
    Leaf,
}

impl Mode {
    /// By its name in ONNX.
    pub fn of(name: &str) -> Option<Mode> {
        Some(match name {
            "BRANCH_LEQ" => Mode::Leq,
            "BRANCH_LT" => Mode::Lt,
            "BRANCH_GTE" => Mode::Gte,
            "BRANCH_GT" => Mode::Gt,
            "BRANCH_EQ" => Mode::Eq,
            "BRANCH_NEQ" => Mode::Neq,
            "LEAF" => Mode::Leaf,
            _ => return None,
        })
    }
}

/// How the leaves that a row reaches become one number for each target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// What is done with the numbers of a row at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transform {
    None,
    Logistic,
    Softmax,
    SoftmaxZero,
    Probit,
}

/// What the numbers mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// One number for each target.
    Targets,
    /// One score for each class.
    Classes,
    /// Two classes, and leaves that know one number only: its complement is the other class's.
    OneScoreForTwo { all_positive: bool },
}

/// Rows that go down a tree side by side.
const TOGETHER: usize = 8;

/// One node. A leaf's weights are `leaves[yes..no]`.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    pub threshold: f64,
    pub feature: u32,
    pub yes: u32,
    pub no: u32,
    pub mode: Mode,
    /// Whether a row without a value (NaN) goes to `yes`.
    pub missing_to_yes: bool,
}

/// An ensemble whose nodes were checked: children lie in the arrays, and no way leads in a circle.
pub struct Ensemble {
    pub nodes: Vec<Node>,
    pub roots: Vec<u32>,
    /// Target and weight.
    pub leaves: Vec<(u32, f64)>,
    pub targets: usize,
    /// One for each target, or one, or none.
    pub base: Vec<f64>,
    pub aggregate: Aggregate,
    pub transform: Transform,
    pub output: Output,
    /// Features that a row must have.
    pub features: usize,
}

impl fmt::Debug for Ensemble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ensemble({} trees, {} nodes, {} targets)", self.roots.len(), self.nodes.len(), self.targets)
    }
}

impl Ensemble {
    /// Columns of the result.
    pub fn width(&self) -> usize {
        match self.output {
            Output::OneScoreForTwo { .. } => 2,
            _ => self.targets,
        }
    }

    /// Scores `[rows, width]` of `rows` rows of `features` values each. A row's scores depend on its values alone: its trees are
    /// added in their order.
    pub fn score<T: Copy + Into<f64>>(&self, values: &[T], features: usize) -> Vec<f32> {
        let all = |mode: Mode| self.nodes.iter().all(|node| [mode, Mode::Leaf].contains(&node.mode));
        // exporters write one comparison for all nodes, and a walk that knows it need not look
        if all(Mode::Leq) {
            self.walk(values, features, |value, node| value <= node.threshold)
        } else if all(Mode::Lt) {
            self.walk(values, features, |value, node| value < node.threshold)
        } else {
            self.walk(values, features, holds)
        }
    }

    fn walk<T: Copy + Into<f64>>(
        &self,
        values: &[T],
        features: usize,
        holds: impl Fn(f64, &Node) -> bool + Copy,
    ) -> Vec<f32> {
        let rows = values.len().checked_div(features).unwrap_or(0);
        let (targets, start) = (self.targets, self.start());
        let mut sums = vec![start; rows * targets];
        // a tree stays in the cache while all rows walk through it
        for root in &self.roots {
            for first in (0..rows).step_by(TOGETHER) {
                let together = TOGETHER.min(rows - first);
                let leaves = self.leaves_of(*root, &values[first * features..], features, together, holds);
                for (row, leaf) in leaves.into_iter().enumerate().take(together) {
                    let sums = &mut sums[(first + row) * targets..][..targets];
                    let leaf = &self.nodes[leaf as usize];
                    for (target, weight) in &self.leaves[leaf.yes as usize..leaf.no as usize] {
                        let sum = &mut sums[*target as usize];
                        *sum = match self.aggregate {
                            Aggregate::Sum | Aggregate::Average => *sum + weight,
                            Aggregate::Min => sum.min(*weight),
                            Aggregate::Max => sum.max(*weight),
                        };
                    }
                }
            }
        }
        let mut scores = Vec::with_capacity(rows * self.width());
        sums.chunks_mut(targets).for_each(|row| self.finish(row, &mut scores));
        scores
    }

    fn start(&self) -> f64 {
        match self.aggregate {
            Aggregate::Sum | Aggregate::Average => 0.0,
            Aggregate::Min => f64::INFINITY,
            Aggregate::Max => f64::NEG_INFINITY,
        }
    }

    /// The leaf that each of the first rows reaches. They go down side by side: a step waits for memory, and the steps of other rows
    /// need not.
    fn leaves_of<T: Copy + Into<f64>>(
        &self,
        root: u32,
        rows: &[T],
        features: usize,
        together: usize,
        holds: impl Fn(f64, &Node) -> bool,
    ) -> [u32; TOGETHER] {
        let mut at = [root; TOGETHER];
        loop {
            let mut moved = false;
            for (row, at) in at.iter_mut().enumerate().take(together) {
                let node = &self.nodes[*at as usize];
                if node.mode == Mode::Leaf {
                    continue;
                }
                let value: f64 = rows[row * features + node.feature as usize].into();
                let yes = holds(value, node) | (node.missing_to_yes & value.is_nan());
                *at = if yes { node.yes } else { node.no };
                moved = true;
            }
            if !moved {
                return at;
            }
        }
    }

    /// From the sums of a row to its scores.
    fn finish(&self, sums: &mut [f64], scores: &mut Vec<f32>) {
        for sum in sums.iter_mut() {
            // no tree has a leaf for this target
            if sum.is_infinite() && *sum == self.start() {
                *sum = 0.0;
            }
            if self.aggregate == Aggregate::Average {
                *sum /= self.roots.len() as f64;
            }
        }
        if self.base.len() == sums.len() {
            sums.iter_mut().zip(&self.base).for_each(|(sum, base)| *sum += base);
        } else if let (Output::OneScoreForTwo { .. }, [base]) = (self.output, self.base.as_slice()) {
            sums[0] += base;
        }
        match self.output {
            Output::OneScoreForTwo { all_positive } => {
                let score = sums[0];
                let (no, yes) = match self.transform {
                    Transform::Logistic => (logistic(-score), logistic(score)),
                    _ if all_positive => (1.0 - score, score),
                    _ => (-score, score),
                };
                scores.extend([no as f32, yes as f32]);
            }
            // onnxruntime, whose scores teams know, leaves a single target as it is but for this one
            Output::Targets if sums.len() == 1 => {
                let score = if self.transform == Transform::Probit { probit(sums[0]) } else { sums[0] };
                scores.push(score as f32);
            }
            _ => {
                transform(self.transform, sums);
                scores.extend(sums.iter().map(|score| *score as f32));
            }
        }
    }
}

fn holds(value: f64, node: &Node) -> bool {
    match node.mode {
        Mode::Leq => value <= node.threshold,
        Mode::Lt => value < node.threshold,
        Mode::Gte => value >= node.threshold,
        Mode::Gt => value > node.threshold,
        Mode::Eq => value == node.threshold,
        Mode::Neq | Mode::Leaf => value != node.threshold,
    }
}

fn transform(transform: Transform, row: &mut [f64]) {
    match transform {
        Transform::None => {}
        Transform::Logistic => row.iter_mut().for_each(|x| *x = logistic(*x)),
        Transform::Probit => row.iter_mut().for_each(|x| *x = probit(*x)),
        Transform::Softmax => {
            let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            row.iter_mut().for_each(|x| *x = (*x - most).exp());
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|x| *x /= sum);
        }
        Transform::SoftmaxZero => {
            let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let is_zero = |x: f64| x.abs() <= 1e-7;
            row.iter_mut().for_each(|x| *x = if is_zero(*x) { *x * (-most).exp() } else { (*x - most).exp() });
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|x| *x /= sum);
        }
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The quantile of the normal distribution, with Winitzki's approximation of the inverse error function, as onnxruntime has it.
fn probit(x: f64) -> f64 {
    let y = 2.0 * x - 1.0;
    let log = ((1.0 - y) * (1.0 + y)).ln();
    let a = 0.147;
    let half = 2.0 / (std::f64::consts::PI * a) + 0.5 * log;
    let inverse = (-half + (half * half - log / a).sqrt()).sqrt();
    std::f64::consts::SQRT_2 * inverse.copysign(y)
}
