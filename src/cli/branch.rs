//! The verbs that branch: each is an operation of loomd's that is waited for.

use ttrpc::Code;

use super::args::{Clone, Fork, Promote, Resume, Rollback, Snapshot};
use super::client::Failure;
use super::track::{Line, track};
use super::{Answer, Run, ask, json, show, units};
use crate::protos::admin::{Cost, Forked, ResumeResponse, Rolled};
use crate::store::Id;

/// An id for an operation, so that it can be watched and cancelled before loomd has answered.
pub(super) fn new_id() -> Result<String, Failure> {
    match Id::random() {
        Ok(id) => Ok(id.to_string()),
        Err(error) => Err(Failure::new(Code::INTERNAL, error.to_string())),
    }
}

impl Run<'_> {
    /// `loom snapshot`.
    pub(super) async fn snapshot(&mut self, args: Snapshot) -> Result<Answer, Failure> {
        let id = new_id()?;
        let made = self.wait(&id, self.client.snapshot(ask::snapshot(&id, args))).await?;
        if self.json {
            return json::answer(&json::Snapshotted {
                operation: &made.operation,
                snapshot: (&*made.snapshot).into(),
                cost: (&*made.cost).into(),
            });
        }
        let title = units::clean(&show::title(&made.snapshot, &self.look.namespace));
        self.noted(Answer::of(title + "\n"), &made.operation, show::cost(&made.cost)).await
    }

    /// `loom fork`.
    pub(super) async fn fork(&mut self, args: Fork) -> Result<Answer, Failure> {
        let id = new_id()?;
        let made = self.wait(&id, self.client.fork(ask::fork(&id, args))).await?;
        let out = if self.json {
            json::text(&json::Branched {
                operation: &made.operation,
                forks: made.forks.iter().map(Into::into).collect(),
                cost: (&*made.cost).into(),
            })?
        } else {
            show::forks(&self.look, made.forks.iter())
        };
        let failures = made.forks.iter().filter_map(not_made).collect();
        self.noted(Answer { failures, ..Answer::of(out) }, &made.operation, show::cost(&made.cost)).await
    }

    /// `loom clone`.
    pub(super) async fn clone_state(&mut self, args: Clone) -> Result<Answer, Failure> {
        let id = new_id()?;
        let made = self.wait(&id, self.client.clone_state(ask::clone(&id, args))).await?;
        let out = if self.json {
            json::text(&json::Cloned {
                operation: &made.operation,
                clone: (&*made.clone).into(),
                cost: (&*made.cost).into(),
            })?
        } else {
            show::forks(&self.look, std::iter::once(&*made.clone))
        };
        let failures = not_made(&made.clone).into_iter().collect();
        self.noted(Answer { failures, ..Answer::of(out) }, &made.operation, show::cost(&made.cost)).await
    }

    /// `loom rollback`.
    pub(super) async fn rollback(&mut self, args: Rollback) -> Result<Answer, Failure> {
        let id = new_id()?;
        let made = self.wait(&id, self.client.rollback(ask::rollback(&id, args))).await?;
        self.rolled(&made.operation, &made.container, &made.cost).await
    }

    /// `loom promote`.
    pub(super) async fn promote(&mut self, args: Promote) -> Result<Answer, Failure> {
        let id = new_id()?;
        let made = self.wait(&id, self.client.promote(ask::promote(&id, args))).await?;
        self.rolled(&made.operation, &made.container, &made.cost).await
    }

    async fn rolled(&self, operation: &str, rolled: &Rolled, cost: &Cost) -> Result<Answer, Failure> {
        if self.json {
            return json::answer(&json::Changed { operation, container: rolled.into(), cost: cost.into() });
        }
        let answer = Answer::of(show::container(&self.look, rolled.called(), rolled.pid));
        self.noted(answer, operation, show::kept(rolled) + &show::outage(cost)).await
    }

    /// `loom resume`.
    pub(super) async fn resume(&mut self, args: Resume) -> Result<Answer, Failure> {
        let id = new_id()?;
        let resumed = self.wait(&id, self.client.resume(ask::resume(&id, args))).await?;
        if self.json {
            return json::answer(&json::Resumed {
                operation: &resumed.operation,
                container: &resumed.container,
                name: resumed.called(),
                pid: resumed.pid,
            });
        }
        let answer = Answer::of(show::container(&self.look, resumed.called(), resumed.pid));
        self.noted(answer, &resumed.operation, String::new()).await
    }

    /// Waits for a branch, tells of its progress, and cancels it at Ctrl-C.
    pub(super) async fn wait<T>(
        &self,
        operation: &str,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let line = Line::new(self.json);
        let mut interrupts = self.interrupts.lock().await;
        track(&self.client, operation, &line, &mut *interrupts, call).await
    }

    /// An answer with what a person wants to know beside it: the operation's warnings too.
    pub(super) async fn noted(
        &self,
        answer: Answer,
        operation: &str,
        note: String,
    ) -> Result<Answer, Failure> {
        if self.json {
            return Ok(answer);
        }
        // What was made is made, even where nothing more can be told of it.
        let warnings = match self.client.operation(operation.to_owned()).await {
            Ok(operation) => show::warnings(&operation.warnings),
            Err(_) => String::new(),
        };
        Ok(Answer { note: note + &warnings, ..answer })
    }
}

/// What loomd says of a single fork; it gives no code for it.
fn not_made(fork: &Forked) -> Option<Failure> {
    let message = format!("{}: {}", fork.called(), fork.error);
    (!fork.error.is_empty()).then(|| Failure::new(Code::UNKNOWN, message))
}

impl Forked {
    /// What people call it.
    pub(super) fn called(&self) -> &str {
        if self.name.is_empty() { &self.container } else { &self.name }
    }
}

impl ResumeResponse {
    /// What people call it.
    pub(super) fn called(&self) -> &str {
        if self.name.is_empty() { &self.container } else { &self.name }
    }
}

impl Rolled {
    /// What people call it.
    pub(super) fn called(&self) -> &str {
        if self.name.is_empty() { &self.container } else { &self.name }
    }
}
