//! Pausing a container around the last step of a branch, so that no crash and no failure leaves it so.
//!
//! ```text
//! running ── row written ── Tasks.Pause ── (the core's last step) ── Tasks.Resume ── row deleted
//!                 └─────────── a crash anywhere here: the row is found at the next start ──┘
//! ```
//!
//! A container that its user has paused has no row: it is left paused. One turn at a time is taken on a
//! container, so that a second branch does not take the first one's pause for the user's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use containerd_client::types::v1::Status;
use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;

use super::client::Client;
use super::{Target, blocking, task};
use crate::error::{Error, Result};
use crate::snapshot::{Freezer, Snapshots};
use crate::store::{Pause, Rows};

/// How often a pause is tried that runc gives up: in the first cgroup hierarchy a freezer can lose
/// against a container that keeps forking.
const PAUSES: u32 = 5;
/// How often a container is continued before that is left to the background.
const RESUMES: u32 = 25;
/// The time between two tries of either.
const BREATH: Duration = Duration::from_millis(20);
/// How often a container is looked at that somebody is pausing right now.
const LOOKS: u32 = 100;
/// The time between two tries in the background: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// How long a pause may still be under way in containerd once who asked for it is gone.
const LATE: Duration = Duration::from_secs(1);

/// Whose turn it is on one container.
type Turn = tokio::sync::Mutex<()>;

/// Whose turn it is, by namespace and container.
#[derive(Debug, Default)]
pub(super) struct Turns {
    held: Mutex<HashMap<(String, String), Weak<Turn>>>,
    /// Set once pauses end without their turn: from then on no state that is being taken is whole.
    cut: AtomicBool,
}

impl Turns {
    /// Waits for a turn on a container; it lasts until the guard is dropped.
    pub(super) async fn take(&self, namespace: &str, container: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let slot = turns.entry((namespace.to_owned(), container.to_owned())).or_default();
            slot.upgrade().unwrap_or_else(|| {
                let turn = Arc::default();
                *slot = Arc::downgrade(&turn);
                turn
            })
        };
        turn.lock_owned().await
    }

    /// Refuses once pauses have been cut off.
    fn whole(&self) -> Result<()> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(Error::precondition("loom", "it is shutting down; try again when it is back"));
        }
        Ok(())
    }
}

/// Makes a container's task stand still. It is called on a thread that may block, and has the turn on
/// the container while it lives. A pause that it could not end is ended in the background.
#[derive(Debug)]
pub(super) struct TaskFreezer {
    core: Arc<Snapshots>,
    turns: Arc<Turns>,
    client: Client,
    pause: Pause,
    runtime: Handle,
    /// True from when the row is written to when it is deleted.
    ours: bool,
    _turn: OwnedMutexGuard<()>,
}

impl TaskFreezer {
    /// For a container, once it is its turn.
    pub(super) async fn of(core: Arc<Snapshots>, turns: Arc<Turns>, client: Client, container: &str) -> Self {
        let Target { address, namespace } = client.target().clone();
        let pause = Pause { address, namespace, container: container.to_owned(), unquiesce: None };
        let turn = turns.take(&pause.namespace, &pause.container).await;
        Self { core, turns, client, pause, runtime: Handle::current(), ours: false, _turn: turn }
    }

    async fn stop(&mut self) -> Result<()> {
        for _ in 0..LOOKS {
            match task::get(&self.client, &self.pause.container).await?.map(|task| task.status) {
                Some(Status::Running) => return self.pause_running().await,
                Some(Status::Paused) => {
                    // A row says that it was us, in an earlier branch that could not continue it.
                    self.ours = self.core.store().read(written)?.contains(&self.pause);
                    return Ok(());
                }
                Some(Status::Pausing) => tokio::time::sleep(BREATH).await,
                // Nothing runs: no task, one not yet started, or one that has ended.
                Some(Status::Created | Status::Stopped | Status::Unknown) | None => return Ok(()),
            }
        }
        Err(Error::precondition(
            format!("container {:?}", self.pause.container),
            "something else is pausing it and does not come to an end; try again",
        ))
    }

    async fn pause_running(&mut self) -> Result<()> {
        self.turns.whole()?;
        crate::fault::point("containerd.freeze.record")?;
        let row = self.pause.clone();
        self.core.store().write(move |rows| rows.insert_pause(&row))?;
        self.ours = true;
        crate::fault::point("containerd.freeze.pause")?;
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match task::pause(&self.client, &self.pause.container).await {
                Ok(()) => return self.turns.whole(),
                Err(error) => error,
            };
            let now = task::get(&self.client, &self.pause.container).await?.map(|task| task.status);
            match now {
                // It paused after all, or its process ended meanwhile: nothing writes.
                Some(Status::Paused | Status::Stopped) | None => return Ok(()),
                _ if tries < PAUSES && error.to_string().contains("unable to freeze") => {
                    tokio::time::sleep(BREATH).await;
                }
                _ => return Err(error),
            }
        }
    }

    async fn go_on(&mut self) -> Result<()> {
        if !self.ours {
            return Ok(());
        }
        crate::fault::point("containerd.thaw.resume")?;
        let mut tries = 0;
        while let Err(error) = task::resume(&self.client, &self.pause.container).await {
            tries += 1;
            if !stands_still(&self.client, &self.pause.container).await.unwrap_or(true) {
                break;
            }
            if tries == RESUMES {
                return Err(error);
            }
            tokio::time::sleep(BREATH).await;
        }
        crate::fault::point("containerd.thaw.forget")?;
        let row = self.pause.clone();
        self.core.store().write(move |rows| rows.delete_pause(&row))?;
        self.ours = false;
        // The container may have gone on in the middle of the last step.
        self.turns.whole()
    }
}

