//! The moment of a state, told apart from every change behind it.
//!
//! The kernel stamps a change with the time of its last tick (since Linux 6.13 with a finer one, where somebody
//! looked since the last change), so a change may look a tick older than it is. A source that goes on only when
//! the tick is behind the moment of its state can change nothing that looks older than that.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::store::Time;

/// A tick is at most 10 ms; a clock that was set back is not waited for.
const LONGEST: Duration = Duration::from_millis(25);
/// The time between two looks: a small part of a tick.
const AGAIN: Duration = Duration::from_micros(200);

/// Returns when the time that changes are stamped with has passed `moment`.
pub(super) fn pass(moment: Time) {
    let began = Instant::now();
    while tick() <= moment && began.elapsed() < LONGEST {
        std::thread::sleep(AGAIN);
    }
}

/// The time of the last tick.
fn tick() -> Time {
    let time = clock_gettime(ClockId::RealtimeCoarse);
    Time(time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_change_before_is_not_newer_and_one_behind_is() {
        let file = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        let changed = || {
            let status = file.path().metadata().unwrap();
            Time(status.ctime() * 1_000_000_000 + status.ctime_nsec())
        };
        for n in 0..50 {
            std::fs::write(file.path(), format!("{n} before")).unwrap();
            let moment = Time::now();
            assert!(changed() <= moment);
            pass(moment);
            std::fs::write(file.path(), format!("{n} behind")).unwrap();
            assert!(changed() > moment);
        }
    }

    #[test]
    fn a_clock_that_was_set_back_is_not_waited_for() {
        let began = Instant::now();
        pass(Time(i64::MAX));
        assert!(began.elapsed() >= LONGEST);
    }
}
