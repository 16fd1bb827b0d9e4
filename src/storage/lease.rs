//! One writer at a time per output, with nothing but create-if-absent.
//!
//! A turn is an object `leases/00000012.json`. Whoever creates the next number holds the lease; the number only grows and is
//! the fencing number of everything written under it. The holder writes his own object again and again, which renews its
//! date; when that date is older than the lease's time, by the store's own clock, the next number may be created. The
//! highest number always stays, so that no number comes twice.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tracing::{Instrument, info, warn};

use super::{Object, Store, sha256_hex};
use crate::error::{Error, Result};

/// An object whose date tells the store's time.
const CLOCK: &str = "clock";
/// Shortest and longest pause between two looks at another's lease.
const PAUSE: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// How long giving a lease back may take when the process is about to end.
const FAREWELL: Duration = Duration::from_secs(4);

/// The leases that this process has taken, for the end that no one can wait for.
static HELD: Mutex<Vec<Weak<Lease>>> = Mutex::new(Vec::new());

/// Gives back every lease that this process still holds.
pub async fn release_held() {
    let held: Vec<Arc<Lease>> =
        HELD.lock().expect("no holder of this lock panics").iter().filter_map(Weak::upgrade).collect();
    let all = futures::future::join_all(held.iter().map(|lease| lease.release()));
    if tokio::time::timeout(FAREWELL, all).await.is_err() {
        warn!("the lease could not be given back in time, others will wait for it");
    }
}

/// This process's time since its start, which no one can set back; in a simulation, a number.
#[derive(Clone, Default)]
pub enum Clock {
    #[default]
    System,
    Simulated(Arc<AtomicU64>),
}

impl Clock {
    fn milliseconds(&self) -> u64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        match self {
            Clock::System => START.elapsed().as_millis() as u64,
            Clock::Simulated(now) => now.load(Ordering::SeqCst),
        }
    }
}

/// Who asks for the lease, and for how long.
#[derive(Clone)]
pub struct Holder {
    /// For people: who it is and what he does.
    pub who: String,
    /// Differs between any two who ask.
    pub nonce: String,
    pub ttl: Duration,
    pub clock: Clock,
}

