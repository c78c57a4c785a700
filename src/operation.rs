//! Operations: work that is tracked from its acceptance to its end, over restarts.
//!
//! ```text
//!  accepted ──► running ──┬─► succeeded   its result is kept
//!     │            │      ├─► failed      its error is kept, and nothing else of it
//!     │            │      └─► cancelled   likewise: its client called it off
//!     └─ a crash ──┴──► left: the room that does the work finishes or undoes it, and settles it
//!                       (also where it failed, and what it made cannot be undone yet)
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
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::error::{Error, Kind, Result};
use crate::fault;
use crate::store::{Failure, Id, Operation, OperationKind, OperationState, Rows, Store, Time};

#[cfg(test)]
mod tests;
mod work;

pub use work::Work;
use work::{Live, Tracked, ended_by};

/// How long one that has ended is kept, and how many at most.
const KEPT: (Duration, usize) = (Duration::from_hours(30 * 24), 10_000);
/// How many are accepted between two looks for old ones.
const TIDY: u32 = if cfg!(test) { 8 } else { 256 };
/// Changes that a watcher may be behind before it has to look again.
const BEHIND: usize = 1024;
/// How long a repeated request waits for one that a crash left: containerd may be starting too.
const SETTLED: Duration = Duration::from_mins(1);

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was finished; its result, as JSON.
    Finished(String),
    /// What it had made was undone.
    Undone,
}

/// What a request finds when it asks to be accepted.
enum Accepted {
    /// It is a new one.
    New(Box<Operation>),
    /// An earlier one with the same key has succeeded: its id and result.
    Repeated(Id, String),
    /// An earlier one with the same key has not ended.
    UnderWay(Id),
}

/// All operations.
#[derive(Debug)]
pub struct Operations {
    store: Arc<Store>,
    /// Those under way, by id.
    live: Mutex<HashMap<Id, Arc<Live>>>,
    /// Those that an earlier daemon, or a failure that could not be undone, left unfinished.
    left: Mutex<Vec<Operation>>,
    /// Counted so that old ones are forgotten now and then.
    accepted: AtomicU32,
    changes: broadcast::Sender<Operation>,
    /// How many have ended; whoever waits for an end looks again with each.
    ended: watch::Sender<u64>,
}

impl Operations {
    /// Over this store; finds what an earlier daemon left, and forgets what is old.
    pub fn open(store: Arc<Store>) -> Result<Arc<Self>> {
        store.write(forget_old)?;
        let left = store.read(|rows| rows.unfinished_operations())?;
        Ok(Arc::new(Self {
            store,
            live: Mutex::default(),
            left: Mutex::new(left),
            accepted: AtomicU32::new(1),
            changes: broadcast::Sender::new(BEHIND),
            ended: watch::Sender::default(),
        }))
    }

    /// Accepts a request, does its work and keeps its result; or answers that of an earlier request with the
    /// same key, and that one's id. It is called in a task that runs to its end.
    ///
    /// The work undoes what it made before it answers an error. That is kept as the operation's; where it is
    /// `Cancelled`, the operation is cancelled. A result that the work did not already keep by
    /// [`Work::decided`] is kept behind it.
    pub async fn run<T, F>(self: &Arc<Self>, ask: Ask, work: impl FnOnce(Work) -> F) -> Result<(Id, T)>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T>>,
    {
        let mut patience = None;
        let operation = loop {
            let mut ended = self.ended.subscribe();
            match self.accept(&ask).await? {
                Accepted::New(operation) => break operation,
                Accepted::Repeated(id, result) => {
                    let kept = serde_json::from_str(&result);
                    let kept = kept.map_err(|e| Error::Internal(format!("result of operation {id}: {e}")))?;
                    return Ok((id, kept));
                }
                Accepted::UnderWay(id) if !self.is_left(id) => {
                    // Fails only once nobody can end any more.
                    let _ = ended.changed().await;
                }
                Accepted::UnderWay(id) => {
                    // Others end meanwhile: it does not begin anew with each.
                    let patience = *patience.get_or_insert_with(|| Instant::now() + SETTLED);
                    if tokio::time::timeout_at(patience, ended.changed()).await.is_err() {
                        return Err(Error::precondition(
                            format!("operation {id}"),
                            "it was cut off, and it can be neither finished nor undone while containerd does \
                             not answer; start containerd and try again",
                        ));
                    }
                }
            }
        };
        let id = operation.id;
        let tracked = Tracked::begin(self, *operation);
        let done = work(tracked.work()).await;
        let done = match done {
            Ok(result) => tracked.succeeded(&result).await.map(|()| result),
            Err(error) => {
                tracked.failed(&error).await;
                Err(error)
            }
        };
        done.map(|result| (id, result))
    }

