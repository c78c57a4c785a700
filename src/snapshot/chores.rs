//! What follows a request behind its answer, and is tried again until it is done.
//!
//! ```text
//! an ended layer's directory ──► trash/ ──► its row, where it has one, is forgotten ──► its bytes go (`reclaimer`)
//! a state that only a request kept ──► released        a layer that was never filled ──► ended
//! a layer that was to be sealed as it lies ──► its directory is what it was
//! ```
//!
//! The request itself takes the first step of each; what fails there comes here. All of it is lost in a
//! crash, and found again by the next start.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::remove::Ended;
use super::{Snapshots, lock};
use crate::error::{Error, Result};
use crate::store::{Id, LayerId};

/// One thing to do.
#[derive(Debug)]
pub(super) enum Chore {
    /// The directory of an ended layer is still to be moved to the trash.
    Discard(Ended),
    /// It is there: its row can go, and its bytes.
    Forget(Ended),
    /// A state is not needed by its request any more.
    Release(Id),
    /// A layer will never be filled.
    Abandon(LayerId),
    /// What stands on a layer has changed: its `layer.json`, or its note, is to say so.
    Tell(LayerId),
    /// A layer is not sealed as it lies after all.
    GiveBack(LayerId),
    /// Someone waits for what was left before.
    TellDone(Sender<()>),
    /// The last one: what was left before is done, then the core is let go.
    Close(#[expect(dead_code, reason = "it is there to be dropped")] Arc<Snapshots>),
}

/// How long someone waits for what requests have left to do.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a pass lets more chores come before it begins.
const GATHER: Duration = Duration::from_millis(50);
/// The time between two tries of what fails: at first, and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

impl Snapshots {
    /// Leaves a chore to the thread that does them.
    pub(super) fn leave(&self, chore: Chore) {
        // Fails only while the core itself goes.
        let _ = self.chores.send(chore);
    }

    /// Waits, at most [`PATIENCE`], until what is left now was tried.
    pub(crate) fn wait_for_chores(&self) {
        let (waits, done) = mpsc::channel();
        self.leave(Chore::TellDone(waits));
        let _ = done.recv_timeout(PATIENCE);
    }

    /// Starts the thread that does the chores; it ends with the core.
    pub(super) fn do_chores(core: &Arc<Self>, chores: Receiver<Chore>) -> Result<()> {
        let weak = Arc::downgrade(core);
        let (ends, ended) = mpsc::channel();
        *lock(&core.chores_ended) = Some(ended);
        let spawned = std::thread::Builder::new().name("chores".to_owned()).spawn(move || {
            until_dropped(&weak, &chores);
            drop(ends);
        });
        spawned.map(|_| ()).map_err(Error::io("start a thread for", core.layers.root()))
    }

    /// Has what requests left done, lets the core go and waits, at most so long, until the database is closed:
    /// what was in its log is in its file then. Whoever else has the core must let it go too.
    pub fn close(core: Arc<Self>, patience: Duration) {
        core.flat.close();
        let (ended, chores) = (lock(&core.chores_ended).take(), core.chores.clone());
        // Fails only where the thread has died.
        let _ = chores.send(Chore::Close(core));
        drop(chores);
        // The thread ends when the last one has let the core go; nothing is ever sent.
        let _ = ended.map(|ended| ended.recv_timeout(patience));
    }

    /// Has the trash emptied in the background: something was moved there.
    pub(crate) fn empty_trash(&self) {
        self.reclaimer.wake();
    }

    /// Does chores; answers those that are left.
    fn tidy(&self, chores: impl Iterator<Item = Chore>) -> Vec<Chore> {
        let (mut left, mut forget) = (Vec::new(), Vec::new());
        for chore in chores {
            let done = match &chore {
                &Chore::Discard(ended) => {
                    self.layers.discard(ended.home, ended.layer).map(|()| forget.push(ended))
                }
                &Chore::Forget(ended) => {
                    forget.push(ended);
                    Ok(())
                }
                Chore::Release(state) => self.let_go(*state),
                Chore::Abandon(layer) => self.abandon(*layer),
                Chore::Tell(layer) => {
                    if let Err(error) = self.tell(*layer) {
                        // Not tried again: the next start does, and a check finds it.
                        tracing::warn!(%layer, %error, "a layer does not say what stands on it now");
                    }
                    Ok(())
                }
                Chore::GiveBack(layer) => self.give_back(*layer),
                Chore::TellDone(waits) => {
                    // Fails where nobody waits any more.
                    let _ = waits.send(());
                    Ok(())
                }
                Chore::Close(_) => Ok(()),
            };
            if let Err(error) = done {
                tracing::warn!(?chore, %error, "what a request left to do is tried again");
                left.push(chore);
            }
        }
        let doomed = forget.iter().filter(|ended| ended.row).map(|ended| ended.layer).collect();
        if let Err(error) = self.forget_doomed(doomed) {
            tracing::warn!(%error, "rows of removed layers stay for now");
            left.extend(forget.into_iter().filter(|ended| ended.row).map(Chore::Forget));
        }
        left
    }

    /// Deletes the rows of layers whose directories are in the trash, once a power cut cannot bring them back.
    pub(super) fn forget_doomed(&self, doomed: Vec<LayerId>) -> Result<()> {
        if doomed.is_empty() {
            return Ok(());
        }
        self.layers.settle()?;
        self.store.write(move |rows| doomed.into_iter().try_for_each(|layer| rows.delete_layer(layer)))
    }
}

fn until_dropped(core: &Weak<Snapshots>, chores: &Receiver<Chore>) {
    let (shortest, longest) = AGAIN;
    let (mut wait, mut left) = (shortest, Vec::new());
    loop {
        let first = if left.is_empty() {
            match chores.recv() {
                Ok(first) => Some(first),
                Err(_) => return,
            }
        } else {
            match chores.recv_timeout(wait) {
                Ok(first) => Some(first),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        };
        wait = if first.is_some() { shortest } else { (wait * 2).min(longest) };
        // Removals come in crowds: their rows go in one change.
        std::thread::sleep(GATHER);
        let Some(core) = core.upgrade() else { return };
        left = core.tidy(std::mem::take(&mut left).into_iter().chain(first).chain(chores.try_iter()));
        core.empty_trash();
    }
}