impl Holder {
    pub fn new(doing: &str, ttl: Duration) -> Self {
        let who = format!("{}, process {}, {doing}", user_and_host(), std::process::id());
        let now = Utc::now().timestamp_nanos_opt().unwrap_or_default();
        static ASKED: AtomicU64 = AtomicU64::new(0);
        let salt = ASKED.fetch_add(1, Ordering::Relaxed);
        let nonce = sha256_hex(format!("{who} {now} {salt}").as_bytes())[..16].to_string();
        Holder { who, nonce, ttl, clock: Clock::System }
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Record {
    holder: String,
    nonce: String,
    ttl_ms: u64,
    /// The holder is done: the next one need not wait.
    released: bool,
}

/// The right to write to an output, for as long as it is renewed.
pub struct Lease {
    leases: Store,
    number: u64,
    record: Record,
    clock: Clock,
    /// By the clock, in milliseconds; counted from before the last renewal was sent.
    valid_until: AtomicU64,
    /// It is being given back: no renewal any more.
    ending: AtomicBool,
    /// It was given back.
    released: AtomicBool,
    /// One writes at a time, so that no renewal overtakes the end.
    writing: tokio::sync::Mutex<()>,
}

/// What became of one attempt.
pub enum Turn {
    Taken(Arc<Lease>),
    /// Someone else's, in words.
    Held(String),
}

impl Lease {
    /// Waits up to `wait` for the lease of the folder `leases`, and keeps it until it is released or dropped.
    ///
    /// # Errors
    /// [`crate::error::Kind::Transient`] when it is still another's after that time.
    pub async fn take(
        leases: &Store,
        holder: &Holder,
        wait: Duration,
        stop: impl Fn() -> Result<()>,
    ) -> Result<Arc<Lease>> {
        let asked = Instant::now();
        let mut pause = PAUSE[0];
        let mut watched = None;
        loop {
            stop()?;
            match Lease::attempt_after(leases, holder, &mut watched).await? {
                Turn::Taken(lease) => {
                    let mut held = HELD.lock().expect("no holder of this lock panics");
                    held.retain(|lease| lease.strong_count() > 0);
                    held.push(Arc::downgrade(&lease));
                    drop(held);
                    lease.clone().renew_in_background();
                    return Ok(lease);
                }
                Turn::Held(by) => {
                    let left = wait.saturating_sub(asked.elapsed());
                    if left.is_zero() {
                        return Err(Error::transient(format!(
                            "{} is in use by {by}; it was not free within {wait:?}: run again later, or raise lease.wait",
                            leases.url()
                        )));
                    }
                    if pause == PAUSE[0] {
                        info!("waiting for {by}");
                    }
                    tokio::time::sleep(pause.min(left).min(holder.ttl)).await;
                    pause = (pause * 3 / 2).min(PAUSE[1]);
                }
            }
        }
    }

    /// Takes the next turn if the last one is over.
    pub async fn attempt(leases: &Store, holder: &Holder) -> Result<Turn> {
        Lease::attempt_after(leases, holder, &mut None).await
    }

    /// The same for one who comes again and again: `watched` is what he saw of the last turn, from when on.
    async fn attempt_after(leases: &Store, holder: &Holder, watched: &mut Option<(Object, u64)>) -> Result<Turn> {
        let last = newest(leases).await?;
        if let Some((number, object)) = &last {
            let Some(record) = read(leases, *number).await? else {
                return Ok(Turn::Held("another, who has just taken it".into()));
            };
            if !record.released {
                let age = now(leases).await? - object.modified;
                // a century, for a number that can only be damage
                let ttl = record.ttl_ms.min(100 * 365 * 86_400_000);
                let limit = chrono::Duration::milliseconds(ttl as i64) + granularity(object);
                // where the store's clock was set back, dates say nothing until it has caught up: then this process's own time counts
                let here = holder.clock.milliseconds();
                let since = match watched.take() {
                    Some((seen, since)) if seen == *object => since,
                    _ => here,
                };
                *watched = Some((object.clone(), since));
                let silent = chrono::Duration::milliseconds((here - since) as i64);
                if age <= limit && silent <= limit {
                    return Ok(Turn::Held(record.holder));
                }
                let silent = age.max(silent).num_seconds();
                warn!("taking over from {}, who has not been heard of for {silent} s", record.holder);
            }
        }
        let number = last.map_or(1, |(number, _)| number + 1);
        let record = Record {
            holder: holder.who.clone(),
            nonce: holder.nonce.clone(),
            ttl_ms: holder.ttl.as_millis() as u64,
            released: false,
        };
        let lease = Lease {
            leases: leases.clone(),
            number,
            valid_until: AtomicU64::new(holder.clock.milliseconds() + record.ttl_ms),
            record,
            clock: holder.clock.clone(),
            ending: AtomicBool::new(false),
            released: AtomicBool::new(false),
            writing: tokio::sync::Mutex::new(()),
        };
        let created = leases.put_new(&key(number), lease.text(false)).await;
        // read back after an error too: the store may have done it and lost the answer
        match read(leases, number).await? {
            Some(found) if found.nonce == holder.nonce => {}
            Some(found) => return Ok(Turn::Held(found.holder)),
            None => {
                created?;
                return Ok(Turn::Held("another, who has just taken it".into()));
            }
        }
        // so late that later turns have come and gone, and this number with them
        let all = numbers(leases).await?;
        if all.iter().any(|(_, other)| *other > number) {
            return Ok(Turn::Held("another, who came first".into()));
        }
        for (object, below) in all.into_iter().filter(|(_, other)| *other < number) {
            if let Err(error) = leases.delete(&object.key).await {
                warn!("the lease is taken, only turn {below} could not be removed: {error}");
            }
        }
        Ok(Turn::Taken(Arc::new(lease)))
    }

    /// Greater than that of every lease before it.
    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn nonce(&self) -> &str {
        &self.record.nonce
    }

    /// Asks whether the lease is still held.
    ///
    /// # Errors
    /// [`crate::error::Kind::Transient`] when it is not.
    pub async fn check(&self) -> Result<()> {
        let lost = |by: &str| {
            Error::transient(format!(
                "lost the lease of {} to {by} while working: nothing was published by this run; run it again",
                self.leases.url()
            ))
        };
        #[cfg(test)]
        if self.record.ttl_ms == 0 {
            // a simulation of leases that protect nothing
            return Ok(());
        }
        if self.clock.milliseconds() >= self.valid_until.load(Ordering::SeqCst) {
            return Err(lost("nobody yet: it was not renewed in time"));
        }
        match newest(&self.leases).await? {
            Some((number, _)) if number == self.number => Ok(()),
            Some((number, _)) => {
                let by = read(&self.leases, number).await?.map_or("another".into(), |record| record.holder);
                Err(lost(&by))
            }
            None => Err(lost("nobody: its folder was emptied")),
        }
    }

    /// Holds the lease for another full time.
    pub async fn renew(&self) -> Result<()> {
        let _alone = self.writing.lock().await;
        if self.ending.load(Ordering::SeqCst) {
            return Ok(());
        }
        let from = self.clock.milliseconds();
        self.check().await?;
        self.leases.put(&key(self.number), self.text(false)).await?;
        self.valid_until.store(from + self.record.ttl_ms, Ordering::SeqCst);
        Ok(())
    }

    /// Lets the next one in at once. A failure only makes him wait.
    pub async fn release(&self) {
        self.ending.store(true, Ordering::SeqCst);
        let _alone = self.writing.lock().await;
        if self.check().await.is_ok()
            && let Err(error) = self.leases.put(&key(self.number), self.text(true)).await
        {
            warn!("the lease could not be given back, others will wait for it: {error}");
        }
        self.released.store(true, Ordering::SeqCst);
    }

    /// The store's own time now.
    pub async fn now(&self) -> Result<DateTime<Utc>> {
        now(&self.leases).await
    }

    fn text(&self, released: bool) -> String {
        serde_json::to_string(&Record { released, ..self.record.clone() }).expect("a lease is JSON") + "\n"
    }

    fn renew_in_background(self: Arc<Self>) {
        let every = Duration::from_millis(self.record.ttl_ms / 3).max(Duration::from_millis(10));
        let lease = Arc::downgrade(&self);
        let renewal = async move {
            loop {
                tokio::time::sleep(every).await;
                let Some(lease) = lease.upgrade().filter(|lease| !lease.ending.load(Ordering::SeqCst)) else {
                    return;
                };
                if let Err(error) = lease.renew().await {
                    warn!("the lease could not be renewed: {error}");
                }
            }
        };
        tokio::spawn(renewal.in_current_span());
    }
}

/// For a job that is told to stop in the middle: the next one should not have to wait.
impl Drop for Lease {
    fn drop(&mut self) {
        if self.released.load(Ordering::SeqCst) || matches!(self.clock, Clock::Simulated(_)) {
            return;
        }
        let (leases, key, text, number) = (self.leases.clone(), key(self.number), self.text(true), self.number);
        let last = async move {
            if newest(&leases).await.is_ok_and(|newest| newest.is_some_and(|(newest, _)| newest == number)) {
                let _ = leases.put(&key, text).await;
            }
        };
        // a thread and a runtime of its own: this one may be shutting down
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(async { tokio::time::timeout(FAREWELL, last).await }))
        });
        let _ = thread.join();
    }
}

