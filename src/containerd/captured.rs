//! What a snapshot keeps of the container it is a state of, so that a container can be made of it when
//! that one is gone. It is stored as JSON in `Snapshot::captured`:
//!
//! ```json
//! {"namespace": "default", "id": "web", "image": "localhost/nginx:1",
//!  "runtime": {"name": "io.containerd.runc.v2", "options": {"type_url": "…", "value": "<hex>"}},
//!  "snapshotter": "loom", "labels": {}, "spec": {}}
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use containerd_client::services::v1::Container;
use containerd_client::services::v1::container::Runtime;
use prost_types::Any;
use protobuf::well_known_types::empty::Empty;
use protobuf::{Message as _, UnknownValueRef};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::spec::{self, Place};
use super::{Changes, NERDCTL, NERDCTL_NAME, OPERATION_LABEL};
use crate::error::{Error, Result};
use crate::store::Id;

/// What clients, containerd itself and we write on a container about that one's own life: a collector's
/// references, what the restart monitor has counted and where it sends the output, and who made it. A branch
/// that carried them would be started, kept, logged or undone as if it were its source.
const OF_ONE_LIFE: [&str; 3] = ["containerd.io/gc.", "containerd.io/restart.", OPERATION_LABEL];

/// A container, as it is kept with its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Captured {
    /// containerd's namespace.
    pub(super) namespace: String,
    /// The container's id.
    pub(super) id: String,
    /// The image it was made from; containerd may not have it any more.
    pub(super) image: String,
    runtime: Option<Runs>,
    /// What containerd calls us.
    pub(super) snapshotter: String,
    /// The container's labels.
    pub(super) labels: BTreeMap<String, String>,
    /// Its OCI specification.
    pub(super) spec: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Runs {
    name: String,
    options: Option<Typed>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Typed {
    type_url: String,
    /// Hex digits.
    value: String,
}

/// What a branch has that its source has not.
#[derive(Debug)]
pub(super) struct Unlike {
    /// The operation that makes it.
    pub(super) operation: Id,
    /// Labels; an empty value drops the source's.
    pub(super) labels: BTreeMap<String, String>,
    /// Its process.
    pub(super) changes: Changes,
}

impl Captured {
    /// A container as it is now.
    pub(super) fn of(namespace: &str, container: &Container) -> Result<Self> {
        Ok(Self {
            namespace: namespace.to_owned(),
            id: container.id.clone(),
            image: container.image.clone(),
            runtime: container.runtime.as_ref().map(|runtime| Runs {
                name: runtime.name.clone(),
                options: runtime
                    .options
                    .as_ref()
                    .map(|any| Typed { type_url: any.type_url.clone(), value: hex(&any.value) }),
            }),
            snapshotter: container.snapshotter.clone(),
            labels: container.labels.clone().into_iter().collect(),
            spec: spec::read(container)?,
        })
    }

    /// As it is stored.
    pub(super) fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::Internal(format!("captured container: {e}")))
    }

    /// As it was stored with the snapshot called `title`.
    pub(super) fn from_json(title: &str, json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(|e| Error::Refused {
            what: title.to_owned(),
            why: format!("what was kept of its container cannot be read ({e}); fork the container instead"),
        })
    }

    /// What people call it: nerdctl's name, else its id.
    pub(super) fn called(&self) -> &str {
        self.labels.get(NERDCTL_NAME).unwrap_or(&self.id)
    }

    /// True where nerdctl has made it: its labels point at nerdctl's own files, so that only nerdctl can make
    /// another one like it.
    pub(super) fn is_nerdctls(&self) -> bool {
        self.labels.keys().any(|label| label.starts_with(NERDCTL))
    }

    /// Its runtime's name, and the binary where that is not the runtime's own.
    pub(super) fn runtime(&self) -> Option<(&str, Option<String>)> {
        /// The binary's field in the options of runc's shim.
        const BINARY_NAME: u32 = 6;
        let runs = self.runtime.as_ref()?;
        let options = runs.options.as_ref().and_then(|typed| unhex(&typed.value).ok());
        let options = options.and_then(|bytes| Empty::parse_from_bytes(&bytes).ok());
        let binary = options.as_ref().and_then(|options| match options.unknown_fields().get(BINARY_NAME) {
            Some(UnknownValueRef::LengthDelimited(name)) => String::from_utf8(name.to_vec()).ok(),
            _ => None,
        });
        Some((&runs.name, binary.filter(|name| !name.is_empty())))
    }

    /// A branch of it: the record of a new container `id` on the snapshot of the same key.
    pub(super) fn branch(&self, id: &str, namespace: &str, unlike: &Unlike) -> Result<Container> {
        let mut branch_spec = self.spec.clone();
        if !spec::change(&mut branch_spec, &unlike.changes) {
            return Err(Error::precondition(
                format!("container {:?}", self.called()),
                "it has no process whose environment or command could be changed",
            ));
        }
        let source = Place { namespace: &self.namespace, id: &self.id };
        spec::rename(&mut branch_spec, source, Place { namespace, id });
        let runtime = match &self.runtime {
            None => None,
            Some(runs) => Some(Runtime {
                name: runs.name.clone(),
                options: match &runs.options {
                    None => None,
                    Some(typed) => {
                        Some(Any { type_url: typed.type_url.clone(), value: unhex(&typed.value)? })
                    }
                },
            }),
        };
        Ok(Container {
            id: id.to_owned(),
            labels: unlike.labels(&self.labels),
            image: self.image.clone(),
            runtime,
            spec: Some(spec::write(&branch_spec)),
            snapshotter: self.snapshotter.clone(),
            snapshot_key: id.to_owned(),
            ..Container::default()
        })
    }
}

