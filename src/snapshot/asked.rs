//! The keys that Stat is asked for while someone listens.
//!
//! containerd's List asks its snapshotter for each of its records, and leaves out what the snapshotter does not have:
//! what it was asked for meanwhile tells which records there are.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Snapshots, lock};

/// Who listens, and what they hear.
#[derive(Debug, Default)]
pub(super) struct Asked {
    listeners: usize,
    keys: BTreeSet<String>,
}

/// Someone who listens, until it is dropped.
#[derive(Debug)]
pub struct Listening(Arc<Snapshots>);

impl Snapshots {
    /// Has every key written down that Stat is asked for from now on.
    pub fn listen(self: &Arc<Self>) -> Listening {
        lock(&self.asked).listeners += 1;
        Listening(Arc::clone(self))
    }

    /// Writes down a key, where someone listens.
    pub(super) fn hear(&self, key: &str) {
        let mut asked = lock(&self.asked);
        if asked.listeners > 0 {
            asked.keys.insert(key.to_owned());
        }
    }
}

impl Listening {
    /// The keys that were asked for since someone began to listen.
    pub fn heard(&self) -> BTreeSet<String> {
        lock(&self.0.asked).keys.clone()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut asked = lock(&self.0.asked);
        asked.listeners -= 1;
        if asked.listeners == 0 {
            asked.keys.clear();
        }
    }
}
