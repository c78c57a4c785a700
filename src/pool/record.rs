//! `pool.json`: what the pool of a root is.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::error::{Error, Result};
use crate::store::Id;

/// The version of the format.
pub(super) const VERSION: u32 = 1;

const NAME: &str = "pool.json";

/// What the pool is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// [`VERSION`].
    pub(super) version: u32,
    /// False while it is being made: a start removes what there is of it.
    pub(super) made: bool,
    /// Its btrfs, which is found by it whatever a device is called after a restart of the machine.
    pub(super) uuid: String,
    #[serde(flatten)]
    pub(super) kind: Kind,
}

/// Which of the three it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Kind {
    /// `<root>/pool.img`, which may grow to so many bytes.
    Image { size: u64 },
    /// What was called so when it was made.
    Device { device: PathBuf },
    /// Somebody else's to mount.
    Directory { path: PathBuf },
}

impl Kind {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Image { .. } => "image",
            Self::Device { .. } => "device",
            Self::Directory { .. } => "directory",
        }
    }
}

impl Record {
    /// The record of a root; None where there is none.
    pub(super) fn read(root: &Path) -> Result<Option<Self>> {
        let Some(text) = durable::read(root, NAME)? else { return Ok(None) };
        let wrong = |why: String| {
            Error::Config(format!(
                "{} cannot be used: {why}; it says what the pool is: put the right one back",
                root.join(NAME).display()
            ))
        };
        let record: Self = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
        if record.version != VERSION {
            return Err(wrong(format!("it is of version {}, and this loom reads {VERSION}", record.version)));
        }
        Ok(Some(record))
    }

    /// Writes it; durable when it returns.
    pub(super) fn write(&self, root: &Path) -> Result<()> {
        durable::write(root, NAME, self)
    }

    /// Removes it, durably.
    pub(super) fn remove(root: &Path) -> Result<()> {
        durable::remove(root, NAME)
    }
}

/// An id as the UUID of a filesystem.
pub(super) fn uuid(id: Id) -> String {
    let id = id.to_string();
    let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    parts.map(|(from, to)| id.get(from..to).unwrap_or_default()).join("-")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(root.path()).unwrap(), None);
        Record::remove(root.path()).unwrap();
        for kind in [
            Kind::Image { size: 50 << 30 },
            Kind::Device { device: "/dev/vdb".into() },
            Kind::Directory { path: "/srv/pool".into() },
        ] {
            let record = Record {
                version: VERSION,
                made: kind.word() == "image",
                uuid: uuid(Id::random().unwrap()),
                kind,
            };
            record.write(root.path()).unwrap();
            assert_eq!(Record::read(root.path()).unwrap(), Some(record));
        }
        Record::remove(root.path()).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_no_missing_one() {
        let root = tempfile::tempdir().unwrap();
        for text in ["", "{", r#"{"version":2,"made":true,"uuid":"x","kind":"image","size":1}"#] {
            fs::write(root.path().join(NAME), text).unwrap();
            let error = Record::read(root.path()).unwrap_err().to_string();
            assert!(error.contains("pool.json") && error.contains("put the right one back"), "{error}");
        }
    }

    #[test]
    fn an_id_is_a_uuid() {
        let id: Id = "0123456789abcdef0123456789abcdef".parse().unwrap();
        assert_eq!(uuid(id), "01234567-89ab-cdef-0123-456789abcdef");
    }
}
