//! The planted taste: what users like, what items are, and how likely a click is. Nothing here depends on how many days are
//! generated, so a longer run begins with the days of a shorter one.

use super::GenerateOptions;
use super::random::{Random, Weighted};

/// Dimensions of the hidden space in which users and items meet.
const DIMENSIONS: usize = 16;
/// Publishers of one cluster of items.
const PUBLISHERS: usize = 5;
/// Share of the catalogue that is added each day, where the options do not say.
const NEW_ITEMS: f64 = 0.01;

type Point = [f64; DIMENSIONS];

/// Keys of the random streams.
mod stream {
    pub const CENTRE: u64 = 1;
    pub const PUBLISHER: u64 = 2;
    pub const ITEM: u64 = 3;
    pub const USER: u64 = 4;
    pub const INTEREST: u64 = 5;
}

pub struct World {
    pub seed: u64,
    pub users: Vec<User>,
    /// Items in the order in which they appear; those of a day are a prefix.
    pub items: Vec<Item>,
    centres: Vec<Point>,
    /// Items on the first day, and items added on each later one.
    first_items: usize,
    new_items: usize,
    /// Days that an interest lasts.
    drift: Option<u32>,
}

pub struct User {
    /// The first day that the user is seen on.
    pub first_day: u32,
    pub age: Option<i64>,
    pub country: &'static str,
    pub premium: Option<bool>,
    /// How likely the user is to come on a day.
    pub activity: f64,
    /// Clusters the user likes, strongest first at phase 1.
    clusters: [usize; 3],
    own: Point,
    phase: f64,
}

pub struct Item {
    pub cluster: usize,
    pub category: usize,
    pub publisher: i64,
    pub price: Option<f64>,
    pub tags: Vec<usize>,
    /// Weight with which a policy by popularity shows it: Zipf's law with exponent 3/4.
    pub popularity: f64,
    /// What makes it clicked more or less by everyone, -0.5 to 0.5.
    quality: f64,
    at: Point,
}

/// A user's taste on one day.
pub struct Taste {
    at: Point,
    clusters: [usize; 3],
    mix: Weighted,
}

const COUNTRIES: [&str; 8] = ["at", "br", "de", "fr", "in", "jp", "us", "za"];

impl World {
    pub fn new(options: &GenerateOptions) -> Self {
        let seed = options.seed;
        let clusters = (options.items as usize / 40).clamp(4, 200);
        let centres = (0..clusters).map(|c| unit(noise(&mut Random::new(seed, stream::CENTRE, c as u64, 0)))).collect();
        let mut world = World {
            seed,
            users: Vec::new(),
            items: Vec::new(),
            centres,
            first_items: options.items as usize,
            new_items: options
                .new_items
                .map_or(((f64::from(options.items) * NEW_ITEMS) as usize).max(1), |new| new as usize),
            drift: options.drift,
        };
        world.users = (0..options.users as usize).map(|user| world.user(user)).collect();
        world.items = (0..world.catalogue(options.days.saturating_sub(1))).map(|item| world.item(item)).collect();
        world
    }

    /// Number of items that exist on a day: those with a lower number.
    pub fn catalogue(&self, day: u32) -> usize {
        self.first_items + self.new_items * day as usize
    }

    /// The items that are new on a day; none on the first.
    pub fn appeared(&self, day: u32) -> std::ops::Range<usize> {
        if day == 0 { 0..0 } else { self.catalogue(day - 1)..self.catalogue(day) }
    }

    pub fn clusters(&self) -> usize {
        self.centres.len()
    }

    fn user(&self, user: usize) -> User {
        let random = &mut Random::new(self.seed, stream::USER, user as u64, 0);
        let clusters = [(); 3].map(|()| random.below(self.centres.len()));
        let country = if random.chance(0.5) { clusters[0] % COUNTRIES.len() } else { random.below(COUNTRIES.len()) };
        let age = 18 + (clusters[0] * 7 % 40) as i64 + random.below(12) as i64;
        User {
            first_day: if random.chance(0.93) { 0 } else { 1 + random.below(14) as u32 },
            age: (!random.chance(0.05)).then_some(age),
            country: COUNTRIES[country],
            premium: (!random.chance(0.1)).then_some(random.chance(0.3)),
            activity: 0.4 + 0.6 * random.uniform(),
            clusters,
            own: unit(noise(random)),
            phase: random.uniform(),
        }
    }

