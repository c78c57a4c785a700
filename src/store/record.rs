//! The rows as the core sees them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::mapping::Mapping;

/// A snapshot's id: 128 random bits, written as 32 lowercase hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Id(u128);

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for Id {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl Id {
    /// A new one from the kernel's random numbers.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|e| Error::Internal(format!("no random numbers: {e}")))?;
        Ok(Self(u128::from_le_bytes(bytes)))
    }
}

impl Id {
    /// True where a text may be the beginning of one, or one: hexadecimal digits, and not so few of them that it
    /// is more likely a slip than meant.
    pub fn may_begin(text: &str) -> bool {
        (4..=32).contains(&text.len()) && text.bytes().all(is_digit)
    }
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
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
        if text.len() != 32 || !text.bytes().all(is_digit) {
            return Err(wrong());
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| wrong())
    }
}

/// A layer's id and the name of its directory; never used twice under one root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
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

/// RFC 3339.
impl FromStr for Time {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::invalid(format!("time {text:?}"), "a time is as 2026-01-31T12:00:00Z");
        let time: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
        i64::try_from(time.as_nanosecond()).map(Self).map_err(|_| wrong())
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
    /// While it is filled: the layer whose directory becomes its own.
    pub was: Option<LayerId>,
    /// The most bytes that may be written to it.
    pub max_size: Option<i64>,
    /// The mapping that the owners in it are written with; none where they are the container's own. Only the
    /// topmost layer of a chain has one.
    pub mapping: Option<Mapping>,
    /// Of one that was sealed as it lay, below a snapshot that lives on: the moment that nothing in it changed
    /// behind.
    pub still: Option<Time>,
    /// How many layers were made one in it; 1 for one that is what was written.
    pub merged: i64,
    /// Where several were: the usage of the topmost alone.
    pub own: Option<Usage>,
    /// The layers that it has the place of: what says that it is stacked on one of these is stacked on it.
    pub instead_of: Vec<LayerId>,
}

impl Layer {
    /// One that is not measured, limited or mapped.
    pub fn new(id: LayerId, home: Home, base: Option<LayerId>, stage: Stage) -> Self {
        Self {
            id,
            home,
            base,
            stage,
            usage: None,
            was: None,
            max_size: None,
            mapping: None,
            still: None,
            merged: 1,
            own: None,
            instead_of: Vec::new(),
        }
    }
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
    /// The operation that made it.
    pub operation: Option<Id>,
    /// When it goes by itself, unless it is pinned.
    pub expires: Option<Time>,
    /// The moment that its source stood still for it: what is changed in the source later has a later ctime.
    pub taken: Option<Time>,
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
    /// What is to be run in it once it goes on: a JSON array of strings.
    pub unquiesce: Option<String>,
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OperationKind {
    /// Makes a committed snapshot of an active one.
    Snapshot,
    /// Makes containers that continue from a live one.
    Fork,
    /// Makes a container of a committed snapshot.
    Clone,
    /// Makes a container's content a committed snapshot's again.
    Rollback,
    /// Makes the content of a branch that of the container it came from.
    Promote,
    /// Starts or continues a container.
    Resume,
    /// Makes an image of a state.
    Commit,
    /// Writes what of an image is this node's alone as a layer of the OCI.
    Portable,
    /// Makes an image of an archive.
    Import,
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Snapshot => "snapshot",
            Self::Fork => "fork",
            Self::Clone => "clone",
            Self::Rollback => "rollback",
            Self::Promote => "promote",
            Self::Resume => "resume",
            Self::Commit => "commit",
            Self::Portable => "portable",
            Self::Import => "import",
        })
    }
}

/// How far an operation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OperationState {
    /// Written down; nothing has changed yet.
    Accepted,
    /// Under way.
    Running,
    /// Done, and its result is kept.
    Succeeded,
    /// Nothing of it stays, but for its error.
    Failed,
    /// Its client has called it off; nothing of it stays.
    Cancelled,
}

impl OperationState {
    /// True once nothing more will happen.
    pub fn ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for OperationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        })
    }
}

/// A step of an operation.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Step {
    /// What is done, such as `freeze`.
    pub name: String,
    /// How long it took, in microseconds; none while it is under way.
    pub took_us: Option<u64>,
}

/// Why something was not done, as it is kept and told later.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    /// The class.
    pub kind: crate::error::Kind,
    /// The stable word for programs.
    pub code: String,
    /// For people.
    pub message: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self { kind: error.kind(), code: error.code().to_owned(), message: error.to_string() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Recorded { kind: failure.kind, code: failure.code, message: failure.message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A tracked piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its id.
    pub id: Id,
    /// What it does.
    pub kind: OperationKind,
    /// To what: the reference that the request named.
    pub subject: String,
    /// containerd's socket.
    pub address: String,
    /// containerd's namespace.
    pub namespace: String,
    /// How far it has come.
    pub state: OperationState,
    /// How much of `total` is done.
    pub done: u64,
    /// How much there is to do, in parts of the operation's own; 0 where that is not known yet.
    pub total: u64,
    /// Its steps, in the order that they were begun.
    pub steps: Vec<Step>,
    /// What did not go as it should and did not make it fail.
    pub warnings: Vec<String>,
    /// Why it failed.
    pub error: Option<Failure>,
    /// What its client calls it.
    pub key: Option<String>,
    /// The request, as JSON.
    pub request: String,
    /// What a restart needs to finish or undo it, as JSON of the room that does the work.
    pub plan: Option<String>,
    /// What it answered, as JSON of the room that does the work.
    pub result: Option<String>,
    /// When it was accepted.
    pub created: Time,
    /// When it ended.
    pub ended: Option<Time>,
}
