//! One `syncfs` for everybody who asks for one at the same time.
//!
//! A call that starts after a request covers it. So requests that come while a call runs wait for it
//! to end, and then the first of them makes one call for all.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use rustix::io::Result;

/// The syncs of one filesystem.
#[derive(Debug)]
pub(super) struct Syncs {
    /// A descriptor of their own: the kernel reports a failed write once to each.
    on: OwnedFd,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    /// The call that has not started; its result goes to everybody who waits for it.
    next: Arc<OnceLock<Result<()>>>,
}

impl Syncs {
    pub(super) fn new(on: OwnedFd) -> Self {
        Self { on, state: Mutex::default(), ended: Condvar::new() }
    }

    /// Returns when everything that was written to the filesystem before this call is on disk.
    pub(super) fn sync(&self) -> Result<()> {
        self.run(|| rustix::fs::syncfs(&self.on))
    }

    fn run(&self, call: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = Arc::clone(&state.next);
        while state.running {
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
            if let Some(result) = mine.get() {
                return *result;
            }
        }
        state.running = true;
        state.next = Arc::default();
        drop(state);
        let result = call();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.running = false;
        let result = *mine.get_or_init(|| result);
        self.ended.notify_all();
        result
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use rustix::io::Errno;

    use super::*;

    fn syncs() -> Syncs {
        Syncs::new(std::fs::File::open("/").unwrap().into())
    }

    #[test]
    fn requests_during_a_call_share_the_next_one_and_its_failure() {
        let syncs = syncs();
        let calls = AtomicUsize::new(0);
        let (started, wait_started) = mpsc::channel();
        let (go, wait_go) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let first = scope.spawn(|| {
                syncs.run(move || {
                    started.send(()).unwrap();
                    wait_go.recv().unwrap();
                    Ok(())
                })
            });
            wait_started.recv().unwrap();
            let others: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        syncs.run(|| {
                            calls.fetch_add(1, Ordering::SeqCst);
                            Err(Errno::IO)
                        })
                    })
                })
                .collect();
            // All eight hold the call that has not started, beside the state itself.
            while Arc::strong_count(&syncs.state.lock().unwrap().next) < 9 {
                std::thread::yield_now();
            }
            go.send(()).unwrap();
            assert_eq!(first.join().unwrap(), Ok(()));
            for other in others {
                assert_eq!(other.join().unwrap(), Err(Errno::IO));
            }
        });
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_later_request_gets_a_call_of_its_own() {
        let syncs = syncs();
        assert_eq!(syncs.run(|| Err(Errno::IO)), Err(Errno::IO));
        assert_eq!(syncs.run(|| Ok(())), Ok(()));
        assert_eq!(syncs.sync(), Ok(()));
    }
}
