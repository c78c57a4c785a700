//! The objects that programs read: `snake_case`, times in RFC 3339 UTC, an absent value is null.

use std::collections::BTreeMap;

use serde::Serialize;

use super::client::Failure;
use super::units::time;
use crate::protos::admin;

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
    namespace: Option<&'a str>,
    image_layer: bool,
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
            namespace: present(&snapshot.namespace),
            image_layer: snapshot.image_layer,
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
    namespace: Option<&'a str>,
    snapshot: Option<&'a str>,
    pid: Option<u32>,
    error: Option<&'a str>,
}

impl<'a> From<&'a admin::Forked> for Forked<'a> {
    fn from(forked: &'a admin::Forked) -> Self {
        Self {
            container: present(&forked.container),
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
    pub(super) snapshot: Snapshot<'a>,
    pub(super) cost: Cost<'a>,
}

/// What `loom fork` made.
#[derive(Serialize)]
pub(super) struct Forks<'a> {
    pub(super) forks: Vec<Forked<'a>>,
    pub(super) cost: Cost<'a>,
}

/// What `loom clone` made.
#[derive(Serialize)]
pub(super) struct Cloned<'a> {
    pub(super) clone: Forked<'a>,
    pub(super) cost: Cost<'a>,
}

/// What `loom resume` started.
#[derive(Serialize)]
pub(super) struct Resumed<'a> {
    pub(super) container: &'a str,
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
    method: &'a str,
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
            method: &status.method,
            containerd: &status.containerd,
            listed: status.listed,
            held: status.held,
            layers: status.layers,
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
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|error| Failure::new(ttrpc::Code::INTERNAL, format!("cannot write JSON: {error}")))
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
