//! What requests under way hold in memory: keys that they are about to take, layers that they read, snapshots
//! that they may come back to.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::chores::Chore;
use super::remove::Ended;
use super::{Snapshots, lock};
use crate::error::{Error, Result};
use crate::store::{Home, Id, Layer, LayerId, Snapshot};

/// The longest that a request waits for one that seals its layer as it lies, which is done in a moment unless
/// something else has to stand still with it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest that a layer is waited for that is read, before it is copied instead.
const READ_OUT: Duration = Duration::from_secs(1);

/// Who reads a layer, and whether its end waits for them.
#[derive(Debug, Default)]
pub(super) struct Readers {
    count: usize,
    ended: Option<Ended>,
}

/// A key or name that no other request can take meanwhile.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    core: &'a Snapshots,
    what: String,
}

/// A layer whose directory stays while this lives.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    core: &'a Snapshots,
    layer: LayerId,
}

/// The layers that a snapshot stands on, whose directories stay while this lives.
#[derive(Debug)]
pub struct Chain<'a> {
    layers: Vec<Layer>,
    _reading: Vec<Reading<'a>>,
}

impl Chain<'_> {
    /// They, topmost first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }
}

/// How many requests may come back to a snapshot.
pub(super) type Needs = Arc<Mutex<HashMap<Id, usize>>>;

/// A snapshot that loom goes on keeping while this lives: no expiry, prune or removal ends that.
#[derive(Debug)]
pub struct Needed {
    needs: Needs,
    id: Id,
}

/// Refuses to end a snapshot that a request may come back to. Asked in the transaction that would end it.
pub(super) fn unneeded(needs: &Needs, row: &Snapshot) -> Result<()> {
    if lock(needs).contains_key(&row.id) {
        return Err(Error::Busy(format!("snapshot {:?}", row.title())));
    }
    Ok(())
}

impl Snapshots {
    /// Has loom keep a snapshot for a request that may come back to it, from before it has that until the answer
    /// is dropped.
    pub fn need(&self, id: Id) -> Needed {
        *lock(&self.needs).entry(id).or_default() += 1;
        Needed { needs: Arc::clone(&self.needs), id }
    }

