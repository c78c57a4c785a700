//! SQLite: the only place with SQL.
//!
//! One file, `loom.db`, in WAL mode:
//!
//! ```text
//! snapshots   names: id, key, name, kind, parent and source (→ snapshots), layer (→ layers), holds,
//!             labels (JSON), times, captured; the parts of the key and the unpacker's ref, for look-ups
//! layers      bytes: id (its directory), home, base (→ layers), stage, usage, limit, what it is filled from
//! pauses      containers that are paused, or are about to be
//! operations  tracked work: its request, its plan while it is under way, its result or error
//! ```
//!
//! The promise: when [`Store::write`] answers, the change is on disk (`synchronous = FULL`), all of it
//! or, where it answers an error, nothing of it; every [`Store::read`] that starts later sees it, and
//! sees one state of all rows. Changes of several clients share one sync ([`writer`]). A file that is
//! damaged, another program's or a newer loom's is refused with the way out, and left as it is.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior, ffi};
use rusqlite_migration::{M, Migrations};

use crate::error::{Error, Result};
use crate::fault;

mod columns;
#[cfg(test)]
mod model;
mod operations;
pub mod record;
mod rows;
#[cfg(test)]
mod tests;
mod writer;

pub use record::{
    Failure, Home, Id, Kind, Layer, LayerId, Operation, OperationKind, OperationState, Pause, Snapshot,
    Stage, Step, Time, Usage,
};
pub use rows::Rows;

/// What brought the database from each version to the next; a new one goes to the end.
const MIGRATIONS: &[M<'static>] = &[
    M::up(include_str!("schema-1.sql")),
    M::up(include_str!("schema-2.sql")),
    M::up(include_str!("schema-3.sql")),
    M::up(include_str!("schema-4.sql")),
];

/// The file's mark, as `schema-1.sql` sets it.
const APPLICATION_ID: i32 = 0x6c6f_6f6d;

/// How long a statement waits for a lock: only another program's, such as a backup.
const BUSY: Duration = Duration::from_secs(10);

/// Idle readers that are kept; more are opened while they are needed.
const IDLE_READERS: usize = 8;

/// The database: one writer that groups concurrent changes into one sync, and readers beside it.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    // Before the writer: the last connection to close tidies the WAL away, and that is the writer's.
    readers: Mutex<Vec<Connection>>,
    writer: writer::Writer,
}

impl Store {
    /// Opens or makes the database, and brings an older one up to date.
    pub fn open(path: &Path) -> Result<Self> {
        fault::point("store.open")?;
        create(path)?;
        let mut conn = connect(path)?;
        inspect(&conn, path)?;
        let mode: String = conn
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
            .map_err(failed(path))?;
        if mode != "wal" {
            return Err(refused(
                path,
                "its filesystem has no shared memory maps; put the root on a local one",
            ));
        }
        conn.pragma_update(None, "synchronous", "FULL").map_err(failed(path))?;
        Migrations::from_slice(MIGRATIONS).to_latest(&mut conn).map_err(|e| match e {
            rusqlite_migration::Error::RusqliteError { err, .. } => failed(path)(err),
            other => refused(path, format!("it cannot be brought up to date: {other}")),
        })?;
        let path = path.to_path_buf();
        Ok(Self { writer: writer::Writer::start(conn, path.clone())?, readers: Mutex::default(), path })
    }

