//! An operation under way: what its work tells of it, and how it ends.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::Serialize;

use super::{Operations, lock};
use crate::error::{CANCELLED, Error, Result};
use crate::fault;
use crate::store::{Failure, Id, Operation, OperationState, Step, Time};

/// The handle of one operation's work. Clones speak for the same operation.
#[derive(Debug, Clone)]
pub struct Work {
    live: Arc<Live>,
    operations: Arc<Operations>,
}

/// An operation under way.
#[derive(Debug)]
pub(super) struct Live {
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    operation: Operation,
    /// When its last step began.
    step: Instant,
    cancelled: bool,
    /// Its result is on disk, or on its way there.
    decided: bool,
    /// What it made could not be undone.
    leaves: bool,
}

/// An operation whose end is still to be written. Dropped without one, it is left as a crash leaves one.
#[derive(Debug)]
pub(super) struct Tracked {
    work: Work,
    ended: bool,
}

impl Live {
    /// As it is now.
    pub(super) fn operation(&self) -> Operation {
        lock(&self.now).operation.clone()
    }

    /// Cancels it; false once that is too late.
    pub(super) fn cancel(&self) -> bool {
        let mut now = lock(&self.now);
        now.cancelled |= !now.decided;
        now.cancelled
    }

    /// True once it was cancelled.
    pub(super) fn called_off(&self) -> bool {
        lock(&self.now).cancelled
    }
}

impl Now {
    fn check(&self) -> Result<()> {
        if self.cancelled && !self.decided { Err(Error::Cancelled(self.operation.id)) } else { Ok(()) }
    }

