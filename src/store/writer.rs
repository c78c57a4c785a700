//! The one writer: a thread that owns the connection which changes the database.
//!
//! ```text
//!  write() ─┐                    ┌ SAVEPOINT  change a  RELEASE
//!  write() ─┼─ queue ─ BEGIN ────┼ SAVEPOINT  change b  ROLLBACK TO   (b failed; a and c stay)
//!  write() ─┘                    └ SAVEPOINT  change c  RELEASE
//!                      COMMIT (one sync) ─ then a, b and c are answered
//! ```
//!
//! While one group is synced the next one gathers in the queue, so that the number of syncs does not
//! grow with the number of clients, and no one waits for company that does not come. Where a group's
//! transaction is lost, everyone in it is told so, and nothing of it stays.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{JoinHandle, ThreadId};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{Rows, failed};
use crate::error::{Error, Result};
use crate::fault;

/// The most changes of one group: what comes later waits for one more sync instead of holding up those
/// that came first.
const LARGEST_GROUP: usize = 128;

/// A change in the queue.
trait Job: Send {
    /// Runs it and keeps what came out; its failure, where it failed.
    fn run(&mut self, rows: &Rows<'_>) -> Option<&Error>;
    /// Tells the one who waits, when the transaction is on disk or `lost`.
    fn answer(self: Box<Self>, lost: Option<&Error>);
}

struct Change<T, F> {
    run: Option<F>,
    result: Option<Result<T>>,
    answer: mpsc::Sender<Result<T>>,
}

impl<T, F> Job for Change<T, F>
where
    T: Send,
    F: FnOnce(&Rows<'_>) -> Result<T> + Send,
{
    fn run(&mut self, rows: &Rows<'_>) -> Option<&Error> {
        let change = self.run.take()?;
        // The change is rolled back as any that fails, so nothing half-done is seen behind the panic.
        let result = catch_unwind(AssertUnwindSafe(|| change(rows)))
            .unwrap_or_else(|_| Err(Error::Internal("a change of the database panicked".into())));
        self.result.insert(result).as_ref().err()
    }

    fn answer(self: Box<Self>, lost: Option<&Error>) {
        let result = match (self.result, lost) {
            (Some(Err(own)), _) => Err(own),
            (_, Some(lost)) => Err(again(lost)),
            (Some(done), None) => done,
            (None, None) => Err(Error::Internal("a change of the database was not run".into())),
        };
        // Whoever asked waits until it is answered; where it died nevertheless, the change stands.
        let _ = self.answer.send(result);
    }
}

/// The same error once more: each of a group gets one.
fn again(error: &Error) -> Error {
    match error {
        Error::Store { path, message, full } => {
            Error::Store { path: path.clone(), message: message.clone(), full: *full }
        }
        Error::Fault(name) => Error::Fault(name),
        other => Error::Internal(other.to_string()),
    }
}

/// The queue and its thread.
#[derive(Debug)]
pub(super) struct Writer {
    /// None while it is being dropped.
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    id: ThreadId,
    /// Groups that were committed.
    #[cfg(test)]
    pub(super) groups: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Writer {
    /// Starts the thread over `conn`, the connection of the database at `path`.
    pub(super) fn start(conn: Connection, path: PathBuf) -> Result<Self> {
        let (queue, jobs) = mpsc::channel();
        #[cfg(test)]
        let groups = std::sync::Arc::default();
        let not_started = Error::io("start the writer of", path.clone());
        let work = Work {
            conn,
            path,
            #[cfg(test)]
            groups: std::sync::Arc::clone(&groups),
        };
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || work.serve(&jobs))
            .map_err(not_started)?;
        Ok(Self {
            queue: Some(queue),
            id: thread.thread().id(),
            thread: Some(thread),
            #[cfg(test)]
            groups,
        })
    }

    /// Queues a change; the answer comes when it is on disk.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Rows<'_>) -> Result<T> + Send + 'static,
    ) -> Result<mpsc::Receiver<Result<T>>> {
        if std::thread::current().id() == self.id {
            // It would wait for itself for ever.
            return Err(Error::Internal("a change of the database asked for another one".into()));
        }
        let (answer, answers) = mpsc::channel();
        let job = Box::new(Change { run: Some(change), result: None, answer });
        self.queue.as_ref().and_then(|queue| queue.send(job).ok()).ok_or_else(gone)?;
        Ok(answers)
    }
}

/// What is said where the thread has ended.
pub(super) fn gone() -> Error {
    Error::Internal("the writer of the database has ended".into())
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The thread runs what is in the queue, then sees that nobody can add to it.
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // It catches its changes' panics: there is nothing to pass on.
            let _ = thread.join();
        }
    }
}

/// What the thread owns.
struct Work {
    conn: Connection,
    path: PathBuf,
    #[cfg(test)]
    groups: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Work {
    fn serve(self, jobs: &mpsc::Receiver<Box<dyn Job>>) {
        while let Ok(first) = jobs.recv() {
            let mut group = vec![first];
            group.extend(jobs.try_iter().take(LARGEST_GROUP - 1));
            let lost = self.commit(&mut group).err();
            for job in group {
                job.answer(lost.as_ref());
            }
        }
    }

    /// Runs a group in one transaction. An error means that nothing of it stays, except where it is
    /// that of the fault point behind the commit.
    fn commit(&self, group: &mut [Box<dyn Job>]) -> Result<()> {
        fault::point("store.begin")?;
        // Dropped on the way out of an error, it rolls back.
        let transaction = Transaction::new_unchecked(&self.conn, TransactionBehavior::Immediate)
            .map_err(failed(&self.path))?;
        let rows = Rows::new(&self.conn, &self.path);
        for job in group {
            self.sql("SAVEPOINT change")?;
            if let Some(failure) = job.run(&rows) {
                // A full disk can make SQLite roll all of it back by itself.
                if self.conn.is_autocommit() {
                    return Err(again(failure));
                }
                self.sql("ROLLBACK TO change")?;
            }
            self.sql("RELEASE change")?;
        }
        fault::point("store.commit")?;
        transaction.commit().map_err(failed(&self.path))?;
        #[cfg(test)]
        self.groups.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        // On disk: from here on only a death can keep the answer away.
        let _ = fault::point("store.answer");
        Ok(())
    }

    fn sql(&self, statement: &str) -> Result<()> {
        self.conn
            .prepare_cached(statement)
            .and_then(|mut statement| statement.execute([]))
            .map(drop)
            .map_err(failed(&self.path))
    }
}
