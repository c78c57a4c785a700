//! Calls from the doors into the core, each of which runs to its end.

use std::sync::Arc;

use futures::stream::{self, Stream};
use tokio::task::JoinError;
use tokio_util::task::TaskTracker;

use crate::error::{Error, Result};
use crate::snapshot::filter::Filters;
use crate::snapshot::{Listed, Snapshots};

/// The core as the doors call it.
///
/// A transport drops the future of a handler whose client hangs up. The work itself is a task of its
/// own that the handler only waits for, so it goes on; and it is counted, so that a stop can wait for it.
#[derive(Debug, Clone)]
pub(super) struct Core {
    snapshots: Arc<Snapshots>,
    tasks: TaskTracker,
}

impl Core {
    /// Over this core; work is counted in `tasks`.
    pub(super) fn new(snapshots: Arc<Snapshots>, tasks: TaskTracker) -> Self {
        Self { snapshots, tasks }
    }

    /// Makes a call that blocks, on a thread that may.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Snapshots) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let snapshots = Arc::clone(&self.snapshots);
        end(self.tasks.spawn_blocking(move || call(&snapshots)).await)
    }

    /// Runs work that waits for others.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        end(self.tasks.spawn(work).await)
    }

    /// What containerd lists, page after page. Nothing is held between two pages, so whoever reads the
    /// stream may call anything meanwhile.
    pub(super) fn pages(&self, filters: Filters) -> impl Stream<Item = Result<Vec<Listed>>> + use<> {
        let filters = Arc::new(filters);
        let core = self.clone();
        stream::try_unfold(Place::Start, move |place| {
            let (core, filters) = (core.clone(), Arc::clone(&filters));
            async move {
                let after = match place {
                    Place::Start => None,
                    Place::Behind(key) => Some(key),
                    Place::End => return Ok(None),
                };
                let (page, next) = core.call(move |core| core.list(&filters, after.as_deref())).await?;
                Ok(Some((page, next.map_or(Place::End, Place::Behind))))
            }
        })
    }
}

/// Where a listing goes on.
enum Place {
    Start,
    Behind(String),
    End,
}

/// The result of a task; one that panicked is a defect, and only its own request fails.
fn end<T>(task: std::result::Result<Result<T>, JoinError>) -> Result<T> {
    task.unwrap_or_else(|e| Err(Error::Internal(format!("a request ended early: {e}"))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_fails_its_own_request_only() {
        let tasks = TaskTracker::new();
        let error = end::<()>(tasks.spawn(async { panic!("on purpose") }).await).unwrap_err();
        assert!(matches!(error, Error::Internal(_)), "{error}");
        tasks.close();
        tasks.wait().await;
    }
}
