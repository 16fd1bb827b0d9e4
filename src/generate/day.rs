//! One day of the world: who came, what the policy showed, what was clicked, what the ranker thought.

use std::collections::HashSet;

use super::random::{Random, Weighted};
use super::world::{Taste, World, click_probability, squash};

/// Most items that the ranker scores for one user: a larger catalogue is thinned out, as a real first stage would.
const RANKED_CANDIDATES: usize = 20_000;
/// Most items kept by the ranker, the "top 1000" of a logged ranking.
const RANKED: usize = 1000;
/// Clicked items that a user is not shown again.
const REMEMBERED: usize = 64;

mod stream {
    pub const VISIT: u64 = 11;
    pub const RANKER: u64 = 12;
}

const DEVICES: [&str; 3] = ["phone", "tablet", "web"];
const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// One item shown to one user.
pub struct Impression {
    pub user: usize,
    pub item: usize,
    /// Microseconds since the day began, in UTC.
    pub micros: i64,
    pub position: i32,
    pub device: &'static str,
    pub clicked: bool,
}

/// What one user saw on one day, and the ranker's list for that visit.
pub struct Visit {
    pub impressions: Vec<Impression>,
    /// (item, score), best first; the scores are steps of 1/1024.
    pub ranked: Vec<(usize, f32)>,
}

/// The newest clicked items of a user, newest last.
#[derive(Default, Clone)]
pub struct Clicked(Vec<u32>);

impl Clicked {
    fn push(&mut self, item: usize) {
        if self.0.len() == REMEMBERED {
            self.0.remove(0);
        }
        self.0.push(item as u32);
    }
}

/// What the policy that fills pages knows on one day.
pub struct Day<'a> {
    world: &'a World,
    day: u32,
    popular: Weighted,
    by_cluster: Vec<(Vec<usize>, Weighted)>,
}

impl<'a> Day<'a> {
    pub fn new(world: &'a World, day: u32) -> Self {
        let items = world.catalogue(day);
        let mut members = vec![Vec::new(); world.clusters()];
        for item in 0..items {
            members[world.items[item].cluster].push(item);
        }
        let weigh = |items: &[usize]| Weighted::new(items.iter().map(|item| world.items[*item].popularity));
        Day {
            world,
            day,
            popular: Weighted::new(world.items[..items].iter().map(|item| item.popularity)),
            by_cluster: members.into_iter().map(|items| (weigh(&items), items)).map(|(w, items)| (items, w)).collect(),
        }
    }

    /// The visit of a user, if he comes on this day.
    pub fn visit(&self, user: usize, clicked: &mut Clicked) -> Option<Visit> {
        let who = &self.world.users[user];
        let random = &mut Random::new(self.world.seed, stream::VISIT, user as u64, self.day.into());
        if who.first_day > self.day || !random.chance(who.activity) {
            return None;
        }
        let taste = self.world.taste(user, self.day);
        let device = DEVICES[random.below(DEVICES.len())];
        let length = 5 + random.below(20);
        let mut micros = (random.uniform() * (DAY_MICROS - 3_600_000_000) as f64) as i64;
        let mut shown: HashSet<usize> = clicked.0.iter().map(|item| *item as usize).collect();
        let mut impressions = Vec::with_capacity(length);
        for position in 0..length as i32 {
            // a few tries to find something that was not shown: small catalogues run out
            let Some(item) = (0..8).map(|_| self.choose(&taste, random)).find(|item| shown.insert(*item)) else {
                continue;
            };
            micros += 1_000_000 + (random.uniform() * 60_000_000.0) as i64;
            let appeal = self.world.appeal(&taste, item);
            let click = random.chance(click_probability(appeal, position));
            if click {
                clicked.push(item);
            }
            impressions.push(Impression { user, item, micros, position, device, clicked: click });
        }
        Some(Visit { impressions, ranked: self.rank(user, &taste) })
    }

    /// What the logging policy puts on a page: personal, popular, fresh, or anything.
    fn choose(&self, taste: &Taste, random: &mut Random) -> usize {
        let items = self.world.catalogue(self.day);
        let fresh = self.world.appeared(self.day);
        let slot = random.uniform();
        if slot < 0.5 {
            let (members, weights) = &self.by_cluster[taste.cluster(random)];
            let drawn: Vec<usize> = (0..3).filter_map(|_| weights.draw(random)).map(|at| members[at]).collect();
            let better = |a: &usize, b: &usize| self.world.appeal(taste, *a).total_cmp(&self.world.appeal(taste, *b));
            if let Some(best) = drawn.into_iter().max_by(better) {
                return best;
            }
        }
        match slot {
            s if s < 0.8 => self.popular.draw(random).unwrap_or(0),
            s if s < 0.86 && !fresh.is_empty() => fresh.start + random.below(fresh.len()),
            _ => random.below(items),
        }
    }

    /// A ranker's list: the true taste seen through noise.
    fn rank(&self, user: usize, taste: &Taste) -> Vec<(usize, f32)> {
        let items = self.world.catalogue(self.day);
        let step = items.div_ceil(RANKED_CANDIDATES);
        let random = &mut Random::new(self.world.seed, stream::RANKER, user as u64, self.day.into());
        let mut scored: Vec<(usize, f32)> = (random.below(step)..items)
            .step_by(step)
            .map(|item| {
                let score = squash(self.world.appeal(taste, item) + 0.5 * random.normal());
                (item, (score * 1024.0).round() as f32 / 1024.0)
            })
            .collect();
        let best_first = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        // a tenth of a small catalogue: the top 1000 of 2000 items would say nothing
        let keep = RANKED.min(items.div_ceil(10)).min(scored.len());
        if keep < scored.len() {
            scored.select_nth_unstable_by(keep, best_first);
            scored.truncate(keep);
        }
        scored.sort_unstable_by(best_first);
        scored
    }
}
