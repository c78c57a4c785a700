//! Named points at which a test makes a step fail, or the daemon die.
//!
//! Every step that touches the disk or the store passes [`point`]. Without the feature
//! `fault-points` it is nothing. With it, `LOOM_FAULT=<name>:error` makes the step fail and
//! `LOOM_FAULT=<name>:abort` ends the process there as `kill -9` would; `:<n>` behind either lets the
//! first n − 1 passages through. A file named by `LOOM_FAULT_SEEN` gets a line for each point passed,
//! so that a test can walk through all of them.

use crate::error::Result;

/// Passes the point `name`; fails or dies where a test asked for that.
#[cfg(not(feature = "fault-points"))]
#[inline]
#[allow(clippy::unnecessary_wraps)] // The same signature as the one that can fail.
pub(crate) fn point(_name: &'static str) -> Result<()> {
    Ok(())
}

/// Passes the point `name`; fails or dies where a test asked for that.
#[cfg(feature = "fault-points")]
pub(crate) fn point(name: &'static str) -> Result<()> {
    use std::io::Write;
    use std::sync::atomic::{AtomicU64, Ordering};

    static PASSED: AtomicU64 = AtomicU64::new(0);

    if let Ok(seen) = std::env::var("LOOM_FAULT_SEEN")
        && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(seen)
    {
        // A test's aid: what cannot be written down is only not walked through.
        let _ = writeln!(file, "{name}");
    }
    let Ok(wanted) = std::env::var("LOOM_FAULT") else {
        return Ok(());
    };
    let mut parts = wanted.split(':');
    if parts.next() != Some(name) {
        return Ok(());
    }
    let action = parts.next().unwrap_or("error");
    let nth: u64 = parts.next().and_then(|n| n.parse().ok()).unwrap_or(1);
    if PASSED.fetch_add(1, Ordering::SeqCst) + 1 != nth {
        return Ok(());
    }
    if action == "abort" {
        std::process::abort();
    }
    Err(crate::error::Error::Fault(name))
}
