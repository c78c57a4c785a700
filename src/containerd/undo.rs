//! The end of what an operation makes in containerd: where it holds its lease ends, and where it fails it is undone.
//!
//! An undo is of steps that can be taken again: here while containerd does not answer, and in the next daemon
//! (`recover`) where it did not in time.

use std::time::Duration;

use super::client::Client;
use super::{is_silence, leases};
use crate::error::{Error, Result};
use crate::operation::Work;

/// How often an undo is tried where containerd does not answer.
const UNDOS: u32 = 10;
/// The time between two tries; no test waits for it.
const BREATH: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 500 });

/// Ends the lease of what holds; of what does not, nothing stays.
pub(super) async fn settle<T, W: Future<Output = Result<()>>>(
    work: &Work,
    client: &Client,
    made: Result<T>,
    steps: impl Fn() -> W,
) -> Result<T> {
    if made.is_err() {
        tell(work, undo(steps).await);
    } else if let Err(error) = leases::close(client, work.id()).await {
        work.warn(format!("a lease is left to expire: {error}"));
    }
    made
}

/// Undoes what failed, in steps that can be taken again: a containerd that is being restarted is waited for a little.
pub(super) async fn undo<W: Future<Output = Result<()>>>(steps: impl Fn() -> W) -> Result<()> {
    again(UNDOS, BREATH, is_silence, steps).await
}

/// Takes steps until they succeed, fail in a way that does not pass, or were tried so often.
pub(super) async fn again<W: Future<Output = Result<()>>>(
    tries: u32,
    breath: Duration,
    passes: impl Fn(&Error) -> bool,
    steps: impl Fn() -> W,
) -> Result<()> {
    for _ in 1..tries {
        match steps().await {
            Err(error) if passes(&error) => tokio::time::sleep(breath).await,
            ended => return ended,
        }
    }
    steps().await
}

/// Tells what an undo could not take away, and does not hide why it had to.
pub(super) fn tell(work: &Work, undone: Result<()>) {
    match undone {
        Ok(()) => {}
        Err(left) if is_silence(&left) => work.leaves(&left),
        Err(left) => work.warn(format!("it leaves something behind: {left}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::cell::Cell;

    use super::*;

    /// Undoes while containerd answers with this error `away` times; answers how often it tried.
    async fn tries(kind: crate::error::Kind, away: u32) -> u32 {
        let tried = Cell::new(0);
        let undone = undo(|| async {
            tried.set(tried.get() + 1);
            if tried.get() > away {
                return Ok(());
            }
            Err(Error::Containerd { action: "undo".into(), message: "no".into(), kind })
        });
        let _ = undone.await;
        tried.get()
    }

    #[tokio::test]
    async fn a_containerd_that_is_away_is_waited_for_a_little() {
        use crate::error::Kind;
        for (kind, away, tried) in [
            (Kind::Unavailable, 0, 1),
            (Kind::Unavailable, 3, 4),
            (Kind::Unavailable, u32::MAX, UNDOS),
            (Kind::Internal, 3, 1),
        ] {
            assert_eq!(tries(kind, away).await, tried, "{kind} {away}");
        }
    }
}
