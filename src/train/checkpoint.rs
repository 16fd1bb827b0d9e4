//! Checkpoints: what a training that was ended early goes on from, to the same bytes.
//!
//! `checkpoints/dt=D/<digest>/<attempt>/<epoch>-<step>/` holds one: towers, tables, optimizer state, and last the marker that
//! lists them. Without its marker a checkpoint is not there. An attempt is one process's; it removes what it wrote before and
//! no longer needs, and never what another wrote: two processes may train the same at the same time. The whole folder goes when
//! the training is done.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tracing::{info, warn};

use super::data::Data;
use super::diagnosis::of_write;
use super::mining::Mined;
use super::state::State;
use super::step::Trainer;
use super::trained::Trained;
use crate::artifacts::keys;
use crate::error::{Context, Error, Kind, Result};
use crate::job::Job;
use crate::model::Files;
use crate::storage::{FileEntry, seal, unseal};

/// Raised when the layout of a checkpoint changes; others are passed over.
const FORMAT: u32 = 1;
/// Newest ones that are kept: the last could be damaged.
const KEPT: usize = 2;
/// What to do when one cannot be used. Nothing has to be done.
const ADVICE: &str = "another is taken, or training starts anew";

/// Writes and finds the checkpoints of one training.
pub struct Checkpoints<'a> {
    job: &'a Job,
    data: &'a Data,
    /// Of all attempts with the same inputs.
    folder: &'a str,
    attempt: String,
    runtime: Handle,
    last: Instant,
    /// Markers of this attempt with all keys that each needs, oldest first.
    kept: Vec<(String, BTreeSet<String>)>,
    /// Files of this attempt that are in the store.
    files: BTreeSet<String>,
    /// The newest one, also of an earlier attempt: (marker, epoch, step).
    newest: Option<(String, u32, usize)>,
}

/// The marker of one checkpoint.
#[derive(Serialize, Deserialize)]
struct Marker {
    format: u32,
    /// The folder of all attempts, which carries the digest of the inputs.
    of: String,
    state: State,
    files: Vec<FileEntry>,
}

/// What a training goes on from.
pub struct Resumed {
    pub state: State,
    pub trained: Trained,
    /// Of the epoch at hand, in the middle of one that has any.
    pub mined: Option<Mined>,
}

impl<'a> Checkpoints<'a> {
    /// `folder` is that of all attempts; `attempt` differs between processes, and later ones sort last.
    pub fn new(job: &'a Job, data: &'a Data, folder: &'a str, attempt: &str, runtime: Handle) -> Self {
        Checkpoints {
            job,
            data,
            folder,
            attempt: attempt.to_string(),
            runtime,
            last: Instant::now(),
            kept: Vec::new(),
            files: BTreeSet::new(),
            newest: None,
        }
    }

    /// The digest of the inputs.
    pub fn digest(&self) -> &str {
        self.folder.rsplit('/').next().unwrap_or(self.folder)
    }

    /// Whether it is time for one.
    pub fn due(&self) -> bool {
        let minutes = self.job.config.training.checkpoint.minutes;
        minutes > 0.0 && self.last.elapsed() >= Duration::from_secs_f64(minutes * 60.0)
    }

    /// The newest checkpoint of these inputs that can be read, of any attempt.
    pub fn resume(&mut self, device: &Device) -> Result<Option<Resumed>> {
        let runtime = self.runtime.clone();
        runtime.block_on(async {
            for marker in self.markers().await? {
                match self.read(&marker, device).await {
                    Ok(resumed) => {
                        let State { epoch, step, .. } = resumed.state;
                        info!(epoch, step, marker, "goes on from a checkpoint");
                        self.newest = Some((marker, epoch, step));
                        return Ok(Some(resumed));
                    }
                    Err(error) if error.kind == Kind::Transient => return Err(error),
                    Err(error) => warn!(marker, "a checkpoint cannot be used and is passed over: {error}"),
                }
            }
            Ok(None)
        })
    }

    /// Markers in the store, the one that is furthest first.
    async fn markers(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for object in self.job.output.list(self.folder).await? {
            let below = object.key.strip_prefix(self.folder).unwrap_or_default().trim_start_matches('/').to_string();
            if let [attempt, place, keys::CHECKPOINT] = below.split('/').collect::<Vec<_>>()[..] {
                found.push((place.to_string(), attempt.to_string(), object.key));
            }
        }
        found.sort();
        Ok(found.into_iter().rev().map(|(.., key)| key).collect())
    }

    async fn read(&mut self, marker: &str, device: &Device) -> Result<Resumed> {
        let store = &self.job.output;
        let text = store.get_existing(marker).await?;
        let damaged = |why: String| Error::config(format!("{} is damaged: {why}; {ADVICE}", store.url_of(marker)));
        let found: Marker = unseal(&text).map_err(damaged)?;
        if found.format != FORMAT || found.of != self.folder {
            return Err(damaged(format!("found format {} of {}", found.format, found.of)));
        }
        let Marker { mut state, files, .. } = found;
        let folder = marker.trim_end_matches(keys::CHECKPOINT).trim_end_matches('/');
        let trained = Trained::read(store, folder, &files, &self.data.spec, &self.job.config.training, device).await?;
        let mined = match files.iter().find(|entry| entry.key == format!("{folder}/{}", keys::MINED)) {
            Some(entry) => {
                let positives = self.data.user_of.len();
                Some(Mined::read(store, entry, positives, &self.job.config.training).await?)
            }
            None => None,
        };
        // the other attempt may be alive, and remove what it no longer needs
        if let Some(best) = &mut state.best {
            let folder = format!("{}/{}/best-{:05}", self.folder, self.attempt, best.epoch);
            let mut copies = Files::new(store, &folder);
            for entry in &best.files {
                copies.copy(entry).await?;
            }
            best.files = copies.finish();
            self.files.extend(best.files.iter().map(|entry| entry.key.clone()));
        }
        Ok(Resumed { state, trained, mined })
    }

