//! Schedules of publish, rollback, gc and lease steps by several processes. Before and after every call to the store another process
//! may go on instead, for as long as it likes; a process may end there; an answer may get lost, and its request be
//! carried out much later. After every change of the store, what readers see must be whole.
//!
//! `TWOTOWER_SEED=n` runs one schedule, `TWOTOWER_SEEDS=n` that many.

use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;

use serde_json::Value;

use crate::artifacts::{IdType, Measured, Publication, Release, RunDate, SCHEMA_VERSION, Written, keys};
use crate::config::{Duration as Span, Retention};
use crate::error::Result;
use crate::pipeline::{Stage, records};
use crate::publish::releases::Numbers;
use crate::publish::{commit::commit, finish_removals, gc, newest, rollback};
use crate::storage::{Clock, FileEntry, Holder, Lease, Store, Turn, simulated::World};

const TTL: u64 = 1000;
const GRACE: u64 = 20_000;
/// All candidates are made from the same samples.
const SAMPLES: &str = "0123456789abcdef";

fn keep() -> Retention {
    Retention { keep: 2, keep_days: 0, grace: Span(Duration::from_millis(GRACE)) }
}

fn date() -> RunDate {
    "2026-11-20".parse().unwrap()
}

/// One process.
#[derive(Clone)]
struct Process {
    world: Arc<World>,
    store: Store,
    name: String,
    /// How often it asks for the lease before it leaves.
    patience: usize,
    /// In milliseconds; 0 for a lease that anyone may take at any time and nobody loses.
    ttl: u64,
}

impl Process {
    async fn lease(&self) -> Result<Option<Arc<Lease>>> {
        let holder = Holder {
            who: self.name.clone(),
            nonce: self.name.clone(),
            ttl: Duration::from_millis(self.ttl),
            clock: Clock::Simulated(self.world.now.clone()),
        };
        for _ in 0..self.patience {
            if let Turn::Taken(lease) = Lease::attempt(&self.store.folder(keys::LEASES), &holder).await? {
                return Ok(Some(lease));
            }
        }
        Ok(None)
    }

    /// Finds the samples, or builds them.
    async fn samples(&self) -> Result<Vec<FileEntry>> {
        match records::find::<Value>(&self.store, date(), Stage::Samples, SAMPLES).await? {
            Some(found) => Ok(found.record.files),
            None => self.build_samples().await,
        }
    }

    /// Builds the samples in a folder of its own, slowly.
    async fn build_samples(&self) -> Result<Vec<FileEntry>> {
        let folder = format!("{}/{}-{}", keys::samples(date(), SAMPLES), self.name, self.world.draw(1 << 20));
        let mut files = Vec::new();
        for table in ["positives", "holdout"] {
            files.push(self.store.put_file(format!("{folder}/{table}/part"), table, None).await?);
            for _ in 0..self.world.draw(40) {
                let _ = self.store.head(table).await;
            }
        }
        let at = records::Place { stage: Stage::Samples, folder: &folder, run_id: "", digest: SAMPLES };
        let written = Written { files, facts: Value::Null };
        Ok(records::commit(&self.store, None, &at, written, Measured::default()).await?.record.files)
    }

    /// A run: goes on with a candidate that is there, or makes one, and publishes it.
    async fn publish(self, reuse: bool) -> Result<()> {
        // without the lease: two attempts are both good
        if self.world.draw(3) == 0 {
            self.build_samples().await?
        } else {
            self.samples().await?
        };
        let Some(lease) = self.lease().await? else { return Ok(()) };
        finish_removals(&self.store, &lease, &keep()).await?;
        // again, because gc may have come in between
        let samples = self.samples().await?;
        let runs = if reuse { self.store.list_level(&keys::runs(date())).await?.0 } else { Vec::new() };
        let run_id =
            if runs.is_empty() { self.name.clone() } else { runs[self.world.draw(runs.len() as u64) as usize].clone() };
        let folder = keys::run(date(), &run_id);
        let mut files = Vec::new();
        if runs.is_empty() {
            for part in ["model/towers", "index/items"] {
                files.push(self.store.put_file(format!("{folder}/{part}"), format!("{run_id} {part}"), None).await?);
                lease.renew().await?;
            }
            let text = serde_json::to_string(&files).unwrap();
            self.store.put(&format!("{folder}/model/{}", keys::MANIFEST), text).await?;
        } else {
            let Some(text) = self.store.get(&format!("{folder}/model/{}", keys::MANIFEST)).await? else {
                return Ok(());
            };
            files = serde_json::from_slice(&text).unwrap();
        }
        files.extend(samples);
        let number = newest(&self.store).await?.map_or(1, |newest| newest.release + 1);
        commit(&self.store, &lease, release(number, &run_id, files, lease.number())).await?;
        lease.release().await;
        Ok(())
    }

