//! The thread that empties the trash, a little at a time, so that nobody else feels it.
//!
//! It has the layers and not the core: a tree of a hundred thousand files must keep neither a stop nor the database
//! waiting. What it does not come to is found in the trash by the next start.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::layer::Layers;

/// How long more may come before a pass begins: each reads the mount tables of every process.
const GATHER: Duration = Duration::from_millis(50);
/// The time between two looks at what is still mounted, or could not be removed: at first, and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// The thread; it ends with this, in the middle of a tree if need be.
#[derive(Debug)]
pub(super) struct Reclaimer {
    wake: Sender<()>,
    layers: Arc<Layers>,
}

impl Reclaimer {
    /// Starts it; it waits until it is woken. What an earlier daemon left in the trash comes first.
    pub(super) fn start(layers: &Arc<Layers>) -> Result<Self> {
        let (wake, woken) = mpsc::channel();
        let at = Arc::clone(layers);
        let spawned = std::thread::Builder::new()
            .name("reclaim".to_owned())
            .spawn(move || until_dropped(&at, &woken))
            .map_err(Error::io("start a thread for", layers.root()));
        spawned.map(|_| Self { wake, layers: Arc::clone(layers) })
    }

    /// Tells it that there is something in the trash.
    pub(super) fn wake(&self) {
        // Fails only where the thread has died, and then the next start empties the trash.
        let _ = self.wake.send(());
    }
}

impl Drop for Reclaimer {
    fn drop(&mut self) {
        self.layers.stop_reclaiming();
    }
}

fn until_dropped(layers: &Layers, woken: &Receiver<()>) {
    let (shortest, longest) = AGAIN;
    let mut wait = shortest;
    if woken.recv().is_err() {
        return;
    }
    loop {
        let left = layers.reclaim_slowly().map_or_else(
            |error| {
                tracing::warn!(%error, "the trash could not be emptied; it is tried again");
                true
            },
            |left| left > 0,
        );
        let more = if left {
            woken.recv_timeout(wait)
        } else {
            woken.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        wait = match more {
            Ok(()) => shortest,
            Err(RecvTimeoutError::Timeout) => (wait * 2).min(longest),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        std::thread::sleep(GATHER);
        woken.try_iter().for_each(drop);
    }
}
