//! The rows as the core sees them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};

/// A snapshot's id: 128 random bits, written as 32 lowercase hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u128);

impl Id {
    /// A new one from the kernel's random numbers.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|e| Error::Internal(format!("no random numbers: {e}")))?;
        Ok(Self(u128::from_le_bytes(bytes)))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Id {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::invalid(format!("id {text:?}"), "an id is 32 lowercase hex digits");
        if text.len() != 32 || text.bytes().any(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong());
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| wrong())
    }
}

/// A layer's id and the name of its directory; never used twice under one root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId(pub i64);

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A moment: nanoseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

impl Time {
    /// This moment, by the machine's clock.
    pub fn now() -> Self {
        SystemTime::now().into()
    }
}

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        let nanos = |d: std::time::Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(nanos(after)),
            Err(before) => Self(-nanos(before.duration())),
        }
    }
}

impl From<Time> for SystemTime {
    fn from(time: Time) -> Self {
        let distance = std::time::Duration::from_nanos(time.0.unsigned_abs());
        if time.0 < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
    }
}

/// RFC 3339 in UTC.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(time) => time.fmt(f),
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}

/// What a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Writable.
    Active,
    /// Read-only, and never a parent.
    View,
    /// Immutable.
    Committed,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::View => "view",
            Self::Committed => "committed",
        })
    }
}

/// Where a layer's bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Home {
    /// A directory under the root: it stacks.
    Plain,
    /// A btrfs subvolume in the pool: it branches.
    Pool,
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Pool => "pool",
        })
    }
}

/// What a layer is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Being filled; nothing stands on it, and a restart discards it.
    Filling,
    /// An active snapshot writes to it.
    Writable,
    /// Immutable and on disk.
    Sealed,
    /// Nothing stands on it any more; its directory is on its way to the trash.
    Doomed,
}

/// Disk space and inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes.
    pub size: i64,
    /// Inodes.
    pub inodes: i64,
}

impl std::ops::Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { size: self.size + other.size, inodes: self.inodes + other.inodes }
    }
}

/// Bytes: a directory with `fs/`, `work/` while it is writable, and the layer below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its id and the name of its directory.
    pub id: LayerId,
    /// Where it lies.
    pub home: Home,
    /// The layer that it is stacked on.
    pub base: Option<LayerId>,
    /// What it is in.
    pub stage: Stage,
    /// Measured once, after it was sealed and when it is first asked for.
    pub usage: Option<Usage>,
}

/// A snapshot: its key, its kind, the parent it reports, labels, times, and the layer it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id, for life.
    pub id: Id,
    /// containerd's key; none for loom's own and for rows that only lineage needs.
    pub key: Option<String>,
    /// loom's name for it.
    pub name: Option<String>,
    /// What it is.
    pub kind: Kind,
    /// The snapshot below it.
    pub parent: Option<Id>,
    /// The snapshot that it was branched from.
    pub source: Option<Id>,
    /// Its top layer; none once its bytes are gone.
    pub layer: Option<LayerId>,
    /// A hold that no removal and no expiry overrides.
    pub pinned: bool,
    /// loom keeps it for a request that is under way, and no longer.
    pub transient: bool,
    /// Labels, as containerd has them.
    pub labels: BTreeMap<String, String>,
    /// When it was made, or committed.
    pub created: Time,
    /// When it last changed.
    pub updated: Time,
    /// The container it is or was a state of, as JSON of the `containerd` room; the core only keeps it.
    pub captured: Option<String>,
}

impl Snapshot {
    /// What people call it: its name, else its key, else its id.
    pub fn title(&self) -> String {
        self.name.clone().or_else(|| self.key.clone()).unwrap_or_else(|| self.id.to_string())
    }

    /// True while loom keeps it whatever containerd does.
    pub fn held(&self) -> bool {
        self.pinned || self.name.is_some() || self.transient
    }
}

/// A container that loom has paused, written down before the pause so that a crash cannot leave it so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// containerd's socket.
    pub address: String,
    /// containerd's namespace.
    pub namespace: String,
    /// The container's id.
    pub container: String,
}
