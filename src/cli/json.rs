//! The objects that programs read: `snake_case`, times in RFC 3339 UTC, an absent value is null.

use std::collections::BTreeMap;

use serde::Serialize;

use super::client::Failure;
use super::units::time;
use super::{Answer, operations};
use crate::protos::admin;

mod disk;
mod image;
mod pool;

pub(super) use disk::{Disk, Limited};
pub(super) use image::{Change, Committed, Image, Imported, Portable, Pushed, Written};
pub(super) use pool::{Moved, Pool};

/// A snapshot.
#[derive(Serialize)]
pub(super) struct Snapshot<'a> {
    id: &'a str,
    name: Option<&'a str>,
    key: Option<&'a str>,
    kind: &'static str,
    parent: Option<&'a str>,
    source: Option<&'a str>,
    labels: BTreeMap<&'a str, &'a str>,
    created: Option<String>,
    updated: Option<String>,
    pinned: bool,
    home: Option<&'a str>,
    depth: u32,
    container: Option<&'a str>,
    container_name: Option<&'a str>,
    namespace: Option<&'a str>,
    image_layer: bool,
    operation: Option<&'a str>,
    expires: Option<String>,
    images: &'a [String],
    size: Option<Size>,
    limit: Option<u64>,
}

/// What a snapshot takes on disk.
#[derive(Serialize)]
struct Size {
    exclusive: u64,
    shared: u64,
}

impl<'a> From<&'a admin::Snapshot> for Snapshot<'a> {
    fn from(snapshot: &'a admin::Snapshot) -> Self {
        Self {
            id: &snapshot.id,
            name: present(&snapshot.name),
            key: present(&snapshot.key),
            kind: kind(snapshot),
            parent: present(&snapshot.parent),
            source: present(&snapshot.source),
            labels: snapshot.labels.iter().map(|(key, value)| (&**key, &**value)).collect(),
            created: time(&snapshot.created).map(|time| time.to_string()),
            updated: time(&snapshot.updated).map(|time| time.to_string()),
            pinned: snapshot.pinned,
            home: present(&snapshot.home),
            depth: snapshot.depth,
            container: present(&snapshot.container),
            container_name: present(&snapshot.container_name).or(present(&snapshot.container)),
            namespace: present(&snapshot.namespace),
            image_layer: snapshot.image_layer,
            operation: present(&snapshot.operation),
            expires: time(&snapshot.expires).map(|time| time.to_string()),
            images: &snapshot.images,
            size: snapshot.size.as_ref().map(|size| Size { exclusive: size.exclusive, shared: size.shared }),
            limit: Some(snapshot.limit).filter(|limit| *limit != 0),
        }
    }
}

/// What a branch cost.
#[derive(Serialize)]
pub(super) struct Cost<'a> {
    method: Option<&'a str>,
    paused_us: u64,
    total_us: u64,
}

impl<'a> From<&'a admin::Cost> for Cost<'a> {
    fn from(cost: &'a admin::Cost) -> Self {
        Self { method: present(&cost.method), paused_us: cost.paused_us, total_us: cost.total_us }
    }
}

/// A container that a branch made, or why it did not.
#[derive(Serialize)]
pub(super) struct Forked<'a> {
    container: Option<&'a str>,
    name: Option<&'a str>,
    namespace: Option<&'a str>,
    snapshot: Option<&'a str>,
    pid: Option<u32>,
    error: Option<&'a str>,
}

impl<'a> From<&'a admin::Forked> for Forked<'a> {
    fn from(forked: &'a admin::Forked) -> Self {
        Self {
            container: present(&forked.container),
            name: present(forked.called()),
            namespace: present(&forked.namespace),
            snapshot: present(&forked.snapshot),
            pid: Some(forked.pid).filter(|pid| *pid != 0),
            error: present(&forked.error),
        }
    }
}