    async fn accept(&self, ask: &Ask) -> Result<Accepted> {
        let operation = Operation {
            id: ask.id.map_or_else(Id::random, Ok)?,
            kind: ask.kind,
            subject: ask.subject.clone(),
            address: ask.address.clone(),
            namespace: ask.namespace.clone(),
            state: OperationState::Accepted,
            done: 0,
            total: 0,
            steps: Vec::new(),
            warnings: Vec::new(),
            error: None,
            key: ask.key.clone(),
            request: ask.request.to_string(),
            plan: None,
            result: None,
            created: Time::now(),
            ended: None,
        };
        let tidy = self.accepted.fetch_add(1, Ordering::Relaxed).is_multiple_of(TIDY);
        fault::point("operation.accept")?;
        self.write(move |rows| {
            let same_key =
                operation.key.as_deref().map(|key| rows.operation_by_key(key)).transpose()?.flatten();
            if let Some(earlier) = same_key {
                let same = (earlier.kind, &earlier.request) == (operation.kind, &operation.request);
                return match (same, earlier.result) {
                    (false, _) => Err(Error::KeyConflict {
                        key: operation.key.unwrap_or_default(),
                        operation: earlier.id,
                    }),
                    (true, Some(result)) => Ok(Accepted::Repeated(earlier.id, result)),
                    (true, None) => Ok(Accepted::UnderWay(earlier.id)),
                };
            }
            if rows.operation(operation.id)?.is_some() {
                return Err(Error::invalid(
                    format!("operation id {}", operation.id),
                    "an operation has it already; choose another at random",
                ));
            }
            rows.put_operation(&operation)?;
            if tidy {
                forget_old(rows)?;
            }
            Ok(Accepted::New(Box::new(operation)))
        })
        .await
    }

    /// One by its id or a unique prefix of four digits or more; as it is now.
    pub fn get(&self, reference: &str) -> Result<Operation> {
        let not_found = || Error::OperationNotFound(reference.to_owned());
        if !Id::may_begin(reference) {
            return Err(not_found());
        }
        let mut found = self.store.read(|rows| rows.operations_by_prefix(reference))?;
        let last = found.pop().ok_or_else(not_found)?;
        if !found.is_empty() {
            let matches = found.iter().chain([&last]).map(|one| format!("{} ({})", one.id, one.kind));
            return Err(Error::Ambiguous { what: reference.to_owned(), matches: matches.collect() });
        }
        Ok(self.now(last))
    }

    /// The newest, at most `limit`, newest first; as they are now.
    pub fn list(&self, limit: usize) -> Result<Vec<Operation>> {
        let kept = self.store.read(|rows| rows.operations(limit))?;
        Ok(kept.into_iter().map(|operation| self.now(operation)).collect())
    }

    /// What is told of one that is under way is newer than its row.
    fn now(&self, operation: Operation) -> Operation {
        lock(&self.live).get(&operation.id).map_or(operation, |live| live.operation())
    }

