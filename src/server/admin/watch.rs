//! What a watcher of operations is told: how they are, and every change, each once and none out of order.
//!
//! ```text
//! subscribe ── look ── change ── change ── … ── the end of the one that is watched
//!                ▲                  │
//!                └── has lagged ────┘
//! ```
//!
//! A change that was made before a look is still in the queue behind it: it is known by how far it had come.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::Core;
use crate::error::{Error, Result};
use crate::operation::Operations;
use crate::store::{Id, Operation, OperationState, Time};

/// How long an operation that is not there yet is waited for: its request is on its way. Nothing tells
/// that a client has hung up until it is sent something, so a watch may not wait for ever.
const PATIENCE: Duration = Duration::from_mins(1);

/// A watch of one operation, or of all.
#[derive(Debug)]
pub(super) struct Watch {
    core: Core,
    operations: Arc<Operations>,
    /// Every change since the watch began.
    changes: Receiver<Operation>,
    only: Option<Only>,
    news: News,
    /// What is to be told, the next one last.
    queue: Vec<Operation>,
    /// Where the next look is due.
    look: bool,
}

/// The one operation that is watched.
#[derive(Debug)]
enum Only {
    /// By what the client called it.
    Called(String),
    /// By its id. None has it yet, and it is waited for until then.
    Awaited(Id, Instant),
    /// It is there.
    Known(Id),
    /// It has ended, and that was told.
    Ended,
}

impl Watch {
    /// Of the one that `reference` means; empty for all.
    pub(super) fn new(core: Core, operations: Arc<Operations>, reference: String) -> Self {
        let changes = operations.changes();
        let only = (!reference.is_empty()).then_some(Only::Called(reference));
        Self { core, operations, changes, only, news: News::default(), queue: Vec::new(), look: true }
    }

    /// Waits for the next thing to tell; none once the one that is watched has ended.
    pub(super) async fn next(&mut self) -> Result<Option<Operation>> {
        loop {
            if let Some(Only::Ended) = self.only {
                return Ok(None);
            }
            if let Some(operation) = self.queue.pop() {
                if self.news.is(&operation) {
                    if self.only.is_some() && operation.state.ended() {
                        self.only = Some(Only::Ended);
                    }
                    return Ok(Some(operation));
                }
            } else if self.look {
                self.look = false;
                self.queue = self.look().await?;
            } else {
                match self.change().await? {
                    Ok(operation) if self.concerns(&operation) => self.queue.push(operation),
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => self.look = true,
                    Err(RecvError::Closed) => return Ok(None),
                }
            }
        }
    }

    /// Waits for the next change.
    async fn change(&mut self) -> Result<std::result::Result<Operation, RecvError>> {
        let Some(Only::Awaited(id, until)) = self.only else { return Ok(self.changes.recv().await) };
        match tokio::time::timeout_at(until, self.changes.recv()).await {
            Ok(change) => Ok(change),
            Err(_) => Err(Error::OperationNotFound(id.to_string())),
        }
    }

    /// True where a change is of what is watched.
    fn concerns(&mut self, operation: &Operation) -> bool {
        match self.only {
            Some(Only::Awaited(id, _)) if id == operation.id => {
                self.only = Some(Only::Known(id));
                true
            }
            Some(Only::Known(id)) => id == operation.id,
            Some(_) => false,
            None => true,
        }
    }

    /// How things are, the oldest last.
    async fn look(&mut self) -> Result<Vec<Operation>> {
        let operations = Arc::clone(&self.operations);
        let reference = match &self.only {
            None => {
                let all = self.core.call(move |_| operations.list(usize::MAX)).await?;
                return Ok(self.news.among(all));
            }
            Some(Only::Called(reference)) => reference.clone(),
            Some(Only::Awaited(id, _) | Only::Known(id)) => id.to_string(),
            Some(Only::Ended) => return Ok(Vec::new()),
        };
        let whole = reference.parse().ok();
        match self.core.call(move |_| operations.get(&reference)).await {
            Ok(found) => {
                self.only = Some(Only::Known(found.id));
                Ok(vec![found])
            }
            Err(Error::OperationNotFound(id)) => {
                let whole = whole.ok_or(Error::OperationNotFound(id))?;
                let until = match self.only {
                    Some(Only::Awaited(_, until)) => until,
                    _ => Instant::now() + PATIENCE,
                };
                self.only = Some(Only::Awaited(whole, until));
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }
}

/// What was told already.
#[derive(Debug, Default)]
struct News {
    /// How far those had come that have not ended.
    told: HashMap<Id, Place>,
    /// When the newest was accepted; none before the first look.
    newest: Option<Time>,
}

/// How far an operation has come. Each part of it only grows, so of two the greater is the later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    state: u8,
    begun: usize,
    took: usize,
    warnings: usize,
    progress: (u64, u64),
}

impl Place {
    fn of(operation: &Operation) -> Self {
        Self {
            state: match operation.state {
                OperationState::Accepted => 0,
                OperationState::Running => 1,
                OperationState::Succeeded | OperationState::Failed | OperationState::Cancelled => 2,
            },
            begun: operation.steps.len(),
            took: operation.steps.iter().filter(|step| step.took_us.is_some()).count(),
            warnings: operation.warnings.len(),
            progress: (operation.total, operation.done),
        }
    }
}

impl News {
    /// True where this was not told yet; from now on it was.
    fn is(&mut self, operation: &Operation) -> bool {
        let place = Place::of(operation);
        if self.told.get(&operation.id).is_some_and(|told| *told >= place) {
            return false;
        }
        self.newest = self.newest.max(Some(operation.created));
        if operation.state.ended() {
            self.told.remove(&operation.id);
        } else {
            self.told.insert(operation.id, place);
        }
        true
    }

