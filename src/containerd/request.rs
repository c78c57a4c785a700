//! What can be asked of a [`super::Brancher`], and what it answers. Answers are kept with their operation, as
//! JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::reference::Reference;
use super::{NERDCTL, OPERATION_LABEL, Target};
use crate::error::{Error, Result};
use crate::operation::Ask;
use crate::snapshot::{Cost, key};
use crate::store::{Failure, Id, OperationKind, Time};

/// How whole a state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// One point in time, as after a power cut.
    #[default]
    Crash,
    /// As `Crash`, between the commands in the container's labels `loom.quiesce` and `loom.unquiesce`, and
    /// written out while it stands still.
    App,
}

/// What every branch can be asked for. Its JSON is what an idempotency key stands for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Options {
    /// The operation's id, where the client chose one.
    #[serde(skip)]
    pub operation: Option<Id>,
    /// What the client calls the request.
    #[serde(skip)]
    pub idempotency_key: Option<String>,
    /// The name of what is made: a container's or a snapshot's. Of a rollback or a promotion: of the snapshot that
    /// keeps what the container had.
    pub name: Option<String>,
    /// Labels for it. Of a container, an empty value drops the source's label.
    pub labels: BTreeMap<String, String>,
    /// How long it is kept.
    pub ttl: Option<Duration>,
    /// How whole its state is.
    pub consistency: Consistency,
    /// Leave containers stopped (the resume policy `manual`).
    pub no_start: bool,
}

impl Options {
    /// Refuses what no branch can have, before anyone is asked anything.
    pub(super) fn check(&self) -> Result<()> {
        key::check_labels(&self.labels)?;
        for label in self.labels.keys() {
            if label.is_empty() || label == OPERATION_LABEL || label.starts_with(NERDCTL) {
                return Err(Error::invalid(
                    format!("label {label:?}"),
                    "choose another; that one is not free",
                ));
            }
        }
        if self.ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Err(Error::invalid("a ttl of nothing", "give one that is longer, or none to keep it"));
        }
        Ok(())
    }

    /// When what is made now goes by itself.
    pub(super) fn expires(&self) -> Option<Time> {
        let nanos = i64::try_from(self.ttl?.as_nanos()).unwrap_or(i64::MAX);
        Some(Time(Time::now().0.saturating_add(nanos)))
    }
}

/// What becomes of a source's named volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Volumes {
    /// The fork has them too.
    #[default]
    Share,
    /// The fork has copies of its own, of the moment of its state.
    Clone,
}

/// What is different in a container that a branch makes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Changes {
    /// Environment, `NAME=VALUE`; `NAME` alone drops one.
    pub env: Vec<String>,
    /// The command, in place of the source's; empty for the same.
    pub command: Vec<String>,
    /// Ports to publish, as `nerdctl run -p` has them: for containers of nerdctl only.
    pub publish: Vec<String>,
    /// Its named volumes: of nerdctl only.
    pub volumes: Volumes,
}

impl Changes {
    /// Refuses what no process can have.
    pub(super) fn check(&self) -> Result<()> {
        for variable in &self.env {
            if variable.is_empty() || variable.starts_with('=') || variable.contains('\0') {
                // Its value may be a secret.
                let name = variable.split('=').next().unwrap_or_default();
                return Err(Error::invalid(
                    format!("environment variable {name:?}"),
                    "write NAME=VALUE, or NAME alone to drop one",
                ));
            }
        }
        match self.command.iter().find(|word| word.contains('\0')) {
            Some(word) => Err(Error::invalid(format!("command word {word:?}"), "it has a zero byte in it")),
            None if self.command.first().is_some_and(String::is_empty) => {
                Err(Error::invalid("the command", "its first word is the program, and is empty"))
            }
            None => Ok(()),
        }
    }
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// zstd.
    #[default]
    Zstd,
    /// gzip.
    Gzip,
}

/// What an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Archive {
    /// The files of a state in one tar.
    #[default]
    Tar,
    /// An image layout of the OCI in a tar.
    Oci,
}

/// An image that is to be made of a state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Commit {
    /// Its name, as docker has them.
    pub image: String,
    /// Changes of its configuration, an instruction of a Dockerfile each.
    pub changes: Vec<String>,
    /// Who made it.
    pub author: String,
    /// What its history says of it.
    pub message: String,
    /// Whether it is made portable too, and how.
    pub portable: Option<Compression>,
    /// Take over an image of this name.
    pub replace: bool,
}

/// The request for an operation; `more` is what it has beside its options. It is done where the reference says,
/// which may be another namespace than the target's.
pub(super) fn ask(
    kind: OperationKind,
    target: &Target,
    reference: &str,
    options: &Options,
    more: &impl Serialize,
) -> Result<Ask> {
    options.check()?;
    let namespace = match Reference::parse(reference)? {
        Reference::Container { namespace: Some(namespace), .. } => namespace,
        _ => &target.namespace,
    };
    super::reference::identifier("namespace", namespace)?;
    let json = |part: serde_json::Result<serde_json::Value>| {
        part.map_err(|e| Error::Internal(format!("the request of a {kind}: {e}")))
    };
    Ok(Ask {
        id: options.operation,
        kind,
        subject: reference.to_owned(),
        address: target.address.clone(),
        namespace: namespace.to_owned(),
        key: options.idempotency_key.clone(),
        request: serde_json::json!({
            "verb": kind.to_string(),
            "address": target.address,
            "namespace": target.namespace,
            "reference": reference,
            "options": json(serde_json::to_value(options))?,
            "more": json(serde_json::to_value(more))?,
        }),
    })
}

