//! What layers take on disk: who measures it, and where it is kept. containerd's Usage asks for it, every ten seconds
//! for each container where Kubernetes does, and must not walk through a tree each time.
//!
//! | layer | its figure | kept in | measured |
//! |---|---|---|---|
//! | sealed | what it holds | its row | once: by the thread here behind the answer to containerd's Commit, or by who asks before that |
//! | writable, and its filesystem counts ([`crate::layer::Layers::written`]) | what was written to it | nothing | never: it is looked up; its inodes as below, where they are not counted |
//! | writable | what it holds | memory | by who asks first; then by the thread here, once it is [`FRESH`] no more and somebody asks |
//! | any, with what of it is shared | `size` has that | memory, [`size`](super::size)'s | for people who ask, two seconds long at most |
//!
//! A figure is never older than [`STALE`]: whoever asks seldom waits for a new one. The thread works at the lowest
//! priority, and for a layer at most a twentieth of the time.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::{Snapshots, lock};
use crate::error::{Error, Result};
use crate::store::{Id, Layer, LayerId, Rows, Snapshot, Stage, Usage};

/// How long what a writable layer takes is told without looking again.
pub(super) const FRESH: Duration = Duration::from_secs(10);
/// How long it is told at all.
pub(super) const STALE: Duration = Duration::from_mins(1);
/// How many times as long as a measurement took nothing is measured again.
const REST: u32 = 20;
/// How long the thread lets more layers come before it begins: their rows are written together.
const GATHER: Duration = Duration::from_secs(1);
/// How often it looks after the limits of layers that are gone.
const TIDY: Duration = Duration::from_mins(5);
/// The priority of the thread: the lowest.
const NICE: i32 = 19;

/// What writable layers took when they were last measured.
pub(super) type Known = HashMap<LayerId, Measurement>;

#[derive(Debug, Clone, Copy)]
pub(super) struct Measurement {
    usage: Usage,
    at: Instant,
    took: Duration,
    /// The thread has it to do.
    asked: bool,
}

impl Measurement {
    fn is_older(&self, than: Duration) -> bool {
        self.at.elapsed() > than.max(self.took * REST)
    }

    /// As if it had been taken so much earlier.
    #[cfg(test)]
    pub(super) fn age(&mut self, by: Duration) {
        self.at = self.at.checked_sub(by).unwrap_or(self.at);
    }
}

impl Snapshots {
    /// containerd's Usage: the layers down to, not including, the parent's. Of one that was flattened over the parent's
    /// it is what was written last.
    pub fn usage(&self, key: &str) -> Result<Usage> {
        let (own, over) = self.store.read(|rows| {
            let row = rows.by_key(key)?.ok_or_else(|| Error::SnapshotNotFound(key.to_owned()))?;
            let parent = row.parent.map(|parent| rows.snapshot(parent)).transpose()?.flatten();
            let below = parent.map(|parent| chain(rows, &parent)).transpose()?.unwrap_or_default();
            Ok(apart(chain(rows, &row)?, &below))
        })?;
        own.iter().try_fold(Usage::default(), |sum, layer| {
            let last = layer.own.filter(|_| over);
            Ok(sum + last.map_or_else(|| self.usage_of(layer), Ok)?)
        })
    }

    /// The usage of all layers that a snapshot stands on.
    pub fn whole_usage(&self, id: Id) -> Result<Usage> {
        let chain = self.get(id)?.chain;
        chain.iter().try_fold(Usage::default(), |sum, layer| Ok(sum + self.usage_of(layer)?))
    }

    /// A layer's own usage.
    pub(super) fn usage_of(&self, layer: &Layer) -> Result<Usage> {
        if let Some(usage) = layer.usage {
            return Ok(usage);
        }
        let Some((_reading, layer)) = self.read_layer(layer.id)? else { return Ok(Usage::default()) };
        let counted = if layer.stage == Stage::Writable { self.layers.written(&layer)? } else { None };
        match counted {
            Some((size, Some(inodes))) => Ok(Usage { size, inodes }),
            Some((size, None)) => Ok(Usage { size, ..self.held(&layer)? }),
            None => self.held(&layer),
        }
    }

