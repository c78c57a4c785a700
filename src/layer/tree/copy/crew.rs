//! Threads that share work which makes more work.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// More would only wait for each other on one filesystem.
const MOST: usize = 8;

/// What is to be done.
pub(super) struct Crew<T, E> {
    state: Mutex<State<T, E>>,
    wake: Condvar,
}

struct State<T, E> {
    tasks: Vec<T>,
    /// How many tasks are being done.
    busy: usize,
    failed: Option<E>,
    /// A thread has panicked: what it did is not done.
    lost: bool,
}

/// Does `first` and what it adds, the newest first, on as many threads as there are cores. Ends with the first error.
pub(super) fn work<T: Send, E: Send>(
    first: T,
    each: impl Fn(T, &Crew<T, E>) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let crew = Crew {
        state: Mutex::new(State { tasks: Vec::new(), busy: 0, failed: None, lost: false }),
        wake: Condvar::new(),
    };
    // Most trees are small: no thread is made for those.
    each(first, &crew)?;
    if !crew.lock().tasks.is_empty() {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST);
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| crew.join_in(&each));
            }
            crew.join_in(&each);
        });
    }
    let failed = crew.lock().failed.take();
    failed.map_or(Ok(()), Err)
}

impl<T, E> Crew<T, E> {
    /// Adds something to do.
    pub(super) fn add(&self, tasks: impl IntoIterator<Item = T>) {
        let mut state = self.lock();
        let before = state.tasks.len();
        state.tasks.extend(tasks);
        let more = state.tasks.len() > before;
        drop(state);
        if more {
            self.wake.notify_all();
        }
    }

    fn join_in(&self, each: impl Fn(T, &Self) -> Result<(), E>) {
        let mut state = self.lock();
        while state.failed.is_none() && !state.lost {
            if let Some(task) = state.tasks.pop() {
                state.busy += 1;
                drop(state);
                let busy = Busy(self);
                let done = each(task, self);
                drop(busy);
                state = self.lock();
                if let Err(error) = done {
                    state.failed.get_or_insert(error);
                    self.wake.notify_all();
                }
            } else if state.busy == 0 {
                break;
            } else {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that is being done. The others do not wait for one whose thread has died.
struct Busy<'a, T, E>(&'a Crew<T, E>);

impl<T, E> Drop for Busy<'_, T, E> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.busy -= 1;
        state.lost |= std::thread::panicking();
        let last = state.busy == 0 || state.lost;
        drop(state);
        if last {
            self.0.wake.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn all_that_is_added_is_done() {
        let done = AtomicUsize::new(0);
        work(16_u32, |task, crew: &Crew<u32, ()>| {
            done.fetch_add(1, Ordering::Relaxed);
            crew.add((0..2).filter(|_| task > 0).map(|_| task - 1));
            Ok(())
        })
        .unwrap();
        assert_eq!(done.into_inner(), (1 << 17) - 1);
    }

    #[test]
    fn an_error_ends_it() {
        let failed = work(0_u64, |task, crew: &Crew<u64, u64>| {
            crew.add([task + 1, task + 1]);
            if task > 100 { Err(task) } else { Ok(()) }
        });
        assert_eq!(failed, Err(101));
    }

    #[test]
    fn nobody_waits_for_a_thread_that_has_died() {
        let died = std::panic::catch_unwind(|| {
            work(0_u32, |task, crew: &Crew<u32, ()>| {
                crew.add((1..100).filter(|_| task == 0));
                assert!(task != 50);
                Ok(())
            })
        });
        died.unwrap_err();
    }
}
