//! Pausing a container around the last step of a branch, so that no crash and no failure leaves it so.
//!
//! ```text
//! running ── row written ── Tasks.Pause ── (the core's last step) ── Tasks.Resume ── row deleted
//!                 │ quiesce                                               unquiesce │
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
use tokio::task::JoinHandle;

use super::client::Client;
use super::quiesce::{self, Hook, Hooks};
use super::{Target, blocking, is_silence, task};
use crate::error::{Error, Result};
use crate::snapshot::{Freezer, Snapshots};
use crate::store::{Pause, Rows};

/// How often a pause is tried that runc gives up: in the first cgroup hierarchy a freezer can lose
/// against a container that keeps forking.
const PAUSES: u32 = 5;
/// How often a container is continued before that is left to the background.
const RESUMES: u32 = 3;
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
pub(super) struct TaskFreezer {
    core: Arc<Snapshots>,
    turns: Arc<Turns>,
    client: Client,
    pause: Pause,
    hooks: Option<Hooks>,
    runtime: Handle,
    /// True from when the row is written to when it is deleted.
    ours: bool,
    /// True from before it is paused by us to when it goes on.
    stopped: bool,
    /// Its last command, which runs once it goes on.
    waking: Option<JoinHandle<Result<()>>>,
    _turn: OwnedMutexGuard<()>,
}

impl TaskFreezer {
    /// For a container, once it is its turn.
    pub(super) async fn of(core: Arc<Snapshots>, turns: Arc<Turns>, client: Client, container: &str) -> Self {
        let Target { address, namespace } = client.target().clone();
        let pause = Pause { address, namespace, container: container.to_owned(), unquiesce: None };
        let turn = turns.take(&pause.namespace, &pause.container).await;
        Self {
            core,
            turns,
            client,
            pause,
            hooks: None,
            runtime: Handle::current(),
            ours: false,
            stopped: false,
            waking: None,
            _turn: turn,
        }
    }

    /// Runs these commands around it.
    pub(super) fn with(mut self, hooks: Option<Hooks>) -> Self {
        self.hooks = hooks;
        self
    }

    /// Waits until the container's last command has ended; answers what is to be told of it.
    pub(super) async fn gone_on(mut self) -> Option<String> {
        let ended = match self.waking.take()?.await {
            Ok(ended) => ended,
            Err(died) => Err(Error::Internal(format!("a command of a container died: {died}"))),
        };
        // Where it is not known that it ran, it runs again in the background.
        self.ours = ended.as_ref().is_err_and(is_silence);
        if !self.ours {
            let row = self.pause.clone();
            if let Err(error) = blocking(&self.core, move |core| forget(core, row)).await {
                self.ours = true;
                tracing::warn!(%error, "a pause that has ended stays written down for now");
            }
        }
        ended.err().map(|error| error.to_string())
    }

    /// What the task does, once nobody is pausing it.
    async fn settled(&self) -> Result<Option<Status>> {
        for _ in 0..LOOKS {
            match task::get(&self.client, &self.pause.container).await?.map(|task| task.status) {
                Some(Status::Pausing) => tokio::time::sleep(BREATH).await,
                status => return Ok(status),
            }
        }
        Err(self.refused("something else is pausing it and does not come to an end; try again"))
    }

    async fn make_ready(&mut self) -> Result<()> {
        let Some(hooks) = self.hooks.clone() else { return Ok(()) };
        match self.settled().await? {
            Some(Status::Running) => {}
            // By us, in an earlier branch that could not continue it.
            Some(Status::Paused) if self.core.store().read(|rows| of(rows, &self.pause))?.is_some() => {
                task::resume(&self.client, &self.pause.container).await?;
            }
            Some(Status::Paused) => {
                return Err(self.refused(
                    "its user has paused it, and nothing runs in it that could get it ready; resume it first, or \
                     ask for consistency `crash`",
                ));
            }
            // Nothing runs: no task, one not yet started, or one that has ended.
            _ => return Ok(()),
        }
        self.turns.whole()?;
        self.pause.unquiesce = hooks.unquiesce;
        self.write_down()?;
        let (root, container) = (self.core.layers().root(), &self.pause.container);
        quiesce::run(&self.client, root, container, Hook::Quiesce, &hooks.quiesce).await
    }

    async fn stop(&mut self) -> Result<()> {
        match self.settled().await? {
            Some(Status::Running) => self.pause_running().await,
            Some(Status::Paused) => {
                // A row says that it was us, in an earlier branch that could not continue it.
                if let Some(row) = self.core.store().read(|rows| of(rows, &self.pause))? {
                    self.pause = row;
                    (self.ours, self.stopped) = (true, true);
                }
                Ok(())
            }
            // Nothing runs: no task, one not yet started, or one that has ended.
            _ => Ok(()),
        }
    }

    async fn pause_running(&mut self) -> Result<()> {
        self.turns.whole()?;
        self.write_down()?;
        crate::fault::point("containerd.freeze.pause")?;
        self.stopped = true;
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
        let stood = !self.stopped || self.resume().await?;
        self.stopped = false;
        if self.pause.unquiesce.is_some() {
            // The pause is over: what is left of the state's making does not wait for this.
            let (client, core, pause) = (self.client.clone(), self.core.clone(), self.pause.clone());
            self.waking = Some(self.runtime.spawn(async move { wake(&client, &core, &pause).await }));
        } else {
            forget(&self.core, self.pause.clone())?;
            self.ours = false;
        }
        // The container may have gone on in the middle of the last step.
        self.turns.whole()?;
        if stood { Ok(()) } else { Err(self.refused("somebody else continued it in the middle; try again")) }
    }