    async fn collect(self) -> Result<()> {
        let Some(lease) = self.lease().await? else { return Ok(()) };
        gc(&self.store, &lease, &keep()).await?;
        lease.release().await;
        Ok(())
    }

    async fn roll_back(self) -> Result<()> {
        let Some(lease) = self.lease().await? else { return Ok(()) };
        let numbers = Numbers::list(&self.store).await?.taken;
        if !numbers.is_empty() {
            let to = numbers[self.world.draw(numbers.len() as u64) as usize];
            rollback(&self.store, &lease, to, "simulated").await?;
        }
        lease.release().await;
        Ok(())
    }
}

pub(super) fn release(number: u64, run_id: &str, files: Vec<FileEntry>, fence: u64) -> Release {
    Release {
        schema_version: SCHEMA_VERSION,
        release: number,
        name: "simulated".into(),
        run_id: run_id.into(),
        date: date(),
        created: Default::default(),
        parent: None,
        started_from: None,
        rollback_of: None,
        data_window: (date(), date()),
        config_digest: String::new(),
        settings: Default::default(),
        sql_digest: String::new(),
        inputs_digest: String::new(),
        digests: Default::default(),
        dim: 1,
        metric: String::new(),
        items: 1,
        user_id_type: IdType::Bigint,
        item_id_type: IdType::Bigint,
        index_factory: String::new(),
        search_parameters: String::new(),
        samples: String::new(),
        model: String::new(),
        embeddings: String::new(),
        index: String::new(),
        report: String::new(),
        files,
        metrics: serde_json::Value::Null,
        gates: Vec::new(),
        publication: Publication { fence, by: "simulated".into(), ..Default::default() },
    }
}

/// What a reader has seen so far.
#[derive(Default)]
struct Reader {
    newest: u64,
    /// Every number that was ever visible, with its manifest.
    seen: HashMap<u64, (Bytes, Release)>,
    visible: BTreeSet<u64>,
    looked_at: u64,
    leases_hold: bool,
    rollbacks: u64,
    deleted: u64,
}

impl Reader {
    /// What is published must be whole, for ever the same, and the newest never an older one.
    fn look(&mut self, world: &Arc<World>) {
        let changes = world.changes.load(Ordering::SeqCst);
        if std::mem::replace(&mut self.looked_at, changes) == changes {
            return;
        }
        let store = world.plain();
        let at_once = "the plain store does not wait";
        let numbers = Numbers::list(&store).now_or_never().expect(at_once).unwrap();
        let newest = numbers.newest().unwrap_or(0);
        assert!(newest >= self.newest, "the newest release was {}, now it is {newest}", self.newest);
        self.newest = newest;
        let before = std::mem::take(&mut self.visible);
        let mut fence = 0;
        for number in numbers.taken {
            let text =
                store.get(&keys::release(number)).now_or_never().expect(at_once).unwrap().expect("it was listed");
            if let Some((first, _)) = self.seen.get(&number) {
                assert!(before.contains(&number), "release {number} was deleted and came back");
                assert_eq!(*first, text, "release {number} has changed");
            }
            let (_, release) = self.seen.entry(number).or_insert_with(|| {
                let release: Release = serde_json::from_slice(&text).unwrap();
                self.rollbacks += u64::from(release.rollback_of.is_some());
                (text, release)
            });
            assert_eq!(release.release, number);
            let in_turn = release.publication.fence >= fence || !self.leases_hold;
            assert!(in_turn, "release {number} came from a lease that was over");
            fence = release.publication.fence;
            for file in &release.files {
                let found = store.head(&file.key).now_or_never().expect(at_once).unwrap();
                let size = found.map(|object| object.size);
                assert_eq!(size, Some(file.bytes), "release {number} of {newest} lost {}", file.key);
            }
            self.visible.insert(number);
        }
        self.deleted += before.difference(&self.visible).count() as u64;
    }
}

type Running = Pin<Box<dyn Future<Output = Result<()>>>>;

