//! Containers of nerdctl's: made, started, stopped and removed by nerdctl itself, whose files and labels change
//! by version.
//!
//! The way to it is in the container: its OCI hook names the binary and the global flags that it was made with.
//! A fork is nerdctl's container first, with its own name, id, addresses and files, of an image that is empty
//! and costs nothing; then it becomes its source's:
//!
//! ```text
//!  volumes made ── state taken, volumes copied (one pause) ─┬─ nerdctl create of the empty image
//!                                                           │  its snapshot: removed, prepared from the state
//!                                                           │  its record: the source's, but for its identity
//!                                                           │  nerdctl start
//!                                                           └─ … a container each …
//! ```
//!
//! - [`command`]: one call of nerdctl
//! - [`trail`]: what tells a restart how far nerdctl had come
//! - [`create`]: the flags that a fork is created with
//! - [`merge`]: what it has of its source, and what is its own
//! - [`volume`]: the volumes that it does not share
//! - [`fork`]: all of it, in order
//! - [`clean`]: what nerdctl has made goes again

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::captured::Captured;
use super::client::Client;
use super::{Changes, Holder, NERDCTL, Options};
use crate::error::{Error, Result};
use crate::store::Snapshot;

mod clean;
mod command;
mod create;
mod fork;
mod merge;
mod trail;
mod volume;

/// The label on containers and volumes that says which operation made them.
pub(super) const OPERATION_LABEL: &str = "loom.operation";

/// What nerdctl's hooks call it with, behind its global flags.
const OWN_VERB: &str = "internal";
/// Where nerdctl keeps a container's directory: `<store>/containers/<namespace>/<id>`.
const STATE_DIR: &str = "nerdctl/state-dir";
/// Flags that a call has from us, or that would only make it talk; the first three are other names of
/// the address.
const DROPPED: [&str; 9] = [
    "--H",
    "--a",
    "--host",
    "--n",
    "--namespace",
    "--snapshotter",
    "--storage-driver",
    "--debug",
    "--debug-full",
];
/// What of its hook's environment nerdctl reads: by name, and by the beginnings of names.
const ENV: [&str; 5] = ["PATH", "HOME", "DOCKER_CONFIG", "NETCONFPATH", "TMPDIR"];
const ENV_PREFIXES: [&str; 5] = ["NERDCTL_", "CONTAINERD_", "CNI_", "XDG_", "ROOTLESSKIT_"];

/// How nerdctl is called for a container: kept in an operation's plan, so that a restart can undo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Way {
    /// Its binary.
    binary: String,
    /// Its global flags.
    flags: Vec<String>,
    /// Its environment, `NAME=VALUE`.
    env: Vec<String>,
    /// Where it keeps what it knows, where its container says so.
    store: Option<PathBuf>,
}

/// What forks of a container are made from.
#[derive(Debug)]
pub(super) enum Origin<'a> {
    /// A live one, and its snapshot.
    Live(&'a Holder, Snapshot),
    /// A committed state of one that may be gone.
    State(Snapshot),
}

/// The containers that are to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order<'a> {
    /// The containerd and namespace to make them in.
    pub(super) client: &'a Client,
    /// How nerdctl is called.
    pub(super) way: &'a Way,
    /// Their source.
    pub(super) captured: &'a Captured,
    /// Their names, one a container.
    pub(super) names: &'a [String],
    /// What every branch can be asked for.
    pub(super) options: &'a Options,
    /// What is different in them.
    pub(super) changes: &'a Changes,
}

impl Way {
    /// That of a container of nerdctl's; none of another tool's. `Precondition` where it is nerdctl's and the
    /// binary is not there any more.
    pub(super) fn of(captured: &Captured) -> Result<Option<Self>> {
        if !captured.is_nerdctls() {
            return Ok(None);
        }
        let refused = |why: String| Error::precondition(format!("container {:?}", captured.called()), why);
        let way = Self::in_spec(captured).ok_or_else(|| {
            refused(
                "it is nerdctl's, but no hook of its says where nerdctl is; make it anew with nerdctl".into(),
            )
        })?;
        let executable = std::fs::metadata(&way.binary)
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
        if !executable {
            return Err(refused(format!(
                "it is nerdctl's, and there is no nerdctl at {} any more; install it there",
                way.binary
            )));
        }
        Ok(Some(way))
    }

    /// What the hook of a container's specification says.
    fn in_spec(captured: &Captured) -> Option<Self> {
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        // Older ones have the hook under its older name.
        let hooks = ["/hooks/createRuntime", "/hooks/prestart"];
        let hooks = hooks.iter().filter_map(|at| captured.spec.pointer(at)?.as_array()).flatten();
        let (hook, mut flags) = hooks.into_iter().find_map(|hook| {
            let args = texts(&hook["args"]);
            let end = args.iter().position(|arg| arg == OWN_VERB)?;
            Some((hook, args.get(1..end)?.to_vec()))
        })?;
        let addressed = flags.iter().any(|flag| flag.starts_with("--address="));
        flags.retain(|flag| {
            let name = flag.split('=').next().unwrap_or(flag);
            !DROPPED.contains(&name) || (!addressed && DROPPED[..3].contains(&name))
        });
        if !captured.snapshotter.is_empty() {
            flags.push(format!("--snapshotter={}", captured.snapshotter));
        }
        let needed = |variable: &String| {
            let name = variable.split('=').next().unwrap_or_default();
            ENV.contains(&name) || ENV_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        };
        Some(Self {
            binary: hook["path"].as_str()?.to_owned(),
            flags,
            env: texts(&hook["env"]).into_iter().filter(needed).collect(),
            store: store(captured),
        })
    }
}

/// True for a hook of nerdctl's own.
fn is_nerdctls(hook: &Value) -> bool {
    hook["args"].as_array().is_some_and(|args| args.iter().any(|arg| arg == OWN_VERB))
}

/// Where nerdctl keeps what it knows of the containers of one containerd.
fn store(captured: &Captured) -> Option<PathBuf> {
    let own = Path::new("containers").join(&captured.namespace).join(&captured.id);
    let dir = Path::new(captured.labels.get(STATE_DIR)?);
    (dir.is_absolute() && dir.ends_with(own)).then(|| dir.ancestors().nth(3).map(Path::to_path_buf))?
}

#[cfg(test)]
mod tests;
