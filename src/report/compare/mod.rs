//! Two releases side by side.

mod page;
mod sections;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Report, of_release};
use crate::artifacts::{Id, Release};
use crate::error::Result;
use crate::publish::{Difference, diff, drift_between};
use crate::storage::Store;

/// What differs between two releases; pairs are (of `a`, of `b`), `None` where one has no such thing.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub difference: Difference,
    /// Share of items' nearest neighbours that are others in `b`; absent where both have too few items in common.
    pub drift: Option<f64>,
    pub gates: BTreeMap<String, (Option<f64>, Option<f64>)>,
    /// Rows of the sample tables.
    pub rows: BTreeMap<String, (Option<f64>, Option<f64>)>,
    /// Seconds of the stages.
    pub seconds: BTreeMap<String, (Option<f64>, Option<f64>)>,
    /// Users that both reports show.
    pub users: Vec<SharedList>,
    #[serde(skip)]
    pub reports: Box<(Report, Report)>,
}

/// What one user got from both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SharedList {
    pub user: Id,
    /// Items that both lists have, of the longer one's so many.
    pub same: usize,
    pub of: usize,
}

/// Compares the releases; reads their reports, item ids and vectors.
pub async fn compare(output: &Store, a: &Release, b: &Release) -> Result<Comparison> {
    let reports = Box::new((of_release(output, a).await?.report, of_release(output, b).await?.report));
    let (of_a, of_b) = &*reports;
    Ok(Comparison {
        difference: diff(output, a, b).await?,
        drift: drift_between(output, a, b).await?,
        gates: pairs(gates(of_a), gates(of_b)),
        rows: pairs(rows(of_a), rows(of_b)),
        seconds: pairs(seconds(of_a), seconds(of_b)),
        users: users(of_a, of_b),
        reports,
    })
}

impl Comparison {
    /// The page, self-contained as a report is.
    pub fn page(&self) -> String {
        page::page(self)
    }
}

type Pairs = BTreeMap<String, (Option<f64>, Option<f64>)>;

fn pairs(a: impl Iterator<Item = (String, f64)>, b: impl Iterator<Item = (String, f64)>) -> Pairs {
    let mut found = Pairs::new();
    a.for_each(|(name, value)| found.entry(name).or_default().0 = Some(value));
    b.for_each(|(name, value)| found.entry(name).or_default().1 = Some(value));
    found
}

fn gates(report: &Report) -> impl Iterator<Item = (String, f64)> {
    report.gates.iter().filter_map(|gate| Some((gate.name.clone(), gate.value?)))
}

fn rows(report: &Report) -> impl Iterator<Item = (String, f64)> {
    report.samples.tables.iter().map(|(name, table)| (name.clone(), table.rows as f64))
}

fn seconds(report: &Report) -> impl Iterator<Item = (String, f64)> {
    report.stages.iter().map(|stage| (stage.stage.clone(), stage.seconds))
}

fn users(a: &Report, b: &Report) -> Vec<SharedList> {
    let before: BTreeMap<&Id, &Vec<Id>> = a.portrait.users.iter().map(|user| (&user.user, &user.gets)).collect();
    let both = b.portrait.users.iter().filter_map(|user| Some((user, *before.get(&user.user)?)));
    both.map(|(user, old)| {
        let (old_items, new_items): (BTreeSet<&Id>, BTreeSet<&Id>) = (old.iter().collect(), user.gets.iter().collect());
        SharedList {
            user: user.user.clone(),
            same: old_items.intersection(&new_items).count(),
            of: old.len().max(user.gets.len()),
        }
    })
    .collect()
}
