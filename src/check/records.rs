//! The database against containerd's records.
//!
//! A listing of containerd's asks its snapshotter for each record that it has, and leaves out those that the
//! snapshotter does not know. So what it asked for are its records, and what it was not answered are those without a
//! snapshot.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, Code};
use crate::error::Result;
use crate::store::Store;

/// What containerd knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// The keys that loom's snapshots had before containerd was asked.
    pub before: BTreeSet<String>,
    /// The keys of its records, `<namespace>/<sequence>/<client key>`.
    pub keys: BTreeSet<String>,
    /// Its containers that say that they are on loom.
    pub containers: Vec<Held>,
    /// Why it did not answer.
    pub silent: Option<String>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its namespace.
    pub namespace: String,
    /// What people call it.
    pub name: String,
    /// Its snapshot's key, as clients know it.
    pub key: String,
}

impl Records {
    /// Compares them with the rows.
    pub(super) fn compare(&self, store: &Store) -> Result<Vec<Case>> {
        if let Some(why) = &self.silent {
            let message = format!("its records were not compared: {why}");
            return Ok(vec![Case::told(Code::ContainerdSilent, "containerd", message)]);
        }
        // By the client's key too: a container names its snapshot by that.
        let mut now = BTreeSet::new();
        let mut clients: BTreeMap<(String, String), bool> = BTreeMap::new();
        for key in store.read(|rows| rows.snapshots())?.into_iter().filter_map(|row| row.key) {
            if let Some((namespace, client)) = crate::snapshot::key::parts(&key) {
                clients.insert((namespace.to_owned(), client.to_owned()), true);
            }
            now.insert(key);
        }
        let mut cases = Vec::new();
        for key in self.before.iter().filter(|key| now.contains(*key) && !self.keys.contains(*key)) {
            let message = "containerd has no record of it. Its collector removes what it does not know, behind the \
                           next removal of anything on loom; nothing is to be done";
            cases.push(Case::told(Code::RecordMissing, format!("snapshot {key}"), message));
        }
        let broken = |held: &Held| !clients.contains_key(&(held.namespace.clone(), held.key.clone()));
        for key in self.keys.iter().filter(|key| !now.contains(*key)) {
            let container = self
                .containers
                .iter()
                .find(|held| crate::snapshot::key::parts(key) == Some((&*held.namespace, &*held.key)));
            let message = format!(
                "containerd has a record of it, and loom has not the snapshot{}. A loom.db from a backup, or `loom check \
                 --rebuild`, may have it; else remove what uses it, and pull or make it anew",
                container
                    .map(|held| format!(
                        ", which is container {}'s in namespace {}",
                        held.name, held.namespace
                    ))
                    .unwrap_or_default()
            );
            cases.push(Case::told(Code::SnapshotMissing, format!("snapshot {key}"), message));
        }
        let recorded: BTreeSet<_> =
            self.keys.iter().filter_map(|key| crate::snapshot::key::parts(key)).collect();
        for held in self.containers.iter().filter(|held| broken(held)) {
            if recorded.contains(&(&*held.namespace, &*held.key)) {
                continue;
            }
            let what = format!("container {}/{}", held.namespace, held.name);
            let message = format!(
                "neither containerd nor loom knows its snapshot {:?}; remove the container, and make it anew",
                held.key
            );
            cases.push(Case::told(Code::ContainerBroken, what, message));
        }
        Ok(cases)
    }
}