    /// Continues it; answers false where it did not stand still until now.
    async fn resume(&self) -> Result<bool> {
        let (mut tries, mut lost) = (0, false);
        loop {
            let Err(error) = task::resume(&self.client, &self.pause.container).await else {
                return Ok(true);
            };
            tries += 1;
            lost |= is_silence(&error);
            match task::get(&self.client, &self.pause.container)
                .await
                .map(|task| task.map(|task| task.status))
            {
                // By us, where our answer was lost.
                Ok(Some(Status::Running)) => return Ok(lost),
                Ok(Some(Status::Paused)) if is_thawed(&error) => return Ok(false),
                Ok(Some(Status::Created | Status::Stopped) | None) => return Ok(true),
                _ if tries == RESUMES => return Err(error),
                _ => tokio::time::sleep(BREATH).await,
            }
        }
    }

    fn write_down(&mut self) -> Result<()> {
        crate::fault::point("containerd.freeze.record")?;
        let row = self.pause.clone();
        self.core.store().write(move |rows| rows.insert_pause(&row))?;
        self.ours = true;
        Ok(())
    }

    fn refused(&self, why: &str) -> Error {
        Error::precondition(format!("container {:?}", self.pause.container), why)
    }
}

impl Freezer for TaskFreezer {
    fn ready(&mut self) -> Result<()> {
        self.runtime.clone().block_on(self.make_ready())
    }

    fn freeze(&mut self) -> Result<bool> {
        self.runtime.clone().block_on(self.stop())?;
        Ok(self.stopped)
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
    let mut told = false;
    loop {
        let turn = turns.take(&pause.namespace, &pause.container).await;
        match thaw(&core, &pause).await {
            Ok(()) => return,
            Err(error) if told => tracing::debug!(container = pause.container, %error, "still paused"),
            Err(error) => {
                told = true;
                tracing::warn!(container = pause.container, namespace = pause.namespace, %error,
                    "a container that loom paused is not continued yet; it is tried as long as loomd runs");
            }
        }
        drop(turn);
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(longest);
    }
}

async fn thaw(core: &Arc<Snapshots>, pause: &Pause) -> Result<()> {
    // A later branch may have ended it, and the user may have paused it since.
    let row = pause.clone();
    let Some(row) = blocking(core, move |core| core.store().read(|rows| of(rows, &row))).await? else {
        return Ok(());
    };
    let client = Client::connect(&target(&row)).await?;
    if !continued(&client, &row).await? {
        tokio::time::sleep(LATE).await;
        continued(&client, &row).await?;
    }
    let ready = quiesce::end_left(&client, &row.container).await;
    match ready.and(wake(&client, core, &row).await) {
        Err(error) if is_silence(&error) => return Err(error),
        Err(error) => tracing::warn!(container = row.container, %error, "a container goes on unready"),
        Ok(()) => {}
    }
    blocking(core, move |core| forget(core, row)).await
}

/// Strikes out a pause that has ended. It blocks.
fn forget(core: &Snapshots, pause: Pause) -> Result<()> {
    crate::fault::point("containerd.thaw.forget")?;
    core.store().write(move |rows| rows.delete_pause(&pause))
}

/// Runs what a container that goes on is to be told.
async fn wake(client: &Client, core: &Snapshots, pause: &Pause) -> Result<()> {
    let Some(unquiesce) = &pause.unquiesce else { return Ok(()) };
    let command = quiesce::command(Hook::Unquiesce, unquiesce)?;
    quiesce::run(client, core.layers().root(), &pause.container, Hook::Unquiesce, &command).await
}

/// Continues a container if it stands still; answers whether it did.
async fn continued(client: &Client, pause: &Pause) -> Result<bool> {
    if !stands_still(client, &pause.container).await? {
        return Ok(false);
    }
    crate::fault::point("containerd.thaw.resume")?;
    match task::resume(client, &pause.container).await {
        Err(error) if !is_thawed(&error) => return Err(error),
        _ => {}
    }
    tracing::info!(
        container = pause.container,
        namespace = pause.namespace,
        "continued a container that loom had paused"
    );
    Ok(true)
}

/// True where the runtime found a container running that its shim takes for paused. The shim remembers what it
/// did; the runtime reads the freezer, which somebody has thawed behind the shim's back: by the runtime itself, by
/// hand, or by a container of another containerd in the same control group. To try again changes nothing.
fn is_thawed(error: &Error) -> bool {
    error.to_string().contains("not paused")
}

/// Continues every container that is paused by loom right now, whosever turn it is: the daemon ends, and
/// nobody may start it again. Their rows stay, and the next start looks again.
pub(super) async fn cut_off(core: &Arc<Snapshots>, turns: &Turns) -> Result<()> {
    turns.cut.store(true, Ordering::SeqCst);
    let pauses = blocking(core, |core| core.store().read(written)).await?;
    // One that cannot be continued does not keep the others from it.
    let ends = pauses.iter().map(|pause| async move {
        let client = Client::connect(&target(pause)).await?;
        continued(&client, pause).await?;
        wake(&client, core, pause).await
    });
    futures::future::join_all(ends).await.into_iter().collect()
}

/// The containerd that a pause is at.
fn target(pause: &Pause) -> Target {
    Target { address: pause.address.clone(), namespace: pause.namespace.clone() }
}

/// What is written down of a container that may be paused.
fn of(rows: &Rows<'_>, pause: &Pause) -> Result<Option<Pause>> {
    let place = |pause: &Pause| (pause.address.clone(), pause.namespace.clone(), pause.container.clone());
    Ok(rows.pauses()?.into_iter().find(|row| place(row) == place(pause)))
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
