//! Waiting for conditions, never for time.

use std::time::{Duration, Instant};

/// How long a test waits for what should happen at once: long, for the slowest machine.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// Waits until `condition` gives something, and returns it.
///
/// # Panics
/// After [`DEADLINE`], with `what` was waited for.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "waited {DEADLINE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// After [`DEADLINE`], with `what` was waited for.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Waits until `left` lists nothing.
///
/// # Panics
/// After [`DEADLINE`], with what is left.
pub fn wait_until_none(what: &str, mut left: impl FnMut() -> Vec<String>) {
    let end = Instant::now() + DEADLINE;
    loop {
        let found = left();
        if found.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "after {DEADLINE:?} there are still {what}:\n  {}", found.join("\n  "));
        std::thread::sleep(Duration::from_millis(20));
    }
}
