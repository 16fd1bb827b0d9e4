//! How well the candidate retrieves what users of `holdout` went on to like.
//!
//! All items of the catalogue are candidates. Scores are inner products of the exported float32 vectors; the exact ranking and
//! the index's are measured apart, beside a ranking by popularity. Each is measured twice: open, and with the items that
//! a user has had (`seen`) left out of his list, as a service would. A target that is also in `seen` stays a target, so
//! it cannot be found when seen items are left out; such pairs are counted in a warning.

mod candidates;
mod catalogue;
mod lists;
mod metrics;
mod popularity;
mod portrait;
mod sets;
#[cfg(test)]
mod tests;

use tracing::{info, warn};

use self::candidates::Among;
use self::catalogue::Catalogue;
use self::lists::Lists;
use self::metrics::Tally;
use self::popularity::{Buckets, by_popularity};
use self::portrait::Sitting;
use self::sets::{ItemSets, Targets, read_items};
use crate::artifacts::{Embeddings, EvaluateFacts, Ids, ItemIndex, Portrait, SampleFacts, SampleSet, TrainedModel};
use crate::error::{Error, Result};
use crate::index::SearchIndex;
use crate::job::Job;
use crate::model::Towers;
use crate::retrieval::{UserTower, each_user_block};

/// Users measured at a time: bounds the lists in memory.
const BLOCK: usize = 1024;

/// What the evaluation found.
pub struct Evaluation {
    /// All zero where the samples have no row in `holdout`.
    pub facts: EvaluateFacts,
    pub portrait: Portrait,
}

/// Measures the candidate on `holdout`, and draws its portrait.
pub async fn run(
    job: &Job,
    samples: &SampleSet,
    model: &TrainedModel,
    embeddings: &Embeddings,
    index: &ItemIndex,
) -> Result<Evaluation> {
    let towers = Towers::load(&job.output, &model.folder, &model.record.files).await?;
    look(job, samples, &towers, embeddings, index).await
}

async fn look(
    job: &Job,
    samples: &SampleSet,
    tower: &impl UserTower,
    embeddings: &Embeddings,
    index: &ItemIndex,
) -> Result<Evaluation> {
    let (store, facts, config) = (&job.output, &samples.record.facts, &job.config.evaluation);
    let catalogue = Catalogue::read(store, facts, embeddings).await?;
    let parameters = &index.record.facts.parameters;
    let search = SearchIndex::load(store, &index.folder, &index.record.files, parameters).await?;
    let search = search.in_order_of(&catalogue.ids).ok_or_else(|| {
        Error::config(format!(
            "{} and {} do not hold the same items; run the index stage again",
            index.folder, embeddings.folder
        ))
    })?;
    let mut targets = Targets::read(store, facts, &catalogue.positions, config.users, config.seed).await?;
    let users = portrait::chosen(store, facts, &targets, config.seed).await?;
    let nothing = targets.users.is_empty();
    if nothing {
        warn!("the samples have no rows in `holdout`: nothing is evaluated");
        targets = Targets::none_for(&users);
    }
    let seen = read_items(store, facts, "seen", &targets, &catalogue.positions).await?;
    let measured = match nothing {
        true => EvaluateFacts::default(),
        false => measure(job, facts, tower, &catalogue, &search, &targets, &seen).await?,
    };
    let sitting = Sitting {
        store,
        samples: facts,
        features: &job.config.features,
        seed: config.seed,
        catalogue: &catalogue,
        search: &search,
        targets: &targets,
        seen: &seen,
        users: &users,
    };
    Ok(Evaluation { facts: measured, portrait: portrait::draw(&sitting, tower).await? })
}

async fn measure(
    job: &Job,
    samples: &SampleFacts,
    tower: &impl UserTower,
    catalogue: &Catalogue,
    search: &SearchIndex,
    targets: &Targets,
    seen: &ItemSets,
) -> Result<EvaluateFacts> {
    let (store, config) = (&job.output, &job.config.evaluation);
    let cutoffs = cutoffs(&config.k);
    let candidates = read_items(store, samples, "holdout_candidates", targets, &catalogue.positions).await?;
    let buckets = Buckets::new(&catalogue.positives, config.popularity_buckets, &cutoffs);
    let mut world = World {
        catalogue,
        popular: by_popularity(&catalogue.ids, &catalogue.positives),
        targets,
        seen,
        candidates: &candidates,
        index: search,
        outcome: Outcome::new(&cutoffs, catalogue.ids.len(), buckets),
    };

    let users = targets.chosen.iter().filter(|chosen| **chosen).count();
    let bar = job.progress.bar("evaluate", users as u64);
    let mut waiting = targets.chosen.clone();
    // a second row of one user would count him twice
    let keep = |ids: &Ids, at| {
        targets.measured(ids, at).is_some_and(|user| std::mem::replace(&mut waiting[user as usize], false))
    };
    each_user_block(store, samples, tower, BLOCK, keep, |ids, vectors| {
        job.stop.check()?;
        world.add(ids, vectors)?;
        bar.advance(ids.len() as u64);
        Ok(())
    })
    .await?;
    let without_features = waiting.iter().filter(|waiting| **waiting).count() as u64;
    Ok(world.outcome.finish(without_features))
}