    /// Runs `change` in a transaction; answers when it is on disk. Where `change` fails, nothing of
    /// it stays. It may run on another thread, beside others' changes in one transaction, and must not
    /// ask for another change.
    pub fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Rows<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.submit(change)?.recv().map_err(|_| writer::gone())?
    }

    /// Runs `look` on one consistent state of the database.
    pub fn read<T>(&self, look: impl FnOnce(&Rows<'_>) -> Result<T>) -> Result<T> {
        let idle = self.idle().pop();
        let conn = match idle {
            Some(conn) => conn,
            None => self.reader()?,
        };
        let transaction =
            Transaction::new_unchecked(&conn, TransactionBehavior::Deferred).map_err(failed(&self.path))?;
        let seen = look(&Rows::new(&conn, &self.path));
        transaction.finish().map_err(failed(&self.path))?;
        let mut idle = self.idle();
        if idle.len() < IDLE_READERS {
            idle.push(conn);
        }
        seen
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        // A list of connections is whole after any panic.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> Result<Connection> {
        let conn = connect(&self.path)?;
        conn.pragma_update(None, "query_only", true).map_err(failed(&self.path))?;
        Ok(conn)
    }
}

/// Makes the file where there is none, for root alone: it keeps what containers were started with.
fn create(path: &Path) -> Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {
            let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(directory).and_then(|d| d.sync_all()).map_err(Error::io("sync", directory))
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(Error::io("create the database", path)(e)),
    }
}

fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<Connection> {
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(BUSY)?;
        conn.pragma_update(None, "foreign_keys", true)?;
        conn.set_prepared_statement_cache_capacity(64);
        Ok(conn)
    };
    open().map_err(failed(path))
}

/// Refuses a file that this loom must not write to. It only reads.
fn inspect(conn: &Connection, path: &Path) -> Result<()> {
    let ask = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i32>(0)).map_err(failed(path));
    let tables = ask("SELECT count(*) FROM sqlite_schema")?;
    let version = ask("PRAGMA user_version")?;
    if tables == 0 && version == 0 {
        return Ok(());
    }
    if ask("PRAGMA application_id")? != APPLICATION_ID {
        return Err(refused(path, "it is another program's; choose another root, or move it away"));
    }
    if usize::try_from(version).map_or(true, |version| version > MIGRATIONS.len()) {
        return Err(refused(
            path,
            format!(
                "it is a newer loom's (schema {version}, this one knows {}); \
                 upgrade loom, or restore the backup from before the upgrade",
                MIGRATIONS.len()
            ),
        ));
    }
    let damage: String =
        conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed(path))?;
    if damage == "ok" { Ok(()) } else { Err(damaged(path, &damage)) }
}

fn refused(path: &Path, message: impl Into<String>) -> Error {
    Error::Store { path: path.to_path_buf(), message: message.into(), full: false }
}

fn damaged(path: &Path, what: &str) -> Error {
    refused(
        path,
        format!(
            "it is damaged ({what}); stop loomd and restore it from a backup, or make it anew with `loom check --root {} --rebuild`",
            path.parent().unwrap_or(path).display()
        ),
    )
}

/// A constructor for `map_err` on what SQLite answers.
fn failed(path: &Path) -> impl FnOnce(rusqlite::Error) -> Error {
    move |error| match error.sqlite_error() {
        Some(cause) if is_full(path, *cause) => Error::Store {
            path: path.to_path_buf(),
            message: format!("{error}; free space on its filesystem"),
            full: true,
        },
        Some(cause) => match cause.code {
            ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt => damaged(path, &error.to_string()),
            // The core asks for what the rules allow: that the schema refuses it is a defect.
            ErrorCode::ConstraintViolation => Error::Internal(format!("{}: {error}", path.display())),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                refused(path, format!("{error}: another program holds it; end that, then try again"))
            }
            _ => refused(path, error.to_string()),
        },
        // A row that does not read as a record.
        None => damaged(path, &error.to_string()),
    }
}

/// True where it failed for want of space. SQLite has a code of its own for a write(2) that finds no
/// space, and tells other calls that find none as I/O errors.
fn is_full(path: &Path, cause: ffi::Error) -> bool {
    match cause.code {
        ErrorCode::DiskFull => true,
        ErrorCode::SystemIoFailure => {
            cause.extended_code == ffi::SQLITE_IOERR_SHMSIZE
                || rustix::fs::statvfs(path).is_ok_and(|space| space.f_bavail == 0)
        }
        _ => false,
    }
}