/// What `loom snapshot` made.
#[derive(Serialize)]
pub(super) struct Snapshotted<'a> {
    pub(super) operation: &'a str,
    pub(super) snapshot: Snapshot<'a>,
    pub(super) cost: Cost<'a>,
}

/// What `loom fork` made.
#[derive(Serialize)]
pub(super) struct Branched<'a> {
    pub(super) operation: &'a str,
    pub(super) forks: Vec<Forked<'a>>,
    pub(super) cost: Cost<'a>,
}

/// What `loom clone` made.
#[derive(Serialize)]
pub(super) struct Cloned<'a> {
    pub(super) operation: &'a str,
    pub(super) clone: Forked<'a>,
    pub(super) cost: Cost<'a>,
}

/// A container whose content was replaced.
#[derive(Serialize)]
pub(super) struct Rolled<'a> {
    container: &'a str,
    name: &'a str,
    namespace: Option<&'a str>,
    snapshot: Option<&'a str>,
    kept: Option<&'a str>,
    kept_name: Option<&'a str>,
    pid: Option<u32>,
}

impl<'a> From<&'a admin::Rolled> for Rolled<'a> {
    fn from(rolled: &'a admin::Rolled) -> Self {
        Self {
            container: &rolled.container,
            name: rolled.called(),
            namespace: present(&rolled.namespace),
            snapshot: present(&rolled.snapshot),
            kept: present(&rolled.kept),
            kept_name: present(&rolled.kept_name),
            pid: Some(rolled.pid).filter(|pid| *pid != 0),
        }
    }
}

/// What `loom rollback` or `loom promote` changed.
#[derive(Serialize)]
pub(super) struct Changed<'a> {
    pub(super) operation: &'a str,
    pub(super) container: Rolled<'a>,
    pub(super) cost: Cost<'a>,
}

/// What `loom prune` removed, or would have.
#[derive(Serialize)]
pub(super) struct Pruned<'a> {
    pub(super) dry_run: bool,
    pub(super) snapshots: Vec<Snapshot<'a>>,
}

/// Something that does not agree.
#[derive(Serialize)]
pub(super) struct Finding<'a> {
    code: &'a str,
    what: &'a str,
    message: &'a str,
    bytes: u64,
    repair: &'a str,
}

impl<'a> From<&'a admin::Finding> for Finding<'a> {
    fn from(finding: &'a admin::Finding) -> Self {
        let admin::Finding { code, what, message, bytes, repair, .. } = finding;
        Self { code, what, message, bytes: *bytes, repair }
    }
}

/// What `loom resume` started.
#[derive(Serialize)]
pub(super) struct Resumed<'a> {
    pub(super) operation: &'a str,
    pub(super) container: &'a str,
    pub(super) name: &'a str,
    pub(super) pid: u32,
}

/// That a reference was unpinned.
#[derive(Serialize)]
pub(super) struct Unpinned<'a> {
    pub(super) reference: &'a str,
    pub(super) pinned: bool,
}

/// That a reference was removed.
#[derive(Serialize)]
pub(super) struct Removed<'a> {
    pub(super) reference: &'a str,
    pub(super) removed: bool,
}

/// The daemon.
#[derive(Serialize)]
pub(super) struct Status<'a> {
    version: &'a str,
    pid: u32,
    started: Option<String>,
    root: &'a str,
    root_filesystem: &'a str,
    pool: Option<&'a str>,
    pool_state: Option<Pool<'a>>,
    method: &'a str,
    method_why: &'a str,
    seals: bool,
    containerd: &'a str,
    listed: u64,
    held: u64,
    layers: u64,
}

impl<'a> From<&'a admin::StatusResponse> for Status<'a> {
    fn from(status: &'a admin::StatusResponse) -> Self {
        Self {
            version: &status.version,
            pid: status.pid,
            started: time(&status.started).map(|time| time.to_string()),
            root: &status.root,
            root_filesystem: &status.root_filesystem,
            pool: present(&status.pool),
            pool_state: status.pool_state.as_ref().map(Pool::from),
            method: &status.method,
            method_why: &status.method_why,
            seals: status.seals,
            containerd: &status.containerd,
            listed: status.listed,
            held: status.held,
            layers: status.layers,
        }
    }
}