/// Runs one schedule; returns what happened in it: (releases, rollbacks, deleted).
fn schedule(seed: u64) -> (u64, u64, u64) {
    let world = World::new(seed, [0, 40, 12][(seed % 3) as usize]);
    // what is published must be whole even where leases do not work
    let ttl = if seed.is_multiple_of(2) { TTL } else { 0 };
    let mut reader = Reader { leases_hold: ttl > 0, ..Default::default() };
    let mut context = Context::from_waker(Waker::noop());
    let mut started = 0;
    let mut start = |world: &Arc<World>| -> Running {
        started += 1;
        let name = format!("p{started:03}");
        let process = Process { world: world.clone(), store: world.store(), name, patience: 30, ttl };
        match world.draw(8) {
            0..4 => process.publish(false).boxed_local(),
            4 => process.publish(true).boxed_local(),
            5 => process.roll_back().boxed_local(),
            _ => process.collect().boxed_local(),
        }
    };
    // (process, steps that it is held up)
    let mut running: Vec<(Running, u64)> = (0..4).map(|_| (start(&world), 0)).collect();
    let mut left = 24;
    while !running.is_empty() {
        // now and then time jumps: a lease's time, or all of the grace
        let jump = match world.draw(3000) {
            0 => GRACE + 1,
            1..12 => TTL + 1,
            _ => world.draw(4),
        };
        world.now.fetch_add(jump, Ordering::SeqCst);
        if world.draw(100) == 0 {
            world.haunt();
            reader.look(&world);
        }
        let at = world.draw(running.len() as u64) as usize;
        running.iter_mut().for_each(|(_, held)| *held = held.saturating_sub(1));
        let (process, held) = &mut running[at];
        if *held > 0 {
            continue;
        }
        if world.draw(200) == 0 {
            *held = 1 << world.draw(12);
            continue;
        }
        let ended = world.draw(600) == 0 || !matches!(process.as_mut().poll(&mut context), Poll::Pending);
        reader.look(&world);
        if ended {
            drop(running.swap_remove(at));
            if left > 0 {
                left -= 1;
                running.push((start(&world), 0));
            }
        }
    }
    afterwards(&world, &mut reader);
    (reader.seen.len() as u64, reader.rollbacks, reader.deleted)
}

/// Whatever was left lying about: the next run publishes, and gc leaves only what is kept.
fn afterwards(world: &Arc<World>, reader: &mut Reader) {
    reader.leases_hold = false;
    for (name, at) in [("last-gc", 0), ("last-run", 1), ("last-gc-2", 2)] {
        world.now.fetch_add(GRACE + TTL + 1001, Ordering::SeqCst);
        let process = Process { world: world.clone(), store: world.plain(), name: name.into(), patience: 1, ttl: TTL };
        let before = reader.newest;
        let run = if at == 1 { process.publish(false).boxed_local() } else { process.collect().boxed_local() };
        run.now_or_never().expect("the plain store does not wait").unwrap();
        reader.look(world);
        assert!(at != 1 || reader.newest == before + 1, "the last run published nothing");
    }
    let store = world.plain();
    let count = |folder: &str| store.list(folder).now_or_never().unwrap().unwrap().len();
    assert_eq!((count(keys::PINS), count(keys::REMOVALS)), (0, 0), "something was left");
    assert!(reader.visible.len() <= 2, "{:?} are kept", reader.visible);
    assert_eq!(count(keys::LEASES), 2, "the lease and the clock");
}

#[test]
fn whatever_happens_in_whatever_order_what_is_published_is_whole() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match number("TWOTOWER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TWOTOWER_SEEDS").unwrap_or(3000),
    };
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    let totals = std::sync::Mutex::new([0, 0, 0]);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    let ran = std::panic::catch_unwind(|| schedule(seed));
                    let Ok((releases, rollbacks, deleted)) = ran else {
                        next.store(seeds.end, Ordering::SeqCst);
                        panic!("seed {seed}: run it alone with TWOTOWER_SEED={seed}");
                    };
                    let mut totals = totals.lock().unwrap();
                    *totals = [totals[0] + releases, totals[1] + rollbacks, totals[2] + deleted];
                }
            });
        }
    });
    let [releases, rollbacks, deleted] = totals.into_inner().unwrap();
    println!("{} schedules: {releases} releases, {rollbacks} rollbacks, {deleted} deleted", seeds.end - seeds.start);
    // a simulation in which nothing happens would prove nothing
    let schedules = seeds.end - seeds.start;
    assert!(schedules == 1 || (releases > 3 * schedules && rollbacks > schedules / 4 && deleted > schedules / 2));
}