    fn end_step(&mut self) {
        if let Some(last) = self.operation.steps.last_mut().filter(|last| last.took_us.is_none()) {
            last.took_us = Some(u64::try_from(self.step.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
    }
}

impl Work {
    /// The operation's id.
    pub fn id(&self) -> Id {
        lock(&self.live.now).operation.id
    }

    /// Ends the step before, begins this one, and refuses where the operation was cancelled meanwhile.
    pub fn step(&self, name: &'static str) -> Result<()> {
        self.change(|now| {
            now.check()?;
            now.end_step();
            now.step = Instant::now();
            now.operation.state = OperationState::Running;
            now.operation.steps.push(Step { name: name.to_owned(), took_us: None });
            Ok(())
        })
    }

    /// How much is done of how much.
    pub fn progress(&self, done: u64, total: u64) {
        self.change(|now| (now.operation.done, now.operation.total) = (done, total));
    }

    /// Tells what did not go as it should and does not make it fail.
    pub fn warn(&self, warning: impl Into<String>) {
        let warning = warning.into();
        tracing::warn!(operation = %self.id(), "{warning}");
        self.change(|now| now.operation.warnings.push(warning));
    }

    /// What it made cannot be undone while containerd does not answer. Where the work answers an error, that is
    /// its end only once what it left is undone too, as of one that a crash cut off.
    pub fn leaves(&self, why: &Error) {
        tracing::warn!(operation = %self.id(), error = %why, "what failed is undone once containerd answers");
        lock(&self.live.now).leaves = true;
    }

    /// Fails with `Cancelled` once the operation was cancelled.
    pub fn check(&self) -> Result<()> {
        lock(&self.live.now).check()
    }

    /// Keeps the result: what was done holds from here on, over a crash too, and it cannot be cancelled any
    /// more. Where it fails the work undoes what it made.
    pub async fn decided(&self, result: &impl Serialize) -> Result<()> {
        let result = json(result)?;
        // Its live state goes on until the work has ended: whoever watches it sees one end.
        let row = {
            let mut now = lock(&self.live.now);
            now.check()?;
            now.decided = true;
            now.end_step();
            let (state, ended) = (OperationState::Succeeded, Some(Time::now()));
            Operation { state, ended, plan: None, result: Some(result), ..now.operation.clone() }
        };
        fault::point("operation.end")?;
        let result = row.result.clone();
        self.operations.write(move |rows| rows.put_operation(&row)).await?;
        lock(&self.live.now).operation.result = result;
        Ok(())
    }

    /// Writes down what a restart needs to finish or undo it. On disk when it answers.
    pub async fn plan(&self, plan: &impl Serialize) -> Result<()> {
        let plan = json(plan)?;
        let operation = self.change(|now| {
            now.check()?;
            now.operation.state = OperationState::Running;
            now.operation.plan = Some(plan);
            Ok::<_, Error>(now.operation.clone())
        })?;
        fault::point("operation.plan")?;
        self.operations.write(move |rows| rows.put_operation(&operation)).await
    }

    /// Changes what is told of it, and tells it.
    fn change<T>(&self, change: impl FnOnce(&mut Now) -> T) -> T {
        let (changed, operation) = {
            let mut now = lock(&self.live.now);
            (change(&mut now), now.operation.clone())
        };
        self.operations.tell(operation);
        changed
    }
}

impl Tracked {
    /// Of an operation that is accepted and on disk.
    pub(super) fn begin(operations: &Arc<Operations>, operation: Operation) -> Self {
        let id = operation.id;
        operations.tell(operation.clone());
        let now = Now { operation, step: Instant::now(), cancelled: false, decided: false, leaves: false };
        let live = Arc::new(Live { now: Mutex::new(now) });
        lock(&operations.live).insert(id, Arc::clone(&live));
        Self { work: Work { live, operations: Arc::clone(operations) }, ended: false }
    }

    /// The handle for its work.
    pub(super) fn work(&self) -> Work {
        self.work.clone()
    }

    /// Keeps its result, where the work has not done that, and ends it.
    pub(super) async fn succeeded(mut self, result: &impl Serialize) -> Result<()> {
        let mut operation = {
            let mut now = lock(&self.work.live.now);
            now.decided = true;
            now.end_step();
            now.operation.clone()
        };
        operation.state = OperationState::Succeeded;
        let kept = operation.result.is_some();
        if !kept {
            operation.result = Some(json(result)?);
        }
        let written = match if kept { Ok(()) } else { fault::point("operation.end") } {
            Ok(()) => self.work.operations.end(operation.clone()).await,
            failed => failed,
        };
        match written {
            Ok(()) => self.ended = true,
            // Only what was told of it since is missing.
            Err(error) if kept => {
                tracing::warn!(operation = %operation.id, %error, "an operation's last words are lost");
                self.work.operations.tell(operation);
                self.ended = true;
            }
            // What was done holds all the same: it is left to be looked at again, and finished.
            Err(error) => {
                tracing::warn!(operation = %operation.id, %error, "an operation's result is not kept yet");
            }
        }
        Ok(())
    }

    /// Keeps its error, and ends it, unless something is still to be undone. Where that cannot be written it is
    /// left as by a crash: there is nothing to undo, and it will be told so.
    pub(super) async fn failed(mut self, error: &Error) {
        let (mut operation, leaves) = {
            let mut now = lock(&self.work.live.now);
            now.end_step();
            // Who settles it knows by its error that it is to be undone.
            now.operation.error = Some(error.into());
            (now.operation.clone(), now.leaves)
        };
        let operations = &self.work.operations;
        let kept = if leaves {
            operations.write(move |rows| rows.put_operation(&operation)).await
        } else {
            operation.state = ended_by(&error.into());
            operation.result = None;
            operations.end(operation).await
        };
        match kept {
            Ok(()) => self.ended = !leaves,
            Err(lost) => {
                tracing::warn!(operation = %self.work.id(), %lost, "an operation's error is not kept");
            }
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let operations = &self.work.operations;
        let operation = self.work.live.operation();
        lock(&operations.live).remove(&operation.id);
        if !self.ended && operation.result.is_none() {
            lock(&operations.left).push(operation);
        }
        operations.ended.send_modify(|ended| *ended += 1);
    }
}

/// What an operation is that ended with this.
pub(super) fn ended_by(failure: &Failure) -> OperationState {
    if failure.code == CANCELLED { OperationState::Cancelled } else { OperationState::Failed }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::Internal(format!("an operation's record: {e}")))
}