/// Ascending and once each.
fn cutoffs(configured: &[usize]) -> Vec<usize> {
    let mut cutoffs = configured.to_vec();
    cutoffs.sort_unstable();
    cutoffs.dedup();
    cutoffs
}

/// Everything that a block of users is measured against.
struct World<'a> {
    catalogue: &'a Catalogue,
    popular: Vec<u32>,
    targets: &'a Targets,
    seen: &'a ItemSets,
    candidates: &'a ItemSets,
    index: &'a SearchIndex,
    outcome: Outcome,
}

impl World<'_> {
    /// Measures the users with these ids and vectors `[users, dim]`.
    fn add(&mut self, ids: &Ids, vectors: &[f32]) -> Result<()> {
        let users: Vec<u32> = (0..ids.len()).filter_map(|at| self.targets.users.get(ids, at)).collect();
        let (k, dim, items) = (self.outcome.deepest, self.catalogue.dim, &self.catalogue.vectors);
        let exact = lists::exact(vectors, items, dim, &users, self.seen, k);
        let indexed = lists::indexed(self.index, vectors, &users, self.seen, k)?;
        let popular = lists::popular(&self.popular, &users, self.seen, k);
        self.outcome.add(&users, self.targets, self.seen, &exact, &indexed, &popular);
        for (&user, vector) in users.iter().zip(vectors.chunks_exact(dim)) {
            let (wanted, candidates) = (self.targets.sets.of(user), self.candidates.of(user));
            let outside = u64::from(self.targets.total[user as usize]) - wanted.len() as u64;
            self.outcome.among.add(vector, wanted, outside, candidates, items, &self.catalogue.positives);
        }
        Ok(())
    }
}

/// Sums over users. They are added one after another, so the result does not depend on threads.
struct Outcome {
    deepest: usize,
    /// Exact, index, popularity; each masked, then open.
    tallies: [Tally; 6],
    buckets: Buckets,
    among: Among,
    users: u64,
    targets: u64,
    outside: u64,
    had: u64,
}

impl Outcome {
    fn new(cutoffs: &[usize], items: usize, buckets: Buckets) -> Self {
        let deepest = cutoffs.last().copied().unwrap_or(0);
        let tallies = std::array::from_fn(|_| Tally::new(cutoffs, items));
        let among = Among::new(cutoffs);
        Outcome { deepest, tallies, buckets, among, users: 0, targets: 0, outside: 0, had: 0 }
    }

    fn add(
        &mut self,
        users: &[u32],
        targets: &Targets,
        seen: &ItemSets,
        exact: &Lists,
        indexed: &Lists,
        popular: &Lists,
    ) {
        for (row, &user) in users.iter().enumerate() {
            let (wanted, total) = (targets.sets.of(user), targets.total[user as usize]);
            self.users += 1;
            self.targets += u64::from(total);
            self.outside += u64::from(total) - wanted.len() as u64;
            let had = seen.of(user);
            self.had += wanted.iter().filter(|item| had.binary_search(item).is_ok()).count() as u64;
            let ranked = [exact, indexed, popular].into_iter().flat_map(|lists| [&lists.masked[row], &lists.open[row]]);
            for (tally, list) in self.tallies.iter_mut().zip(ranked) {
                tally.add(list, wanted, total);
            }
            self.buckets.add(wanted, [&exact.masked[row], &popular.masked[row]]);
        }
    }

    fn finish(self, users_without_features: u64) -> EvaluateFacts {
        if self.had > 0 {
            warn!(
                pairs = self.had,
                "pairs of `holdout` are also in `seen`: they cannot be found where seen items are left out"
            );
        }
        if self.outside > 0 {
            warn!(pairs = self.outside, "items of `holdout` are not in the catalogue: they count as not found");
        }
        if users_without_features > 0 {
            warn!(users = users_without_features, "users of `holdout` have no row in `user_features` and are left out");
        }
        let [exact, exact_unmasked, indexed, indexed_unmasked, popularity, popularity_unmasked] =
            self.tallies.map(|tally| tally.metrics());
        let (new_items, by_popularity) = self.buckets.finish();
        let recall = |metrics: &crate::artifacts::Metrics| metrics.at.get(&self.deepest).map_or(0.0, |at| at.recall);
        info!(
            users = self.users,
            k = self.deepest,
            recall = recall(&exact),
            indexed = recall(&indexed),
            popularity = recall(&popularity),
            "evaluated"
        );
        EvaluateFacts {
            users: self.users,
            targets: self.targets,
            users_without_features,
            targets_outside_catalogue: self.outside,
            exact,
            exact_unmasked,
            indexed,
            indexed_unmasked,
            popularity,
            popularity_unmasked,
            by_popularity,
            new_items,
            among_candidates: self.among.finish(),
        }
    }
}
