//! What users find with a mixture of fresh and kept vectors, beside what they find with fresh ones alone.

use std::collections::HashSet;

use futures::StreamExt;

use super::refresh::{Kept, ids_of, only};
use crate::artifacts::{Id, Ids, RefreshProbe, SampleSet};
use crate::error::Result;
use crate::features::Side;
use crate::job::{Job, thread_pool};
use crate::model::Towers;
use crate::retrieval::{IdNumbers, each_user_block, exact_top, id_pairs, seeded_hash, smallest};
use crate::storage::{read_parquet_stream, sorted_parts};

/// Some users of `holdout`, what each must find, and what each has had.
struct Probe {
    users: IdNumbers,
    chosen: Vec<bool>,
    /// By user, as places among the probed items.
    wanted: Vec<Vec<u32>>,
    seen: Vec<Vec<u32>>,
}

/// Items that are searched, with both vectors of each.
struct Items {
    places: IdNumbers,
    mixed: Vec<f32>,
    fresh: Vec<f32>,
}

/// Measures recall by exact search, without what users had; none where nobody has anything to find.
pub async fn measure(job: &Job, samples: &SampleSet, towers: &Towers, kept: &Kept) -> Result<Option<RefreshProbe>> {
    let (config, facts, store) = (&job.config.embedding, &samples.record.facts, &job.output);
    let k = job.config.evaluation.k.iter().copied().max().unwrap_or(100);
    let (mut probe, targets) = users(job, samples).await?;
    let sought: HashSet<&Id> = targets.iter().map(|(_, item)| item).collect();
    let items = items(job, samples, towers, kept, &sought).await?;
    for (user, item) in &targets {
        probe.wanted[*user as usize].extend(items.places.of_id(item));
    }
    let mut pairs = id_pairs(store, facts, "seen");
    while let Some(batch) = pairs.next().await {
        let (users, ids) = batch?;
        for at in 0..users.len() {
            let user = probe.users.get(&users, at).filter(|user| probe.chosen[*user as usize]);
            if let Some((user, item)) = user.zip(items.places.get(&ids, at)) {
                probe.seen[user as usize].push(item);
            }
        }
    }
    drop(pairs);
    let pool = thread_pool(job.config.training.threads)?;
    let (mut sums, mut count) = ([0.0; 2], 0u64);
    let mut waiting = probe.chosen.clone();
    let keep = |ids: &Ids, at: usize| {
        let user = probe.users.get(ids, at).filter(|user| !probe.wanted[*user as usize].is_empty());
        user.is_some_and(|user| std::mem::replace(&mut waiting[user as usize], false))
    };
    each_user_block(store, facts, towers, 1024, keep, |ids, vectors| {
        job.stop.check()?;
        let users: Vec<usize> =
            (0..ids.len()).filter_map(|at| probe.users.get(ids, at)).map(|at| at as usize).collect();
        let most: Vec<usize> = users.iter().map(|user| k + probe.seen[*user].len()).collect();
        for (sum, of_items) in sums.iter_mut().zip([&items.mixed, &items.fresh]) {
            let found = pool.install(|| exact_top(vectors, of_items, towers.dim(), &most));
            for (user, found) in users.iter().zip(found) {
                let unseen = found.iter().map(|hit| hit.1).filter(|item| !probe.seen[*user].contains(item)).take(k);
                let top: HashSet<u32> = unseen.collect();
                let wanted = &probe.wanted[*user];
                *sum += wanted.iter().filter(|item| top.contains(item)).count() as f64 / wanted.len() as f64;
            }
        }
        count += users.len() as u64;
        Ok(())
    })
    .await?;
    let [mixed_recall, fresh_recall] = sums.map(|sum| sum / count.max(1) as f64);
    let searched = items.places.len() as u64;
    Ok((fresh_recall > 0.0).then(|| RefreshProbe {
        users: count,
        items: searched,
        k,
        mixed_recall,
        fresh_recall,
        ratio: mixed_recall / fresh_recall,
        threshold: config.min_refresh_recall,
    }))
}

/// The users with the smallest hashes, and their pairs of `holdout`.
async fn users(job: &Job, samples: &SampleSet) -> Result<(Probe, Vec<(u32, Id)>)> {
    let facts = &samples.record.facts;
    let mut users = IdNumbers::new(facts.user_id_type);
    let (mut hashes, mut targets) = (Vec::new(), Vec::new());
    let mut pairs = id_pairs(&job.output, facts, "holdout");
    while let Some(batch) = pairs.next().await {
        let (user_ids, item_ids) = batch?;
        for at in 0..user_ids.len() {
            let user = users.number(&user_ids, at)?;
            if user as usize == hashes.len() {
                hashes.push(seeded_hash(job.config.evaluation.seed, &user_ids, at));
            }
            targets.push((user, item_ids.get(at)));
        }
    }
    drop(pairs);
    let mut chosen = vec![false; hashes.len()];
    smallest(&hashes, job.config.embedding.probe_users).into_iter().for_each(|user| chosen[user] = true);
    targets.retain(|(user, _)| chosen[*user as usize]);
    let nothing = vec![Vec::new(); hashes.len()];
    Ok((Probe { users, chosen, wanted: nothing.clone(), seen: nothing }, targets))
}

/// All items of a small catalogue, else those with small hashes; and all that is sought.
async fn items(job: &Job, samples: &SampleSet, towers: &Towers, kept: &Kept, sought: &HashSet<&Id>) -> Result<Items> {
    let facts = &samples.record.facts;
    let mut items = Items { places: IdNumbers::new(facts.item_id_type), mixed: Vec::new(), fresh: Vec::new() };
    let Some(table) = facts.tables.get("item_features") else { return Ok(items) };
    let most = job.config.embedding.probe_items as u64;
    let limit = if table.rows <= most { u64::MAX } else { u64::MAX / table.rows * most };
    let mut columns = towers.feature_columns(Side::Item);
    columns.push("item_id".into());
    let pool = thread_pool(job.config.training.threads)?;
    let mut taken: HashSet<Id> = HashSet::new();
    let mut stream = read_parquet_stream(&job.output, sorted_parts(&table.files), Some(columns), 8192);
    while let Some(batch) = stream.next().await {
        job.stop.check()?;
        let batch = batch?;
        let ids = ids_of(&batch, facts)?;
        let drawn =
            |at: usize| seeded_hash(job.config.evaluation.seed, &ids, at) <= limit || sought.contains(&ids.get(at));
        let take: Vec<bool> = (0..ids.len()).map(|at| drawn(at) && taken.insert(ids.get(at))).collect();
        let batch = only(&batch, take)?;
        let ids = ids_of(&batch, facts)?;
        let fresh = pool.install(|| towers.items(std::slice::from_ref(&batch)))?;
        for (at, fresh) in fresh.chunks_exact(towers.dim()).enumerate() {
            items.places.number(&ids, at)?;
            items.mixed.extend_from_slice(kept.of(&ids, at).unwrap_or(fresh));
        }
        items.fresh.extend(fresh);
    }
    Ok(items)
}