fn key(number: u64) -> String {
    format!("{number:08}.json")
}

async fn numbers(leases: &Store) -> Result<Vec<(Object, u64)>> {
    let (_, objects) = leases.list_level("").await?;
    let number = |object: &Object| object.key.strip_suffix(".json")?.parse().ok();
    Ok(objects.into_iter().filter_map(|object| number(&object).map(|n| (object, n))).collect())
}

async fn newest(leases: &Store) -> Result<Option<(u64, Object)>> {
    Ok(numbers(leases).await?.into_iter().map(|(object, number)| (number, object)).max_by_key(|(number, _)| *number))
}

async fn read(leases: &Store, number: u64) -> Result<Option<Record>> {
    let Some(bytes) = leases.get(&key(number)).await? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        let url = leases.url_of(&key(number));
        Error::config(format!("{url} is not a lease; remove it when no job is running")).caused_by(error)
    })
}

/// The store's time, from the date of an object that is written for it.
async fn now(leases: &Store) -> Result<DateTime<Utc>> {
    leases.put(CLOCK, "the date of this object is the store's time\n").await?;
    let object = leases.head(CLOCK).await?;
    object.map(|object| object.modified).ok_or_else(|| {
        Error::transient(format!("{} is not there just after it was written; try again", leases.url_of(CLOCK)))
    })
}

/// How coarse the store's dates are: S3 gives whole seconds.
fn granularity(object: &Object) -> chrono::Duration {
    chrono::Duration::milliseconds(if object.modified.timestamp_subsec_nanos() == 0 { 1000 } else { 0 })
}

/// Who runs this process: `user@host`.
pub fn user_and_host() -> String {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    let mut name = [0u8; 256];
    // SAFETY: the call writes at most `len` bytes into the buffer it is given; the last byte stays zero
    let failed = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) } != 0;
    let host = name.split(|byte| *byte == 0).next().filter(|name| !failed && !name.is_empty());
    let host = host.map_or("unknown".into(), |name| String::from_utf8_lossy(name).into_owned());
    // SAFETY: the call has no arguments and cannot fail
    format!("{}@{host}", user.unwrap_or_else(|| format!("uid-{}", unsafe { libc::getuid() })))
}

#[cfg(test)]
mod tests;
