//! The portrait of a candidate: pictures of its vectors, and what some users get.

mod notes;
mod projection;

use std::collections::{BTreeSet, HashMap};

use super::catalogue::Catalogue;
use super::lists;
use super::sets::{ItemSets, Targets};
use crate::artifacts::{Histogram, Id, Ids, ItemNote, Portrait, Projection, SampleFacts, UserExample};
use crate::config::Features;
use crate::error::Result;
use crate::index::SearchIndex;
use crate::kernels::math::dot;
use crate::retrieval::{UserTower, each_user_block, seeded_hash, smallest, user_ids};
use crate::storage::Store;
use notes::Notes;

/// Items in the picture: as many as an eye can tell apart, and a page can carry.
const POINTS: usize = 2000;
/// Pairs whose likeness is counted.
const PAIRS: usize = 20_000;
const MOST_BINS: usize = 24;
const USERS: usize = 10;
/// Items of a user's list.
const GETS: usize = 10;
/// Items of what a user had, and of what he was to find.
const NAMED: usize = 8;
/// Groups with a colour of their own; the others are one.
const GROUPS: usize = 7;

/// Those ten of the users in `targets`, or of all users where there is nothing to find, whose id has the smallest hash.
pub(super) async fn chosen(store: &Store, samples: &SampleFacts, targets: &Targets, seed: u64) -> Result<Ids> {
    let mut best: BTreeSet<(u64, Id)> = BTreeSet::new();
    user_ids(store, samples, |ids| {
        for at in 0..ids.len() {
            if !targets.users.is_empty() && targets.measured(ids, at).is_none() {
                continue;
            }
            let hash = seeded_hash(seed, ids, at);
            if best.len() < USERS || best.last().is_some_and(|last| hash <= last.0) {
                best.insert((hash, ids.get(at)));
                if best.len() > USERS {
                    best.pop_last();
                }
            }
        }
    })
    .await?;
    let mut ids = Ids::new(samples.user_id_type);
    best.into_iter().for_each(|(_, id)| ids.push(id));
    Ok(ids)
}

/// What the portrait is drawn from.
pub(super) struct Sitting<'a> {
    pub store: &'a Store,
    pub samples: &'a SampleFacts,
    pub features: &'a Features,
    pub seed: u64,
    pub catalogue: &'a Catalogue,
    pub search: &'a SearchIndex,
    pub targets: &'a Targets,
    pub seen: &'a ItemSets,
    /// From [`chosen`].
    pub users: &'a Ids,
}

pub(super) async fn draw(sitting: &Sitting<'_>, tower: &impl UserTower) -> Result<Portrait> {
    let Sitting { catalogue, .. } = sitting;
    let (dim, vectors) = (catalogue.dim, &catalogue.vectors);
    let hashes: Vec<u64> = (0..catalogue.ids.len()).map(|at| seeded_hash(sitting.seed, &catalogue.ids, at)).collect();
    let mut points = smallest(&hashes, POINTS);
    points.retain(|at| vectors[at * dim..][..dim].iter().all(|value| value.is_finite()));
    let examples = examples(sitting, tower).await?;

    let mut named: Vec<u32> =
        examples.iter().flat_map(|one| [&one.had, &one.wanted, &one.gets]).flatten().copied().collect();
    let in_lists = named.len();
    named.extend(points.iter().map(|at| *at as u32));
    let notes = Notes::read(sitting.store, sitting.samples, sitting.features, catalogue, &named).await?;

    let drawn: Vec<f32> = points.iter().flat_map(|at| &vectors[at * dim..][..dim]).copied().collect();
    let (groups, group) = groups(&points, &notes);
    let picture = projection::project(&drawn, dim);
    let lists: BTreeSet<u32> = named[..in_lists].iter().copied().collect();
    let id = |at: &u32| catalogue.ids.get(*at as usize);
    let note = |at: &u32| ItemNote {
        item: id(at),
        title: notes.title_of(*at),
        group: notes.group_of(*at),
        positives: catalogue.positives[*at as usize],
    };
    let names = |list: &[u32]| list.iter().map(id).collect::<Vec<Id>>();
    let user = |(at, one): (usize, &Example)| UserExample {
        user: sitting.users.get(at),
        had: names(&one.had),
        had_total: one.had_total,
        wanted: names(&one.wanted),
        wanted_total: one.wanted_total,
        gets: names(&one.gets),
        hits: one.hits.clone(),
    };
    Ok(Portrait {
        norms: histogram(vectors.chunks_exact(dim).map(|vector| dot(vector, vector).sqrt().into())),
        similarity: similarity(&drawn, dim),
        projection: Projection {
            explained: picture.explained,
            items: points.iter().map(|at| catalogue.ids.get(*at)).collect(),
            x: picture.x,
            y: picture.y,
            positives: points.iter().map(|at| catalogue.positives[*at]).collect(),
            groups,
            group,
        },
        title: notes.title.clone(),
        group: notes.group.clone(),
        items: lists.iter().map(note).collect(),
        users: examples.iter().enumerate().map(user).collect(),
    })
}

/// One user's items by position.
#[derive(Default)]
struct Example {
    had: Vec<u32>,
    had_total: u64,
    wanted: Vec<u32>,
    wanted_total: u64,
    gets: Vec<u32>,
    hits: Vec<u32>,
}

