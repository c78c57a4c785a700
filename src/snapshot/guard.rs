//! What requests under way hold in memory: keys that they are about to take, layers that they read, snapshots
//! that they may come back to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::chores::Chore;
use super::remove::Ended;
use super::{Snapshots, lock};
use crate::error::{Error, Result};
use crate::store::{Id, Layer, LayerId, Snapshot};

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
        self.take(format!("seal {key}")).ok_or_else(|| Error::Busy(format!("snapshot {key:?}")))
    }

    /// Takes a snapshot's key for a request that gives it other content; nobody gets its mounts meanwhile.
    pub(super) fn take_swap(&self, key: &str) -> Result<Taken<'_>> {
        self.take(swap(key)).ok_or_else(|| Error::Busy(format!("snapshot {key:?}")))
    }

    /// Refuses where the key's content is about to be another.
    pub(super) fn settled(&self, key: &str) -> Result<()> {
        if lock(&self.taking).contains(&swap(key)) {
            return Err(Error::Busy(format!("snapshot {key:?}")));
        }
        Ok(())
    }

    fn take(&self, what: String) -> Option<Taken<'_>> {
        // Made only where it is taken: the end of one gives it back.
        let taken = lock(&self.taking).insert(what.clone());
        taken.then(|| Taken { core: self, what })
    }

    /// Keeps a layer's directory where it is. None where the layer is gone already.
    pub(super) fn read_layer(&self, layer: LayerId) -> Result<Option<(Reading<'_>, Layer)>> {
        lock(&self.reading).entry(layer).or_default().count += 1;
        let reading = Reading { core: self, layer };
        // Looked up behind the mark: whoever ends the layer from here on sees it.
        let row = self.store.read(|rows| rows.layer(layer))?;
        Ok(row.filter(|row| row.stage != crate::store::Stage::Doomed).map(|row| (reading, row)))
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
        if let Some(ended) = ended {
            self.core.discard(ended);
        }
    }
}
