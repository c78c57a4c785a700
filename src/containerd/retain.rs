//! What expires goes by itself: snapshots, and containers with their snapshots.

use super::Brancher;

impl Brancher {
    /// Removes what has expired as long as the daemon runs, each within a few seconds of its time: a snapshot's
    /// name, a container with its task. What is pinned stays, and so does what cannot be removed now; that is
    /// tried again.
    pub async fn expire(&self, address: &str) {
        todo!()
    }
}