    /// Those to tell among all that there are: under way, or ended unseen.
    fn among(&mut self, mut all: Vec<Operation>) -> Vec<Operation> {
        let seen = self.newest;
        self.newest = all.iter().map(|operation| operation.created).max().max(seen).or(Some(Time(i64::MIN)));
        let unseen = |operation: &Operation| {
            self.told.contains_key(&operation.id) || seen.is_some_and(|seen| operation.created > seen)
        };
        all.retain(|operation| !operation.state.ended() || unseen(operation));
        all.sort_by_key(|operation| Reverse(operation.created));
        all
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::{OperationKind, Step};

    fn operation(number: u8, state: OperationState) -> Operation {
        Operation {
            id: format!("{number:032x}").parse().unwrap(),
            kind: OperationKind::Fork,
            subject: "web".into(),
            address: String::new(),
            namespace: "default".into(),
            state,
            done: 0,
            total: 0,
            steps: Vec::new(),
            warnings: Vec::new(),
            error: None,
            key: None,
            request: String::new(),
            plan: None,
            result: None,
            created: Time(number.into()),
            ended: state.ended().then_some(Time(100)),
        }
    }

    #[test]
    fn a_change_is_told_once_and_in_order() {
        use OperationState::{Accepted, Running, Succeeded};
        let step = |took_us| Step { name: "freeze".into(), took_us };
        let story = [
            operation(1, Accepted),
            operation(1, Running),
            Operation { steps: vec![step(None)], ..operation(1, Running) },
            Operation { steps: vec![step(None)], total: 3, ..operation(1, Running) },
            Operation { steps: vec![step(None)], total: 3, done: 1, ..operation(1, Running) },
            Operation { steps: vec![step(Some(7))], total: 3, done: 1, ..operation(1, Running) },
            Operation { warnings: vec!["x".into()], steps: vec![step(Some(7))], ..operation(1, Running) },
            operation(1, Succeeded),
        ];
        for at in 0..story.len() {
            // As if the look had found it so: what led there is still in the queue.
            let mut news = News::default();
            assert!(news.is(&story[at]));
            if !story[at].state.ended() {
                assert!(!story[..=at].iter().any(|old| news.is(old)), "{at}");
            }
            assert!(story[at + 1..].iter().all(|new| news.is(new)), "{at}");
            assert!(news.told.is_empty());
        }
    }

    #[test]
    fn the_first_look_is_about_those_under_way_and_a_later_one_about_what_was_missed_too() {
        use OperationState::{Running, Succeeded};
        let ids = |found: Vec<Operation>| found.iter().rev().map(|o| o.created.0).collect::<Vec<_>>();
        let mut news = News::default();
        let found = news.among(vec![operation(3, Running), operation(2, Succeeded), operation(1, Running)]);
        for operation in &found {
            assert!(news.is(operation));
        }
        assert_eq!(ids(found), [1, 3]);
        // The third ended, and the fourth came and went.
        let found = news.among(vec![
            operation(5, Running),
            operation(4, Succeeded),
            operation(3, Succeeded),
            operation(2, Succeeded),
            operation(1, Running),
        ]);
        assert_eq!(ids(found.clone()), [1, 3, 4, 5]);
        assert_eq!(found.iter().rev().map(|o| news.is(o)).collect::<Vec<_>>(), [false, true, true, true]);
        let mut nothing = News::default();
        assert!(nothing.among(Vec::new()).is_empty());
        assert_eq!(ids(nothing.among(vec![operation(1, Succeeded)])), [1], "it came and went");
    }
}
