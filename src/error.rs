//! One error for the whole core; each transport maps its [`Kind`] to a code once.
//!
//! Every message names the thing it is about and says what to do about it. Messages are written for
//! the person who reads them in a terminal or in containerd's log.

use std::fmt;
use std::path::{Path, PathBuf};

/// What the core and everything above it answers with.
pub type Result<T> = std::result::Result<T, Error>;

/// The class of an error: containerd's own kinds, which every transport has a code for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The thing does not exist.
    NotFound,
    /// The key or name is taken.
    AlreadyExists,
    /// The request can never work as it is.
    InvalidArgument,
    /// The request does not fit the state that things are in.
    FailedPrecondition,
    /// Something changed meanwhile; the request may be made again.
    Aborted,
    /// The caller may not do this.
    PermissionDenied,
    /// No space, or a limit is reached.
    ResourceExhausted,
    /// It took too long.
    DeadlineExceeded,
    /// Something that is needed does not answer.
    Unavailable,
    /// Not offered here.
    Unimplemented,
    /// A defect, or a disk that fails.
    Internal,
}

/// The code of what was called off by its client.
pub(crate) const CANCELLED: &str = "CANCELLED";

/// Everything that can go wrong, one variant a cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No snapshot has this key, name or id.
    #[error("snapshot {0:?} does not exist; `loom ls --all` lists those that do")]
    SnapshotNotFound(String),
    /// The parent that a request names does not exist.
    #[error("parent snapshot {0:?} does not exist")]
    ParentNotFound(String),
    /// The key is another snapshot's.
    #[error("snapshot key {0:?} already exists; choose another or remove it first")]
    KeyExists(String),
    /// The name is another snapshot's.
    #[error("a snapshot named {0:?} already exists; choose another name, or remove it with `loom rm {0}`")]
    NameExists(String),
    /// An image layer with this reference is already there: the unpacker adopts it.
    #[error("layer {0:?} is already unpacked")]
    RefExists(String),
    /// A key, name or label that loom does not take.
    #[error("{what} is not valid: {why}")]
    Invalid {
        /// What was given, and its value where that can be shown.
        what: String,
        /// The rule that it breaks.
        why: String,
    },
    /// The snapshot is of a kind that this cannot be done to.
    #[error("snapshot {key:?} is {kind}, and {needs}")]
    WrongKind {
        /// Its key, name or id.
        key: String,
        /// The kind that it has.
        kind: crate::store::Kind,
        /// What the request needs instead.
        needs: &'static str,
    },
    /// A parent must be committed.
    #[error("parent snapshot {parent:?} is {kind}: a parent must be committed; commit it, or fork it with the label {label}",
        label = crate::snapshot::FORK_LABEL)]
    ParentNotCommitted {
        /// The parent's key.
        parent: String,
        /// The kind that it has.
        kind: crate::store::Kind,
    },
    /// Something that containerd knows stands on it.
    #[error("cannot remove snapshot {key:?}: snapshot {child:?} stands on it; remove that first")]
    HasChild {
        /// The snapshot to remove.
        key: String,
        /// One that stands on it.
        child: String,
    },
    /// It is pinned.
    #[error("snapshot {0:?} is pinned; unpin it first with `loom unpin {0}`")]
    Pinned(String),
    /// containerd owns it.
    #[error("snapshot {0:?} is containerd's; remove its container or image with containerd's own tools")]
    OwnedByContainerd(String),
    /// A prefix or name that several things have.
    #[error("{what:?} is ambiguous; it could be {}", .matches.join(", "))]
    Ambiguous {
        /// What was given.
        what: String,
        /// Everything that it matches.
        matches: Vec<String>,
    },
    /// A branch that loom refuses to make.
    #[error("cannot branch {what:?}: {why}")]
    Refused {
        /// The source that was named.
        what: String,
        /// The reason, and the way out.
        why: String,
    },
    /// The state that something is in does not allow this.
    #[error("{what}: {why}")]
    Precondition {
        /// The thing.
        what: String,
        /// The reason, and the way out.
        why: String,
    },
    /// The chain of layers is longer than overlayfs takes.
    #[error(
        "snapshot {key:?} stands on {depth} layers, more than one overlay mount can name; start from an image with fewer layers"
    )]
    TooDeep {
        /// The snapshot.
        key: String,
        /// Its number of layers.
        depth: usize,
    },
    /// No container has this name.
    #[error(
        "container {name:?} does not exist in namespace {namespace:?}; `ctr -n {namespace} containers ls` lists those that do"
    )]
    ContainerNotFound {
        /// The name or id that was asked for.
        name: String,
        /// containerd's namespace.
        namespace: String,
    },
    /// The container id is taken.
    #[error("container {name:?} already exists in namespace {namespace:?}; choose another name")]
    ContainerExists {
        /// The id that was asked for.
        name: String,
        /// containerd's namespace.
        namespace: String,
    },
    /// No image has this name.
    #[error(
        "image {name:?} does not exist in namespace {namespace:?}; `ctr -n {namespace} images ls` lists those that do"
    )]
    ImageNotFound {
        /// The name that was asked for.
        name: String,
        /// containerd's namespace.
        namespace: String,
    },
    /// The image's name is taken.
    #[error(
        "image {name:?} already exists in namespace {namespace:?}; choose another name, or have this one replaced"
    )]
    ImageExists {
        /// Its whole name.
        name: String,
        /// containerd's namespace.
        namespace: String,
    },
    /// The container's files are not on loom.
    #[error("container {name:?} is on {snapshotter}; run it with --snapshotter loom")]
    NotOnLoom {
        /// The container.
        name: String,
        /// The snapshotter that its record names.
        snapshotter: String,
    },
    /// containerd refused or did not answer.
    #[error("containerd: {action}: {message}")]
    Containerd {
        /// What was asked of it.
        action: String,
        /// What it said.
        message: String,
        /// The kind of its answer.
        kind: Kind,
    },
    /// nerdctl refused or did not end.
    #[error("nerdctl {action}: {message}")]
    Nerdctl {
        /// What it was called for.
        action: String,
        /// What it said.
        message: String,
        /// The kind of that.
        kind: Kind,
    },
    /// A file operation failed.
    #[error("{action} {}: {source}", .path.display())]
    Io {
        /// What was attempted, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The database refused.
    #[error("database {}: {message}", .path.display())]
    Store {
        /// The database file.
        path: PathBuf,
        /// What it said, and what to do where that is known.
        message: String,
        /// True where the disk is full.
        full: bool,
    },
    /// There is too little space for it, though the disk is not full.
    #[error("{0}")]
    NoRoom(String),
    /// A program of others' failed.
    #[error("{program}: {message}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What it said.
        message: String,
    },
    /// The daemon cannot use what it was configured with.
    #[error("{0}")]
    Config(String),
    /// Another request is in the middle of changing it.
    #[error("{0} is being changed by another request; try again")]
    Busy(String),
    /// What a client was sending has no end.
    #[error("the archive was cut off after {received} bytes: {why}")]
    CutOff {
        /// Bytes that came.
        received: u64,
        /// What ended it, and what to do.
        why: &'static str,
    },
    /// A test made this step fail.
    #[error("fault point {0} fired")]
    Fault(&'static str),
    /// No container and no snapshot is called so.
    #[error(
        "no container or image in namespace {namespace:?} and no snapshot is called {what:?}; `loom ls --all` lists the snapshots"
    )]
    NothingFound {
        /// The name or id that was asked for.
        what: String,
        /// containerd's namespace.
        namespace: String,
    },
    /// No operation has this id.
    #[error("operation {0:?} does not exist; `loom operations` lists those that are kept")]
    OperationNotFound(String),
    /// The idempotency key stands for another request.
    #[error("idempotency key {key:?} stands for another request (operation {operation}); choose another key")]
    KeyConflict {
        /// The key.
        key: String,
        /// The operation that has it.
        operation: crate::store::Id,
    },
    /// Its client has called it off.
    #[error("operation {0} was cancelled; what it had made was undone")]
    Cancelled(crate::store::Id),
    /// The error of an operation that has ended, told again.
    #[error("{message}")]
    Recorded {
        /// Its class.
        kind: Kind,
        /// Its stable word.
        code: String,
        /// Its message.
        message: String,
    },
    /// A defect.
    #[error("internal error: {0}; this is a defect in loom, please report it")]
    Internal(String),
}