    /// Asks one to stop at its next step and undo what it made. One that has ended, or that has come too far,
    /// is a failed precondition.
    pub fn cancel(&self, reference: &str) -> Result<Operation> {
        let operation = self.get(reference)?;
        let refused = |why: String| Err(Error::precondition(format!("operation {}", operation.id), why));
        if operation.state.ended() {
            return refused(format!("it has {} already", operation.state));
        }
        let Some(live) = lock(&self.live).get(&operation.id).cloned() else {
            return refused("it was cut off, and it is being finished or undone".to_owned());
        };
        if live.cancel() {
            Ok(live.operation())
        } else {
            refused("it has come too far; it ends soon".to_owned())
        }
    }

    /// True for one that was cancelled and has not ended yet.
    pub fn called_off(&self, id: Id) -> bool {
        lock(&self.live).get(&id).is_some_and(|live| live.called_off())
    }

    /// Every change of every operation from now on. A receiver that lags may miss some: it looks again.
    pub fn changes(&self) -> broadcast::Receiver<Operation> {
        self.changes.subscribe()
    }

    /// Those that were left at this containerd, oldest first.
    pub fn left(&self, address: &str, namespace: &str) -> Vec<Operation> {
        let left = lock(&self.left);
        let here = |left: &&Operation| left.address == address && left.namespace == namespace;
        left.iter().filter(here).cloned().collect()
    }

    /// Every containerd and namespace at which some were left.
    pub fn left_at(&self) -> Vec<(String, String)> {
        let left = lock(&self.left);
        let mut places: Vec<_> =
            left.iter().map(|left| (left.address.clone(), left.namespace.clone())).collect();
        places.sort();
        places.dedup();
        places
    }

    /// Waits until some are left.
    pub async fn some_left(&self) {
        let mut ended = self.ended.subscribe();
        while lock(&self.left).is_empty() {
            // Fails only once nobody can end any more.
            let _ = ended.changed().await;
        }
    }

    fn is_left(&self, id: Id) -> bool {
        lock(&self.left).iter().any(|left| left.id == id)
    }

    /// Ends one that was left. Undone, it has failed: with its own error, or by being cut off.
    pub async fn settle(&self, id: Id, outcome: Outcome) -> Result<()> {
        let found = lock(&self.left).iter().find(|left| left.id == id).cloned();
        let Some(mut operation) = found else { return Ok(()) };
        match outcome {
            Outcome::Finished(result) => {
                operation.state = OperationState::Succeeded;
                operation.result = Some(result);
                operation.error = None;
                operation.warnings.push("loomd ended in the middle of it; it was finished later".to_owned());
            }
            Outcome::Undone => {
                let failure = operation.error.get_or_insert_with(|| Failure {
                    kind: Kind::Aborted,
                    code: "CUT_OFF".to_owned(),
                    message: "loomd ended in the middle of it; what it had made was undone, and the request \
                              may be made again"
                        .to_owned(),
                });
                operation.state = ended_by(failure);
            }
        }
        self.end(operation).await?;
        lock(&self.left).retain(|left| left.id != id);
        self.ended.send_modify(|ended| *ended += 1);
        Ok(())
    }

    /// Writes the last row of an operation, and tells it.
    async fn end(&self, mut operation: Operation) -> Result<()> {
        operation.ended = Some(Time::now());
        operation.plan = None;
        let row = operation.clone();
        self.write(move |rows| rows.put_operation(&row)).await?;
        self.tell(operation);
        Ok(())
    }

    /// Tells a change to those who watch; nobody has to.
    fn tell(&self, operation: Operation) {
        let _ = self.changes.send(operation);
    }

    /// Changes rows, on a thread that may block.
    async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Rows<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || store.write(change)).await {
            Ok(written) => written,
            Err(died) => Err(Error::Internal(format!("a change of operations died: {died}"))),
        }
    }
}

/// Forgets those that are too old, or too many.
fn forget_old(rows: &Rows<'_>) -> Result<()> {
    let (age, count) = KEPT;
    let before = Time::from(std::time::SystemTime::now() - age);
    rows.forget_operations(before, count).map(drop)
}

/// A thread that died while it held the lock left nothing half done: each change is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