/// A step of an operation; what is under way has taken no time yet.
#[derive(Serialize)]
struct Step<'a> {
    name: &'a str,
    took_us: Option<u64>,
}

/// An operation.
#[derive(Serialize)]
pub(super) struct Operation<'a> {
    id: &'a str,
    kind: &'static str,
    subject: &'a str,
    namespace: &'a str,
    state: &'static str,
    done: u64,
    total: u64,
    steps: Vec<Step<'a>>,
    warnings: &'a [String],
    error: Option<ErrorBody<'a>>,
    idempotency_key: Option<&'a str>,
    created: Option<String>,
    ended: Option<String>,
    result: Option<serde_json::Value>,
}

impl<'a> From<&'a admin::Operation> for Operation<'a> {
    fn from(operation: &'a admin::Operation) -> Self {
        let step = |step: &'a admin::Step| Step {
            name: &step.name,
            took_us: Some(step.took_us).filter(|us| *us != 0),
        };
        let error = ErrorBody { code: operation.error_code.clone(), message: &operation.error };
        Self {
            id: &operation.id,
            kind: operations::kind(operation),
            subject: &operation.subject,
            namespace: &operation.namespace,
            state: operations::state(operation),
            done: operation.done,
            total: operation.total,
            steps: operation.steps.iter().map(step).collect(),
            warnings: &operation.warnings,
            error: (!operation.error.is_empty()).then_some(error),
            idempotency_key: present(&operation.idempotency_key),
            created: time(&operation.created).map(|time| time.to_string()),
            ended: time(&operation.ended).map(|time| time.to_string()),
            result: serde_json::from_str(&operation.result).ok(),
        }
    }
}

#[derive(Serialize)]
struct Error<'a> {
    error: ErrorBody<'a>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: String,
    message: &'a str,
}

/// `{"error":{"code":"NOT_FOUND","message":"..."}}`, on one line: there may be several.
pub(super) fn error(failure: &Failure) -> String {
    let body = ErrorBody { code: format!("{:?}", failure.code), message: &failure.message };
    serde_json::to_string(&Error { error: body }).unwrap_or_else(|error| error.to_string()) + "\n"
}

/// An object or an array, for a person's eyes as well.
pub(super) fn text(value: &impl Serialize) -> Result<String, Failure> {
    written(serde_json::to_string_pretty(value))
}

/// The same on a line of its own.
pub(super) fn line(value: &impl Serialize) -> Result<String, Failure> {
    written(serde_json::to_string(value))
}

fn written(text: serde_json::Result<String>) -> Result<String, Failure> {
    text.map(|text| text + "\n")
        .map_err(|error| Failure::new(ttrpc::Code::INTERNAL, format!("cannot write JSON: {error}")))
}

/// The same as a verb's whole answer.
pub(super) fn answer(value: &impl Serialize) -> Result<Answer, Failure> {
    text(value).map(Answer::of)
}

/// An array of snapshots.
pub(super) fn snapshots<'a>(all: impl IntoIterator<Item = &'a admin::Snapshot>) -> Result<String, Failure> {
    text(&all.into_iter().map(Snapshot::from).collect::<Vec<_>>())
}

/// The word for a snapshot's kind.
pub(super) fn kind(snapshot: &admin::Snapshot) -> &'static str {
    match snapshot.kind.enum_value() {
        Ok(admin::Kind::KIND_ACTIVE) => "active",
        Ok(admin::Kind::KIND_VIEW) => "view",
        Ok(admin::Kind::KIND_COMMITTED) => "committed",
        Ok(admin::Kind::KIND_UNSPECIFIED) | Err(_) => "unknown",
    }
}

fn present(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