/// A state that was kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Taken {
    /// The snapshot.
    pub snapshot: Id,
    /// What it cost.
    pub cost: Cost,
}

/// One container that a branch made, or why it could not be made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Forked {
    /// Its id in containerd; the name that it was to have where it could not be made.
    pub container: String,
    /// What people call it: nerdctl's name, else its id.
    pub name: String,
    /// containerd's namespace.
    pub namespace: String,
    /// Its snapshot.
    pub snapshot: Option<Id>,
    /// Its process, where it was started.
    pub pid: Option<u32>,
    /// Why it could not be made or started.
    pub error: Option<Failure>,
}

/// The containers that a branch made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Branched {
    /// In the order of their names.
    pub forks: Vec<Forked>,
    /// What they cost.
    pub cost: Cost,
}

/// A container whose content was replaced.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rolled {
    /// Its id in containerd.
    pub container: String,
    /// What people call it.
    pub name: String,
    /// containerd's namespace.
    pub namespace: String,
    /// Its snapshot now.
    pub snapshot: Id,
    /// The snapshot that keeps what it had.
    pub kept: Option<Id>,
    /// The name of that.
    pub kept_name: Option<String>,
    /// Its process, where it runs.
    pub pid: Option<u32>,
    /// What it cost; `paused` is how long it was stopped.
    pub cost: Cost,
}

/// An image that was made of a state or of an archive.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Committed {
    /// Its name, as containerd has it.
    pub image: String,
    /// The digest of its manifest.
    pub digest: String,
    /// The chain id of its layers, which is its snapshot's name in containerd.
    pub chain_id: String,
    /// That snapshot's id.
    pub snapshot: Id,
    /// What the state cost; none where it was there before.
    pub cost: Option<Cost>,
}

/// An image that is portable now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Portable {
    /// As it is now.
    pub image: Committed,
    /// The digest of the layer that was written, and its bytes; none where it was portable before.
    pub layer: Option<(String, u64)>,
}

/// A container that was started or continued.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Resumed {
    /// Its id in containerd.
    pub container: String,
    /// What people call it.
    pub name: String,
    /// Its process.
    pub pid: u32,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::error::Kind;

    fn target() -> Target {
        Target { address: "/run/containerd.sock".into(), namespace: "default".into() }
    }

    fn asked(reference: &str, options: &Options) -> Result<Ask> {
        ask(OperationKind::Fork, &target(), reference, options, &3)
    }

    #[test]
    fn a_request_is_the_same_whoever_asks_and_under_whatever_key() {
        let options = Options { name: Some("try".into()), ..Options::default() };
        let keyed = Options {
            operation: Some(Id::random().unwrap()),
            idempotency_key: Some("k".into()),
            ..options.clone()
        };
        let (plain, keyed) = (asked("web", &options).unwrap(), asked("web", &keyed).unwrap());
        assert_eq!(plain.request, keyed.request);
        assert_eq!(keyed.key.as_deref(), Some("k"));
        let other = Options { no_start: true, ..options };
        assert_ne!(asked("web", &other).unwrap().request, plain.request);
        assert_ne!(asked("db", &Options::default()).unwrap().request, plain.request);
    }

    #[test]
    fn an_operation_is_where_its_reference_says() {
        assert_eq!(asked("web", &Options::default()).unwrap().namespace, "default");
        assert_eq!(asked("container:ci/web", &Options::default()).unwrap().namespace, "ci");
    }

    #[test]
    fn what_no_branch_can_have_is_refused_first() {
        for label in [OPERATION_LABEL, "nerdctl/name", ""] {
            let labels = BTreeMap::from([(label.to_owned(), "x".to_owned())]);
            let error = asked("web", &Options { labels, ..Options::default() }).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument, "{label}");
        }
        let nothing = Options { ttl: Some(Duration::ZERO), ..Options::default() };
        assert_eq!(asked("web", &nothing).unwrap_err().kind(), Kind::InvalidArgument);
        for env in ["", "=x", "A=\0"] {
            let changes = Changes { env: vec![env.to_owned()], ..Changes::default() };
            assert_eq!(changes.check().unwrap_err().kind(), Kind::InvalidArgument, "{env:?}");
        }
        for command in [&[""][..], &["sh", "\0"]] {
            let command = command.iter().map(|word| (*word).to_owned()).collect();
            assert!(Changes { command, ..Changes::default() }.check().is_err());
        }
    }

    #[test]
    fn a_ttl_counts_from_now_and_has_an_end() {
        assert_eq!(Options::default().expires(), None);
        let hour = Options { ttl: Some(Duration::from_hours(1)), ..Options::default() };
        assert!(hour.expires().unwrap() > Time::now());
        let ages = Options { ttl: Some(Duration::MAX), ..Options::default() };
        assert_eq!(ages.expires(), Some(Time(i64::MAX)));
    }
}