impl Freezer for TaskFreezer {
    fn freeze(&mut self) -> Result<bool> {
        self.runtime.clone().block_on(self.stop())?;
        Ok(self.ours)
    }

    fn thaw(&mut self) -> Result<()> {
        self.runtime.clone().block_on(self.go_on())
    }
}

impl Drop for TaskFreezer {
    fn drop(&mut self) {
        if self.ours {
            let (core, turns, pause) = (self.core.clone(), self.turns.clone(), self.pause.clone());
            self.runtime.spawn(until_thawed(core, turns, pause));
        }
    }
}

/// Ends a pause that is written down, trying as long as the daemon runs: containerd may come up later.
pub(super) async fn until_thawed(core: Arc<Snapshots>, turns: Arc<Turns>, pause: Pause) {
    let (mut wait, longest) = BACKOFF;
    loop {
        let turn = turns.take(&pause.namespace, &pause.container).await;
        match thaw(&core, &pause).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(container = pause.container, namespace = pause.namespace, %error,
                    "a container that loom paused is not continued yet");
            }
        }
        drop(turn);
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(longest);
    }
}

async fn thaw(core: &Arc<Snapshots>, pause: &Pause) -> Result<()> {
    let row = pause.clone();
    // A later branch may have ended it, and the user may have paused it since.
    if !blocking(core, |core| core.store().read(written)).await?.contains(&row) {
        return Ok(());
    }
    let target = Target { address: pause.address.clone(), namespace: pause.namespace.clone() };
    let client = Client::connect(&target).await?;
    if !continued(&client, pause).await? {
        tokio::time::sleep(LATE).await;
        continued(&client, pause).await?;
    }
    crate::fault::point("containerd.thaw.forget")?;
    blocking(core, move |core| core.store().write(move |rows| rows.delete_pause(&row))).await
}

/// Continues a container if it stands still; answers whether it did.
async fn continued(client: &Client, pause: &Pause) -> Result<bool> {
    if !stands_still(client, &pause.container).await? {
        return Ok(false);
    }
    crate::fault::point("containerd.thaw.resume")?;
    task::resume(client, &pause.container).await?;
    tracing::info!(
        container = pause.container,
        namespace = pause.namespace,
        "continued a container that loom had paused"
    );
    Ok(true)
}

/// Continues every container that is paused by loom right now, whosever turn it is: the daemon ends, and
/// nobody may start it again. Their rows stay, and the next start looks again.
pub(super) async fn cut_off(core: &Arc<Snapshots>, turns: &Turns) -> Result<()> {
    turns.cut.store(true, Ordering::SeqCst);
    let mut done = Ok(());
    for pause in blocking(core, |core| core.store().read(written)).await? {
        let target = Target { address: pause.address.clone(), namespace: pause.namespace.clone() };
        let tried = async { continued(&Client::connect(&target).await?, &pause).await };
        // One that cannot be continued does not keep the others from it.
        done = done.and(tried.await.map(drop));
    }
    done
}

/// Every pause that has not ended.
pub(super) fn written(rows: &Rows<'_>) -> Result<Vec<Pause>> {
    rows.pauses()
}

/// True while a container's processes are stopped where they are.
async fn stands_still(client: &Client, container: &str) -> Result<bool> {
    let task = task::get(client, container).await?;
    Ok(task.is_some_and(|task| matches!(task.status, Status::Paused | Status::Pausing)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_container_is_branched_by_one_at_a_time() {
        let turns = Turns::default();
        let first = turns.take("default", "web").await;
        let mut second = Box::pin(turns.take("default", "web"));
        assert!(futures::poll!(&mut second).is_pending());
        drop(turns.take("default", "db").await);
        drop(turns.take("ci", "web").await);
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        drop(second.await);
    }

    #[tokio::test]
    async fn turns_that_nobody_holds_are_forgotten() {
        let turns = Turns::default();
        for container in ["a", "b", "c"] {
            drop(turns.take("default", container).await);
        }
        let held = turns.take("default", "d").await;
        assert_eq!(turns.held.lock().map(|turns| turns.len()).ok(), Some(1));
        drop(held);
    }

    #[test]
    fn no_state_is_whole_once_pauses_are_cut_off() {
        let turns = Turns::default();
        assert!(turns.whole().is_ok());
        turns.cut.store(true, Ordering::SeqCst);
        assert!(turns.whole().is_err());
    }
}