    /// Takes a key for a request that will store it; `KeyExists` where another is about to.
    pub(super) fn take_key(&self, key: &str) -> Result<Taken<'_>> {
        self.take(format!("key {key}")).ok_or_else(|| Error::KeyExists(key.to_owned()))
    }

    /// Takes a name for a request that will store it; `NameExists` where another is about to.
    pub(super) fn take_name(&self, name: &str) -> Result<Taken<'_>> {
        self.take(format!("name {name}")).ok_or_else(|| Error::NameExists(name.to_owned()))
    }

    /// Takes the right to seal an active snapshot's layer, which only one request can have.
    pub(super) fn take_seal(&self, key: &str) -> Result<Taken<'_>> {
        let busy = || Error::Busy(format!("snapshot {key:?}"));
        let taking = self.wait_while(PATIENCE, |taking| taking.contains(&still(key))).ok_or_else(busy)?;
        self.take_of(taking, seal(key)).ok_or_else(busy)
    }

    /// Takes an active snapshot for a request that seals its layer as it lies: whoever wants its mounts, or to end,
    /// seal or replace it, waits for that. None where another request does one of these.
    pub(super) fn take_still(&self, key: &str) -> Option<Taken<'_>> {
        let taking = self.wait_while(PATIENCE, |taking| taking.contains(&still(key)))?;
        let free = !taking.contains(&seal(key)) && !taking.contains(&swap(key));
        free.then(|| self.take_of(taking, still(key))).flatten()
    }

    /// Takes a layer whose directory is about to have another name: whoever wants to read it waits for that. None
    /// where it is read for long.
    pub(super) fn take_moving(&self, layer: LayerId) -> Option<Taken<'_>> {
        // Marked first: who comes behind sees that, and who came before is seen.
        let moving = self.take(moving(layer))?;
        let read = |_: &HashSet<String>| lock(&self.reading).contains_key(&layer);
        let read_out = self.wait_while(READ_OUT, read).is_some();
        read_out.then_some(moving)
    }

    /// Takes a snapshot's key for a request that gives it other content; nobody gets its mounts meanwhile.
    pub(super) fn take_swap(&self, key: &str) -> Result<Taken<'_>> {
        self.take(swap(key)).ok_or_else(|| Error::Busy(format!("snapshot {key:?}")))
    }

    /// Refuses where the key's content is about to be another. False where its layer was, and no longer is, about
    /// to be sealed as it lies: what was read of it before may be old.
    pub(super) fn settled(&self, key: &str) -> Result<bool> {
        let began_so = !lock(&self.taking).contains(&still(key));
        let taking = self.wait_while(PATIENCE, |taking| taking.contains(&still(key)));
        match taking {
            Some(taking) if !taking.contains(&swap(key)) => Ok(began_so),
            _ => Err(Error::Busy(format!("snapshot {key:?}"))),
        }
    }

    fn take(&self, what: String) -> Option<Taken<'_>> {
        self.take_of(lock(&self.taking), what)
    }

    fn take_of(&self, mut taking: MutexGuard<'_, HashSet<String>>, what: String) -> Option<Taken<'_>> {
        // Made only where it is taken: the end of one gives it back.
        let taken = taking.insert(what.clone());
        taken.then(|| Taken { core: self, what })
    }

    /// What is taken, once that is so no more; None where it stays so.
    fn wait_while(
        &self,
        patience: Duration,
        so: impl Fn(&HashSet<String>) -> bool,
    ) -> Option<MutexGuard<'_, HashSet<String>>> {
        let until = Instant::now() + patience;
        let mut taking = lock(&self.taking);
        while so(&taking) {
            let left = until.checked_duration_since(Instant::now())?;
            let woken = self.given_back.wait_timeout(taking, left);
            taking = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(taking)
    }

    /// Keeps a layer's directory where it is. None where the layer is gone already.
    pub(super) fn read_layer(&self, layer: LayerId) -> Result<Option<(Reading<'_>, Layer)>> {
        let reading = loop {
            lock(&self.reading).entry(layer).or_default().count += 1;
            let reading = Reading { core: self, layer };
            if !lock(&self.taking).contains(&moving(layer)) {
                break reading;
            }
            drop(reading);
            if self.wait_while(PATIENCE, |taking| taking.contains(&moving(layer))).is_none() {
                return Err(Error::Busy(format!("layer {layer}")));
            }
        };
        // Looked up behind the mark: whoever ends the layer from here on sees it.
        let row = self.store.read(|rows| rows.layer(layer))?;
        Ok(row.filter(|row| row.stage != crate::store::Stage::Doomed).map(|row| (reading, row)))
    }

    /// Keeps the top layer of a snapshot where it is. None where its bytes are gone.
    pub(super) fn read_top(&self, id: Id) -> Result<Option<(Reading<'_>, Layer)>> {
        loop {
            let row = self.store.read(|rows| rows.snapshot(id))?;
            let Some(layer) = row.and_then(|row| row.layer) else { return Ok(None) };
            // Between the look and the mark the snapshot may have come to stand on another.
            if let Some(read) = self.read_layer(layer)? {
                return Ok(Some(read));
            }
        }
    }

    /// Keeps all that a snapshot stands on where it is. None where its bytes are gone.
    pub fn read_chain(&self, id: Id) -> Result<Option<Chain<'_>>> {
        loop {
            let layers = self.get(id)?.chain;
            if layers.is_empty() {
                return Ok(None);
            }
            // Between the look and the marks the snapshot may have come to stand on others.
            if let Some(chain) = self.read_layers(&layers)? {
                return Ok(Some(chain));
            }
        }
    }

    /// Keeps these layers where they are. None where one of them is gone already.
    pub(super) fn read_layers(&self, layers: &[Layer]) -> Result<Option<Chain<'_>>> {
        let reading = layers.iter().map(|layer| self.read_layer(layer.id)).collect::<Result<Vec<_>>>()?;
        let reading = reading.into_iter().collect::<Option<Vec<_>>>();
        Ok(reading.map(|reading| {
            let (reading, layers) = reading.into_iter().unzip();
            Chain { layers, _reading: reading }
        }))
    }

    /// Moves a layer that has ended to the trash, at once or when its last reader is done.
    pub(super) fn discard(&self, ended: Ended) {
        if let Some(readers) = lock(&self.reading).get_mut(&ended.layer) {
            readers.ended = Some(ended);
            return;
        }
        if ended.row && ended.home == Home::Pool {
            // It is read-only, and to have it moved takes a commit of the pool: the row alone is enough for an answer.
            return self.leave(Chore::Discard(ended));
        }
        if let Err(error) = self.layers.discard(ended.home, ended.layer) {
            tracing::warn!(layer = %ended.layer, %error, "a removed layer is not in the trash yet");
            return self.leave(Chore::Discard(ended));
        }
        self.leave(Chore::Forget(ended));
    }
}

fn swap(key: &str) -> String {
    format!("swap {key}")
}

fn seal(key: &str) -> String {
    format!("seal {key}")
}

fn still(key: &str) -> String {
    format!("still {key}")
}

fn moving(layer: LayerId) -> String {
    format!("moving {layer}")
}

impl Drop for Needed {
    fn drop(&mut self) {
        let mut needs = lock(&self.needs);
        if let Some(count) = needs.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                needs.remove(&self.id);
            }
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        lock(&self.core.taking).remove(&self.what);
        self.core.given_back.notify_all();
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut reading = lock(&self.core.reading);
        let Some(readers) = reading.get_mut(&self.layer) else { return };
        readers.count -= 1;
        if readers.count > 0 {
            return;
        }
        let ended = reading.remove(&self.layer).and_then(|readers| readers.ended);
        drop(reading);
        // Whoever looked before this is waiting by now.
        drop(lock(&self.core.taking));
        self.core.given_back.notify_all();
        if let Some(ended) = ended {
            self.core.discard(ended);
        }
    }
}