/// In the order of `sitting.users`.
async fn examples(sitting: &Sitting<'_>, tower: &impl UserTower) -> Result<Vec<Example>> {
    let Sitting { targets, seen, catalogue, .. } = sitting;
    let mut places: HashMap<Id, usize> = sitting.users.iter().enumerate().map(|(at, id)| (id, at)).collect();
    let mut found: Vec<Example> = places.iter().map(|_| Example::default()).collect();
    // a second row of one user is not looked at
    let mut waiting = places.clone();
    let keep = |ids: &Ids, at: usize| waiting.remove(&ids.get(at)).is_some();
    each_user_block(sitting.store, sitting.samples, tower, USERS, keep, |ids, vectors| {
        let numbers: Vec<u32> = (0..ids.len()).filter_map(|at| targets.users.get(ids, at)).collect();
        let gets = lists::indexed(sitting.search, vectors, &numbers, seen, GETS)?.masked;
        for ((at, user), gets) in numbers.iter().enumerate().zip(gets) {
            let Some(place) = places.remove(&ids.get(at)) else { continue };
            let (had, wanted) = (seen.of(*user), targets.sets.of(*user));
            let popular = |items: &[u32]| {
                let mut items = items.to_vec();
                items.sort_by_key(|item| (std::cmp::Reverse(catalogue.positives[*item as usize]), *item));
                items.truncate(NAMED);
                items
            };
            found[place] = Example {
                had: popular(had),
                had_total: had.len() as u64,
                wanted: popular(wanted),
                wanted_total: wanted.len() as u64,
                hits: (0..gets.len() as u32).filter(|at| wanted.binary_search(&gets[*at as usize]).is_ok()).collect(),
                gets,
            };
        }
        Ok(())
    })
    .await?;
    Ok(found)
}

/// The largest groups among the points, and each point's.
fn groups(points: &[usize], notes: &Notes) -> (Vec<String>, Vec<u32>) {
    if notes.group.is_none() {
        return (Vec::new(), Vec::new());
    }
    let of: Vec<Option<String>> = points.iter().map(|at| notes.group_of(*at as u32)).collect();
    let mut counts: HashMap<&String, usize> = HashMap::new();
    of.iter().flatten().for_each(|name| *counts.entry(name).or_default() += 1);
    let mut sizes: Vec<(&String, usize)> = counts.into_iter().collect();
    sizes.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let others = sizes.len() > GROUPS || of.iter().any(Option::is_none);
    let mut names: Vec<String> = sizes.into_iter().take(GROUPS).map(|(name, _)| name.clone()).collect();
    let place =
        |name: &Option<String>| names.iter().position(|n| Some(n) == name.as_ref()).unwrap_or(names.len()) as u32;
    let group = of.iter().map(place).collect();
    if others {
        names.push("others".into());
    }
    (names, group)
}

/// Inner products of the drawn vectors with those after them, at growing distances, so that each is in about as many pairs.
fn similarity(vectors: &[f32], dim: usize) -> Histogram {
    let rows: Vec<&[f32]> = vectors.chunks_exact(dim).collect();
    let steps = PAIRS.div_ceil(rows.len().max(1)).min(rows.len().saturating_sub(1));
    let pairs = (1..=steps).flat_map(|step| rows.iter().zip(&rows[step..]));
    histogram(pairs.map(|(a, b)| dot(a, b).into()).collect::<Vec<f64>>().into_iter())
}

/// Equal bins over all values, with round edges. Values that are not finite are left out.
fn histogram(values: impl Iterator<Item = f64> + Clone) -> Histogram {
    let finite = values.filter(|value| value.is_finite());
    let (low, high) = finite.clone().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return Histogram::default();
    }
    let round = |value: f64| (value * 1e9).round() / 1e9;
    // a spread below what float32 can tell is none
    if high - low < 1e-6 {
        return Histogram { edges: vec![round(low), round(high)], counts: vec![finite.count() as u64] };
    }
    let least = (high - low) / MOST_BINS as f64;
    let power = 10f64.powf(least.log10().floor());
    let width = [1.0, 2.0, 5.0].map(|factor| factor * power).into_iter().find(|width| *width >= least);
    let width = width.unwrap_or(10.0 * power);
    let first = (low / width).floor();
    let bin = |value: f64| ((value / width).floor() - first) as usize;
    let mut counts = vec![0; bin(high) + 1];
    finite.for_each(|value| counts[bin(value)] += 1);
    let edge = |at: usize| round((first + at as f64) * width);
    Histogram { edges: (0..=counts.len()).map(edge).collect(), counts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_bin_and_others_have_bins_with_round_edges() {
        let one = histogram([1.0, 1.0 + 1e-9, f64::NAN].into_iter());
        assert_eq!((one.edges, one.counts), (vec![1.0, 1.000000001], vec![2]));
        let many = histogram((0..240).map(f64::from));
        assert_eq!((many.edges.len(), many.counts.iter().sum::<u64>()), (25, 240));
        assert_eq!((many.edges[0], many.edges[1], many.edges[24], many.counts[0]), (0.0, 10.0, 240.0, 10));
        let around = histogram([-0.31, 0.02, 0.31].into_iter());
        assert_eq!((around.edges[0], around.counts[0], around.counts.len()), (-0.35, 1, 14));
        assert_eq!(histogram([f64::NAN].into_iter()), Histogram::default());
    }

    #[test]
    fn likeness_of_few_items_counts_each_pair_once() {
        let found = similarity(&[1.0, 0.0, 0.0, 1.0, 1.0, 0.0], 2);
        assert_eq!(found.counts.iter().sum::<u64>(), 3);
        assert_eq!((found.counts[0], found.counts.last()), (2, Some(&1)));
        assert_eq!(similarity(&[1.0, 0.0], 2), Histogram::default());
    }
}
