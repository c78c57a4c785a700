//! The state of a live container: how it is asked to be ready for it, and what stands still meanwhile.

use std::collections::BTreeMap;

use super::captured::Captured;
use super::freezer::TaskFreezer;
use super::{Brancher, Consistency, Holder, blocking};
use crate::error::Result;
use crate::snapshot::{Cost, Keep, Still, Take};
use crate::store::{Id, Snapshot, Time};

/// What is done beside the core's own step while the container stands still. It may block.
pub(super) type Also = Box<dyn FnOnce() -> Result<()> + Send>;

/// A state to take.
pub(super) struct Taking {
    /// What becomes of it.
    pub(super) keep: Keep,
    /// Its labels.
    pub(super) labels: BTreeMap<String, String>,
    /// When it goes by itself.
    pub(super) expires: Option<Time>,
    /// The operation that it is taken for.
    pub(super) operation: Option<Id>,
    /// How whole it is to be.
    pub(super) consistency: Consistency,
    /// What is done beside it.
    pub(super) also: Option<Also>,
}

impl Taking {
    /// As every state is taken that is asked for nothing.
    pub(super) fn of(keep: Keep) -> Self {
        Self {
            keep,
            labels: BTreeMap::new(),
            expires: None,
            operation: None,
            consistency: Consistency::Crash,
            also: None,
        }
    }
}

impl Brancher {
    /// Takes the state of an active snapshot, whose container stands still for the last step.
    pub(super) async fn take(
        &self,
        source: Id,
        taking: Taking,
        holder: Option<&Holder>,
    ) -> Result<(Snapshot, Cost)> {
        let Taking { keep, labels, expires, operation, .. } = taking;
        let take = Take { keep, labels, captured: None, operation, expires };
        let Some(Holder { client, container }) = holder else {
            return blocking(&self.core, move |core| core.snapshot(source, &take, &mut Still)).await;
        };
        let namespace = &client.target().namespace;
        let take = Take { captured: Some(Captured::of(namespace, container)?.to_json()?), ..take };
        let (core, turns) = (self.core.clone(), self.turns.clone());
        let mut freezer = TaskFreezer::of(core, turns, client.clone(), &container.id).await;
        blocking(&self.core, move |core| core.snapshot(source, &take, &mut freezer)).await
    }
}
