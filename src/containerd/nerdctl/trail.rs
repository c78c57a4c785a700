//! What tells a restart how far nerdctl had come for an operation.
//!
//! ```text
//! <root>/nerdctl/<operation>/lock    shared by every call that is under way, whoever has started it
//!                           /<n>     the id of the n-th container, written by nerdctl before all else
//! ```
//!
//! A container that nerdctl has made carries the operation's label. One that it was killed in the middle of is
//! known by its id alone: its state directory, its hosts file and its name have no container then, and nerdctl
//! has no command for them.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::store::Id;

/// The directory of all trails.
const DIR: &str = "nerdctl";
/// The lock's name in a trail.
const LOCK: &str = "lock";
/// How long calls of an earlier daemon are waited for at once; recovery comes back.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 10 });
/// The time between two looks.
const BREATH: Duration = Duration::from_millis(50);

/// One operation's.
#[derive(Debug)]
pub(super) struct Trail {
    dir: PathBuf,
    lock: File,
}

impl Trail {
    /// Begins that of an operation of the daemon of this root.
    pub(super) fn begin(root: &Path, operation: Id) -> Result<Self> {
        crate::fault::point("containerd.nerdctl.trail")?;
        let dir = dir(root, operation);
        fs::create_dir_all(&dir).map_err(Error::io("make directory", &dir))?;
        let lock = open(&dir)?;
        lock.lock_shared().map_err(Error::io("lock", dir.join(LOCK)))?;
        Ok(Self { dir, lock })
    }

    /// That of an operation whose calls have all ended, those of an earlier daemon too: they are waited for, but
    /// not for ever. None where there is none.
    pub(super) async fn ended(root: &Path, operation: Id) -> Result<Option<Self>> {
        let dir = dir(root, operation);
        if !dir.exists() {
            return Ok(None);
        }
        let lock = open(&dir)?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Some(Self { dir, lock })),
                Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(BREATH).await;
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::precondition(
                        format!("operation {operation}"),
                        "a nerdctl that an earlier loomd has called for it still runs; end that, or wait for it",
                    ));
                }
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", dir.join(LOCK))(error)),
            }
        }
    }

    /// The lock, for a call to hold.
    pub(super) fn lock(&self) -> &File {
        &self.lock
    }

    /// Where nerdctl writes the id of the `n`-th container.
    pub(super) fn id_file(&self, n: usize) -> PathBuf {
        self.dir.join(n.to_string())
    }

    /// The id of the `n`-th container, where nerdctl came so far.
    pub(super) fn id(&self, n: usize) -> Result<Option<String>> {
        read_id(&self.id_file(n))
    }

    /// The ids of all containers that nerdctl began.
    pub(super) fn ids(&self) -> Result<Vec<String>> {
        let failed = || Error::io::<io::Error>("read directory", &self.dir);
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            if !path.ends_with(LOCK) {
                ids.extend(read_id(&path)?);
            }
        }
        Ok(ids)
    }

    /// Ends it: nothing is left to undo, or to know.
    pub(super) fn end(self) -> Result<()> {
        fs::remove_dir_all(&self.dir).map_err(Error::io("remove", &self.dir))
    }
}

fn dir(root: &Path, operation: Id) -> PathBuf {
    root.join(DIR).join(operation.to_string())
}

fn open(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK);
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).open(&path).map_err(Error::io("open", &path))
}

/// An id that nerdctl has written: 64 hex digits. What a power cut left of it is none.
fn read_id(path: &Path) -> Result<Option<String>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let id = text.trim();
    let whole = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    Ok(whole.then(|| id.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn a_trail_tells_the_ids_and_goes() {
        let root = tempfile::tempdir().unwrap();
        let operation = Id::random().unwrap();
        assert!(Trail::ended(root.path(), operation).await.unwrap().is_none());
        let trail = Trail::begin(root.path(), operation).unwrap();
        fs::write(trail.id_file(0), format!("{}\n", "a".repeat(64))).unwrap();
        fs::write(trail.id_file(1), "../../etc").unwrap();
        assert_eq!((trail.id(1).unwrap(), trail.id(2).unwrap()), (None, None));
        drop(trail);
        let trail = Trail::ended(root.path(), operation).await.unwrap().unwrap();
        assert_eq!(trail.ids().unwrap(), ["a".repeat(64)]);
        trail.end().unwrap();
        assert!(Trail::ended(root.path(), operation).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_call_under_way_is_waited_for_a_while() {
        let root = tempfile::tempdir().unwrap();
        let operation = Id::random().unwrap();
        let trail = Trail::begin(root.path(), operation).unwrap();
        let mut call = std::process::Command::new("cat");
        // `cat` reads the lock's file, which is empty, and ends; another one holds on to it meanwhile.
        let held = trail.lock().try_clone().unwrap();
        drop(trail);
        let late = Trail::ended(root.path(), operation).await.unwrap_err();
        assert_eq!(late.kind(), crate::error::Kind::FailedPrecondition);
        assert!(call.stdin(held).status().unwrap().success());
        drop(call);
        assert!(Trail::ended(root.path(), operation).await.unwrap().is_some());
    }
}