impl Error {
    /// A constructor for `map_err` on a file operation: `.map_err(Error::io("create", &path))`.
    pub fn io<E: Into<std::io::Error>>(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source: source.into() }
    }

    /// An argument that breaks a rule.
    pub fn invalid(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), why: why.into() }
    }

    /// A state that does not allow what was asked.
    pub fn precondition(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Precondition { what: what.into(), why: why.into() }
    }

    /// The class of this error.
    pub fn kind(&self) -> Kind {
        match self {
            Self::SnapshotNotFound(_)
            | Self::ParentNotFound(_)
            | Self::ContainerNotFound { .. }
            | Self::ImageNotFound { .. }
            | Self::OperationNotFound(_)
            | Self::NothingFound { .. } => Kind::NotFound,
            Self::KeyExists(_)
            | Self::NameExists(_)
            | Self::RefExists(_)
            | Self::KeyConflict { .. }
            | Self::ContainerExists { .. }
            | Self::ImageExists { .. } => Kind::AlreadyExists,
            Self::Invalid { .. }
            | Self::ParentNotCommitted { .. }
            | Self::Ambiguous { .. }
            | Self::Config(_) => Kind::InvalidArgument,
            Self::WrongKind { .. }
            | Self::HasChild { .. }
            | Self::Pinned(_)
            | Self::OwnedByContainerd(_)
            | Self::Refused { .. }
            | Self::Precondition { .. }
            | Self::TooDeep { .. }
            | Self::NotOnLoom { .. } => Kind::FailedPrecondition,
            Self::Containerd { kind, .. } | Self::Nerdctl { kind, .. } | Self::Recorded { kind, .. } => *kind,
            Self::Busy(_) | Self::Cancelled(_) | Self::CutOff { .. } => Kind::Aborted,
            Self::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    Kind::ResourceExhausted
                }
                _ => Kind::Internal,
            },
            Self::Store { full: true, .. } | Self::NoRoom(_) => Kind::ResourceExhausted,
            Self::Store { .. } | Self::Program { .. } | Self::Fault(_) | Self::Internal(_) => Kind::Internal,
        }
    }

    /// A stable word for programs, such as `SNAPSHOT_NOT_FOUND`.
    pub fn code(&self) -> &str {
        match self {
            Self::SnapshotNotFound(_) => "SNAPSHOT_NOT_FOUND",
            Self::ParentNotFound(_) => "PARENT_NOT_FOUND",
            Self::KeyExists(_) | Self::NameExists(_) => "SNAPSHOT_EXISTS",
            Self::RefExists(_) => "LAYER_EXISTS",
            Self::Invalid { .. } => "INVALID_ARGUMENT",
            Self::WrongKind { .. } => "WRONG_KIND",
            Self::ParentNotCommitted { .. } => "PARENT_NOT_COMMITTED",
            Self::HasChild { .. } => "SNAPSHOT_HAS_CHILD",
            Self::Pinned(_) => "SNAPSHOT_PINNED",
            Self::OwnedByContainerd(_) => "OWNED_BY_CONTAINERD",
            Self::Ambiguous { .. } => "AMBIGUOUS",
            Self::Refused { .. } => "BRANCH_REFUSED",
            Self::Precondition { .. } => "FAILED_PRECONDITION",
            Self::TooDeep { .. } => "TOO_DEEP",
            Self::ContainerNotFound { .. } => "CONTAINER_NOT_FOUND",
            Self::ContainerExists { .. } => "CONTAINER_EXISTS",
            Self::ImageNotFound { .. } => "IMAGE_NOT_FOUND",
            Self::ImageExists { .. } => "IMAGE_EXISTS",
            Self::NotOnLoom { .. } => "NOT_ON_LOOM",
            Self::Containerd { .. } => "CONTAINERD",
            Self::Nerdctl { .. } => "NERDCTL",
            Self::Config(_) => "CONFIG",
            Self::NoRoom(_) => "NO_SPACE",
            Self::Program { .. } => "PROGRAM",
            Self::Io { .. } | Self::Store { .. } if self.kind() == Kind::ResourceExhausted => "NO_SPACE",
            Self::Io { .. } => "IO",
            Self::Store { .. } => "STORE",
            Self::Busy(_) => "BUSY",
            Self::CutOff { .. } => "ARCHIVE_CUT_OFF",
            Self::Fault(_) => "FAULT",
            Self::NothingFound { .. } => "NOT_FOUND",
            Self::OperationNotFound(_) => "OPERATION_NOT_FOUND",
            Self::KeyConflict { .. } => "IDEMPOTENCY_CONFLICT",
            Self::Cancelled(_) => CANCELLED,
            Self::Recorded { code, .. } => code,
            Self::Internal(_) => "INTERNAL",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "not found",
            Self::AlreadyExists => "already exists",
            Self::InvalidArgument => "invalid argument",
            Self::FailedPrecondition => "failed precondition",
            Self::Aborted => "aborted",
            Self::PermissionDenied => "permission denied",
            Self::ResourceExhausted => "resource exhausted",
            Self::DeadlineExceeded => "deadline exceeded",
            Self::Unavailable => "unavailable",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
        })
    }
}