    /// What a layer holds, as it is remembered, or else measured now.
    fn held(&self, layer: &Layer) -> Result<Usage> {
        if let Some(known) = lock(&self.known).get_mut(&layer.id).filter(|known| !known.is_older(STALE)) {
            if known.is_older(FRESH) && !known.asked {
                known.asked = true;
                self.measure_later(layer.id);
            }
            return Ok(known.usage);
        }
        let began = Instant::now();
        let usage = self.layers.measure(layer)?;
        if layer.stage == Stage::Sealed {
            self.write_usages(vec![(layer.id, usage)])?;
        } else {
            self.remember(layer.id, usage, began.elapsed());
        }
        Ok(usage)
    }

    /// Remembers what a writable layer takes, which was measured just now.
    pub(super) fn remember(&self, layer: LayerId, usage: Usage, took: Duration) {
        lock(&self.known).insert(layer, Measurement { usage, at: Instant::now(), took, asked: false });
    }

    /// Leaves a layer to the thread that measures.
    pub(super) fn measure_later(&self, layer: LayerId) {
        // Fails only while the core itself goes.
        let _ = self.measures.send(layer);
    }

    /// Writes down what sealed layers take.
    pub(super) fn write_usages(&self, found: Vec<(LayerId, Usage)>) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        self.store.write(move |rows| {
            for (id, usage) in &found {
                if let Some(layer) = rows.layer(*id)? {
                    rows.update_layer(&Layer { usage: Some(*usage), ..layer })?;
                }
            }
            Ok(())
        })
    }

    /// Starts the thread that measures; it ends with the core.
    pub(super) fn do_measures(core: &Arc<Self>, measures: Receiver<LayerId>) -> Result<()> {
        let weak = Arc::downgrade(core);
        let spawned = std::thread::Builder::new().name("usage".to_owned()).spawn(move || {
            if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                tracing::debug!(%error, "layers are measured at the priority of requests");
            }
            until_dropped(&weak, &measures);
        });
        spawned.map(drop).map_err(Error::io("start a thread for", core.layers.root()))
    }

    /// Measures these layers.
    fn measure_all(&self, layers: HashSet<LayerId>) {
        let mut found = Vec::new();
        for id in layers {
            match self.measure_one(id) {
                Ok(Some(usage)) => found.push((id, usage)),
                Ok(None) => {}
                Err(error) => {
                    lock(&self.known).remove(&id);
                    tracing::warn!(layer = %id, %error, "a layer is measured when somebody asks for it");
                }
            }
        }
        if let Err(error) = self.write_usages(found) {
            tracing::warn!(%error, "layers that were measured will be measured again");
        }
        lock(&self.known).retain(|_, known| !known.is_older(STALE));
    }

    /// Measures a layer; answers what the row of a sealed one is to have.
    fn measure_one(&self, id: LayerId) -> Result<Option<Usage>> {
        let Some((_reading, layer)) = self.read_layer(id)? else {
            lock(&self.known).remove(&id);
            return Ok(None);
        };
        if layer.stage != Stage::Sealed {
            let began = Instant::now();
            let usage = self.layers.measure(&layer)?;
            self.remember(id, usage, began.elapsed());
            return Ok(None);
        }
        match layer.usage {
            Some(_) => Ok(None),
            None => self.layers.measure(&layer).map(Some),
        }
    }
}

fn chain(rows: &Rows<'_>, row: &Snapshot) -> Result<Vec<Layer>> {
    row.layer.map_or_else(|| Ok(Vec::new()), |layer| rows.chain(layer))
}

/// The layers of a chain that the one below it does not have, and whether that has others.
fn apart(chain: Vec<Layer>, below: &[Layer]) -> (Vec<Layer>, bool) {
    let ids: HashSet<_> = below.iter().map(|layer| layer.id).collect();
    let all = chain.len();
    let own: Vec<_> = chain.into_iter().filter(|layer| !ids.contains(&layer.id)).collect();
    let others = all - own.len() < below.len();
    (own, others)
}

fn until_dropped(core: &Weak<Snapshots>, measures: &Receiver<LayerId>) {
    loop {
        match measures.recv_timeout(TIDY) {
            Ok(first) => {
                std::thread::sleep(GATHER);
                let Some(core) = core.upgrade() else { return };
                core.measure_all(std::iter::once(first).chain(measures.try_iter()).collect());
            }
            Err(RecvTimeoutError::Timeout) => {
                let Some(core) = core.upgrade() else { return };
                if let Err(error) = core.layers.forget_limits() {
                    tracing::warn!(%error, "what was kept of layers that are gone stays for now");
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