    /// Writes one, the marker last, and removes those that it replaces. The best epoch's weights are taken from it when they
    /// are not yet in the store: then they are those at hand.
    pub fn save(&mut self, state: &mut State, trainer: &Trainer, mined: &Mined) -> Result<()> {
        if self.newest.as_ref().is_some_and(|(_, epoch, step)| (*epoch, *step) == (state.epoch, state.step)) {
            return Ok(());
        }
        let started = Instant::now();
        let runtime = self.runtime.clone();
        let written = runtime.block_on(self.write(state, trainer, mined));
        let written = written.map_err(|error| of_write(error, &trainer.weights, &self.job.config));
        let marker = written.while_(|| {
            format!("writing a checkpoint of epoch {}, step {}; {}", state.epoch, state.step, self.kept())
        })?;
        info!(epoch = state.epoch, step = state.step, seconds = started.elapsed().as_secs_f64(), "wrote a checkpoint");
        self.newest = Some((marker, state.epoch, state.step));
        self.last = Instant::now();
        Ok(())
    }

    /// The same where training can do without: a store that fails is only told.
    pub fn try_save(&mut self, state: &mut State, trainer: &Trainer, mined: &Mined) -> Result<()> {
        match self.save(state, trainer, mined) {
            Err(error) if error.kind == Kind::Transient => {
                warn!("a checkpoint could not be written: {error}");
                // the next try is as far away as after a good one
                self.last = Instant::now();
                Ok(())
            }
            saved => saved,
        }
    }

    /// Where the newest one lies, in words.
    pub fn kept(&self) -> String {
        match &self.newest {
            Some((marker, epoch, step)) => format!(
                "the last checkpoint is good and is kept: {} (epoch {epoch}, step {step})",
                self.job.output.url_of(marker)
            ),
            None => "no checkpoint was written before".into(),
        }
    }

    async fn write(&mut self, state: &mut State, trainer: &Trainer<'_>, mined: &Mined) -> Result<String> {
        let store = &self.job.output;
        let folder = format!("{}/{}/{:05}-{:09}", self.folder, self.attempt, state.epoch, state.step);
        let mut files = Files::new(store, &folder);
        files.weights(&trainer.weights).await?;
        trainer.optimizers.write(&trainer.weights, &mut files).await?;
        // before the first step of an epoch they can be mined again
        if state.step > 0 {
            mined.write(&mut files).await?;
        }
        let files = files.finish();
        self.files.extend(files.iter().map(|entry| entry.key.clone()));
        if let Some(best) = &mut state.best
            && best.files.is_empty()
        {
            best.files.clone_from(&files);
        }
        let best = state.best.iter().flat_map(|best| &best.files);
        let needed = files.iter().chain(best).map(|entry| entry.key.clone()).collect();
        let marker = format!("{folder}/{}", keys::CHECKPOINT);
        let found = Marker { format: FORMAT, of: self.folder.to_string(), state: state.clone(), files };
        store.put(&marker, seal(&found)).await?;
        self.kept.push((marker.clone(), needed));
        self.prune().await;
        Ok(marker)
    }

    /// Removes this attempt's older ones, markers first.
    async fn prune(&mut self) {
        let old = self.kept.len().saturating_sub(KEPT);
        let markers: Vec<String> = self.kept.drain(..old).map(|(marker, _)| marker).collect();
        let needed = |key: &String| self.kept.iter().any(|(_, needed)| needed.contains(key));
        let (files, unneeded): (BTreeSet<String>, BTreeSet<String>) =
            std::mem::take(&mut self.files).into_iter().partition(needed);
        self.files = files;
        for key in markers.iter().chain(&unneeded) {
            if let Err(error) = self.job.output.delete(key).await {
                warn!("an old checkpoint is left behind: {error}");
            }
        }
    }

    /// The error that a training ends with when it is told to, after a last checkpoint.
    pub fn leave(&mut self, state: &mut State, trainer: &Trainer, mined: &Mined) -> Error {
        // said here: the process may end before anyone looks at the error
        match self.save(state, trainer, mined) {
            Ok(()) => info!("told to stop: a checkpoint is written, run it again to go on from there"),
            Err(error) => warn!("told to stop, and no checkpoint could be written: {error}"),
        }
        Error::new(Kind::Terminated, "told to stop; run it again to go on")
    }
}

/// Removes the checkpoints of a training that is done.
pub async fn remove(job: &Job, folder: &str) {
    let removed = async {
        let mut objects = job.output.list(folder).await?;
        // markers first: what is half gone must not be taken for a checkpoint
        objects.sort_by_key(|object| !object.key.ends_with(keys::CHECKPOINT));
        for object in objects {
            job.output.delete(&object.key).await?;
        }
        Ok::<_, Error>(())
    };
    if let Err(error) = removed.await {
        warn!("checkpoints of a training that is done are left behind: {error}");
    }
}