    fn item(&self, item: usize) -> Item {
        let random = &mut Random::new(self.seed, stream::ITEM, item as u64, 0);
        let clusters = self.centres.len();
        let cluster = random.below(clusters);
        let publisher = cluster * PUBLISHERS + random.below(PUBLISHERS);
        let style = unit(noise(&mut Random::new(self.seed, stream::PUBLISHER, publisher as u64, 0)));
        let own = unit(noise(random));
        let mut at = self.centres[cluster];
        for d in 0..DIMENSIONS {
            at[d] += 0.5 * style[d] + 0.5 * own[d];
        }
        let tags = 1 + random.below(4);
        let rarity = random.uniform() + 0.005;
        Item {
            cluster,
            // a catalogue's categories are never all right
            category: if random.chance(0.9) { cluster } else { random.below(clusters) },
            publisher: publisher as i64,
            price: (!random.chance(0.1))
                .then(|| ((1.0 + 60.0 * random.uniform() * random.uniform()) * 100.0).round() / 100.0),
            tags: (0..tags)
                .map(|_| if random.chance(0.8) { cluster * 3 + random.below(3) } else { random.below(clusters * 3) })
                .collect(),
            popularity: 1.0 / (rarity.sqrt() * rarity.sqrt().sqrt()),
            quality: random.uniform() - 0.5,
            at: unit(at),
        }
    }

    /// What a user likes on a day. The first two interests trade places over about a month; or, with drift, each rises, falls and
    /// gives way to another, a third of its life after the one before.
    pub fn taste(&self, number: usize, day: u32) -> Taste {
        let user = &self.users[number];
        let (mut clusters, mut shares) = (user.clusters, [0.0; 3]);
        match self.drift {
            None => {
                let turn = (user.phase + f64::from(day) / 30.0).fract();
                let first = 0.3 + 0.3 * (2.0 * turn - 1.0).abs();
                shares = [first, 0.9 - first, 0.15];
            }
            Some(life) => {
                for (slot, (cluster, share)) in clusters.iter_mut().zip(&mut shares).enumerate() {
                    let age = user.phase + slot as f64 / 3.0 + f64::from(day) / f64::from(life);
                    if age >= 1.0 {
                        let which = (age as u64) << 2 | slot as u64;
                        *cluster =
                            Random::new(self.seed, stream::INTEREST, number as u64, which).below(self.centres.len());
                    }
                    *share = 0.05 + 0.6 * (1.0 - (2.0 * age.fract() - 1.0).abs());
                }
            }
        }
        let mut at = user.own.map(|x| 0.35 * x);
        for (share, cluster) in shares.iter().zip(clusters) {
            for (x, centre) in at.iter_mut().zip(&self.centres[cluster]) {
                *x += share * centre;
            }
        }
        Taste { at: unit(at), clusters, mix: Weighted::new(shares) }
    }

    /// How much more than another item a user would like this one; about -2 to 1.5.
    pub fn appeal(&self, taste: &Taste, item: usize) -> f64 {
        let item = &self.items[item];
        let affinity: f64 = taste.at.iter().zip(&item.at).map(|(a, b)| a * b).sum();
        6.0 * (affinity - 0.45) + item.quality
    }
}

impl Taste {
    /// One of the clusters that the user likes, more often the stronger ones.
    pub fn cluster(&self, random: &mut Random) -> usize {
        self.clusters[self.mix.draw(random).unwrap_or(0)]
    }
}

/// Probability of a click at a position of the page (0 is the top).
pub fn click_probability(appeal: f64, position: i32) -> f64 {
    0.01 + 0.75 * squash(appeal - 0.05 * f64::from(position))
}

/// From any number to 0..1, without `exp`.
pub fn squash(x: f64) -> f64 {
    0.5 + 0.5 * x / (1.0 + x * x).sqrt()
}

fn noise(random: &mut Random) -> Point {
    [(); DIMENSIONS].map(|()| random.normal())
}

fn unit(point: Point) -> Point {
    let norm = point.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
    point.map(|x| x / norm)
}