impl Unlike {
    /// A source's labels as its branch has them.
    fn labels(&self, source: &BTreeMap<String, String>) -> HashMap<String, String> {
        let mut labels: HashMap<_, _> = source
            .iter()
            .filter(|(label, _)| !OF_ONE_LIFE.iter().any(|prefix| label.starts_with(prefix)))
            .map(|(label, value)| (label.clone(), value.clone()))
            .collect();
        for (label, value) in &self.labels {
            match value.as_str() {
                "" => labels.remove(label),
                value => labels.insert(label.clone(), value.to_owned()),
            };
        }
        labels.insert(OPERATION_LABEL.to_owned(), self.operation.to_string());
        labels
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let wrong = || Error::invalid("the captured runtime options", "they are not hex digits");
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong()))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn container(labels: &[(&str, &str)]) -> Container {
        Container {
            id: "web".into(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            image: "localhost/busybox:latest".into(),
            runtime: Some(Runtime {
                name: "io.containerd.runc.v2".into(),
                options: Some(Any { type_url: "containerd.runc.v1.Options".into(), value: vec![0, 1, 0xff] }),
            }),
            spec: Some(spec::write(&json!({
                "hostname": "web",
                "linux": {"cgroupsPath": "/default/web"},
                "process": {"terminal": true},
            }))),
            snapshotter: "loom".into(),
            snapshot_key: "web".into(),
            ..Container::default()
        }
    }

    #[test]
    fn it_comes_back_as_it_was_stored() {
        let captured = Captured::of("default", &container(&[("app", "shop")])).unwrap();
        let back = Captured::from_json("s", &captured.to_json().unwrap()).unwrap();
        assert_eq!(back, captured);
    }

    /// With these labels, and otherwise the same.
    fn unlike(labels: &[(&str, &str)]) -> Unlike {
        Unlike {
            operation: "f".repeat(32).parse().unwrap(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            changes: Changes::default(),
        }
    }

    #[test]
    fn a_branch_is_the_same_container_under_its_own_name() {
        let source = container(&[
            ("app", "shop"),
            ("containerd.io/gc.ref.content", "sha256:0"),
            ("containerd.io/restart.status", "running"),
            (OPERATION_LABEL, "0123"),
        ]);
        let branch =
            Captured::of("default", &source).unwrap().branch("try", "default", &unlike(&[])).unwrap();
        assert_eq!((branch.id.as_str(), branch.snapshot_key.as_str()), ("try", "try"));
        let labels = [("app".to_owned(), "shop".to_owned()), (OPERATION_LABEL.to_owned(), "f".repeat(32))];
        assert_eq!(branch.labels, labels.into());
        assert_eq!((&branch.image, &branch.runtime), (&source.image, &source.runtime));
        assert_eq!(branch.spec.as_ref().unwrap().type_url, source.spec.as_ref().unwrap().type_url);
        assert_eq!(
            spec::read(&branch).unwrap(),
            json!({
                "hostname": "try",
                "linux": {"cgroupsPath": "/default/try"},
                "process": {"terminal": false},
            })
        );
    }

    #[test]
    fn labels_take_the_place_of_the_sources() {
        let captured = Captured::of("default", &container(&[("app", "shop"), ("tier", "db")])).unwrap();
        let unlike = unlike(&[("app", "try"), ("tier", ""), ("new", "1")]);
        let labels = captured.branch("try", "default", &unlike).unwrap().labels;
        let want = [("app", "try"), ("new", "1"), (OPERATION_LABEL, &"f".repeat(32))];
        assert_eq!(labels, want.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn nerdctls_containers_are_known_by_their_labels() {
        for (label, is) in [("nerdctl/name", true), ("nerdctl", false), ("my.nerdctl/name", false)] {
            let captured = Captured::of("default", &container(&[(label, "web")])).unwrap();
            assert_eq!(captured.is_nerdctls(), is, "{label}");
        }
    }

    #[test]
    fn what_is_broken_is_an_error() {
        assert!(Captured::from_json("s", "{}").is_err());
        assert!(Captured::from_json("s", "nonsense").is_err());
        for value in ["0", "0g", "é"] {
            assert!(unhex(value).is_err(), "{value}");
        }
        let mut no_spec = container(&[]);
        no_spec.spec = None;
        assert!(Captured::of("default", &no_spec).is_err());
        no_spec.spec = Some(Any { type_url: String::new(), value: b"\xff".to_vec() });
        assert!(Captured::of("default", &no_spec).is_err());
    }
}
