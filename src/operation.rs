//! Operations: work that is tracked from its acceptance to its end, over restarts.
//!
//! ```text
//!              ┌────────────► cancelled ◄──┐
//!  accepted ───┴──► running ──────────────►├ failed
//!     │                │                   └─► succeeded: its result is kept
//!     └── a crash ─────┴──► left: the room that does the work finishes or undoes it (`Operations::left`)
//! ```
//!
//! An operation is on disk before its work begins, with its request and its idempotency key; what a restart
//! needs to finish or undo it (its plan) is on disk before anything is made; its result is on disk before it
//! is told. What it is doing (step, progress, warnings) is told to watchers at once and written with the
//! rest. A key stands for its request while that is under way or has succeeded: made again, the request
//! waits for the first one's end and answers what it answered; another request with it is a conflict.
//!
//! This room knows no work: requests, plans and results are JSON of the rooms above.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;

use crate::error::{Error, Result};
use crate::store::{Failure, Id, Operation, OperationKind, Store};

mod work;

pub use work::Work;

/// A request for work, as it is tracked.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The id that the client chose, so that it can watch and cancel; none for one of ours.
    pub id: Option<Id>,
    /// What is done.
    pub kind: OperationKind,
    /// To what: the reference as the client gave it.
    pub subject: String,
    /// containerd's socket.
    pub address: String,
    /// containerd's namespace.
    pub namespace: String,
    /// The idempotency key.
    pub key: Option<String>,
    /// The request, but for the id and the key, as JSON.
    pub request: serde_json::Value,
}

/// What became of an operation that a crash cut off.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It was finished; its result, as JSON.
    Finished(String),
    /// What it had made was undone.
    Undone,
}

/// All operations.
#[derive(Debug)]
pub struct Operations {
    store: Arc<Store>,
    /// Those under way, by id.
    live: Mutex<HashMap<Id, Arc<work::Live>>>,
    /// Those that an earlier daemon left, and that are not settled yet.
    left: Mutex<Vec<Operation>>,
    changes: broadcast::Sender<Operation>,
}

impl Operations {
    /// Over this store; finds what an earlier daemon left, and forgets what is old.
    pub fn open(store: Arc<Store>) -> Result<Arc<Self>> {
        todo!()
    }

    /// Accepts a request, does its work and keeps its result; or answers that of an earlier request with the
    /// same key, and that one's id. It is called in a task that runs to its end.
    ///
    /// An error of the work is the operation's; where the operation was cancelled, the work's error is
    /// `Cancelled` and its state too. The work undoes what it made before it answers an error.
    pub async fn run<T, F>(self: &Arc<Self>, ask: Ask, work: impl FnOnce(Work) -> F) -> Result<(Id, T)>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T>>,
    {
        todo!()
    }

    /// One by its id or a unique prefix of four digits or more; as it is now.
    pub fn get(&self, reference: &str) -> Result<Operation> {
        todo!()
    }

    /// The newest, at most `limit`, newest first; as they are now.
    pub fn list(&self, limit: usize) -> Result<Vec<Operation>> {
        todo!()
    }

    /// Asks one to stop at its next step and undo what it made. One that has ended, or that has come too far,
    /// is a failed precondition.
    pub fn cancel(&self, reference: &str) -> Result<Operation> {
        todo!()
    }

    /// Every change of every operation from now on. A receiver that lags may miss some: it looks again.
    pub fn changes(&self) -> broadcast::Receiver<Operation> {
        self.changes.subscribe()
    }

    /// Those that an earlier daemon left at this containerd, oldest first.
    pub fn left(&self, address: &str, namespace: &str) -> Vec<Operation> {
        todo!()
    }

    /// Every containerd and namespace at which an earlier daemon left some.
    pub fn left_at(&self) -> Vec<(String, String)> {
        todo!()
    }

    /// Ends one that an earlier daemon left. Undone, it has failed, and says that it was cut off.
    pub async fn settle(&self, id: Id, outcome: Outcome) -> Result<()> {
        todo!()
    }
}
