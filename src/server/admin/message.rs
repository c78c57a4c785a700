//! The core's types as messages of the admin service.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::containerd::{Forked, NERDCTL_NAME, Rolled};
use crate::protos::admin as proto;
use crate::server::convert::{timestamp, to_labels};
use crate::snapshot::{Cost, Seen, Size, key};
use crate::store::{self, Kind, OperationKind, OperationState};

/// What of `Snapshot::captured` is told.
#[derive(Debug, Default, Deserialize)]
struct Captured {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// A snapshot.
pub(super) fn snapshot(seen: Seen) -> proto::Snapshot {
    let image_layer = image_layer(&seen.snapshot);
    let mut owner = owner(&seen.snapshot);
    let name = owner.labels.remove(NERDCTL_NAME);
    let Seen { snapshot, chain } = seen;
    let limit = chain.first().filter(|_| snapshot.kind == Kind::Active).and_then(|top| top.max_size);
    let kind = match snapshot.kind {
        Kind::Active => proto::Kind::KIND_ACTIVE,
        Kind::View => proto::Kind::KIND_VIEW,
        Kind::Committed => proto::Kind::KIND_COMMITTED,
    };
    proto::Snapshot {
        id: snapshot.id.to_string(),
        name: snapshot.name.unwrap_or_default(),
        key: snapshot.key.unwrap_or_default(),
        kind: kind.into(),
        parent: text(snapshot.parent),
        source: text(snapshot.source),
        labels: to_labels(snapshot.labels),
        created: timestamp(snapshot.created),
        updated: timestamp(snapshot.updated),
        pinned: snapshot.pinned,
        home: text(chain.first().map(|top| top.home)),
        depth: u32::try_from(chain.len()).unwrap_or(u32::MAX),
        container_name: name.unwrap_or_else(|| owner.id.clone()),
        container: owner.id,
        namespace: owner.namespace,
        image_layer,
        operation: text(snapshot.operation),
        expires: snapshot.expires.map(timestamp).unwrap_or_default(),
        limit: limit.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
        ..Default::default()
    }
}

/// Bytes on disk.
pub(super) fn size(size: Size) -> proto::Size {
    proto::Size { exclusive: size.exclusive, shared: size.shared, ..Default::default() }
}

/// What is there as text; empty where nothing is.
fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// What a branch cost.
pub(super) fn cost(cost: &Cost) -> proto::Cost {
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    proto::Cost {
        method: cost.method.to_string(),
        paused_us: micros(cost.paused),
        total_us: micros(cost.total),
        ..Default::default()
    }
}

/// A container that a branch made.
pub(super) fn forked(fork: Forked) -> proto::Forked {
    proto::Forked {
        container: fork.container,
        namespace: fork.namespace,
        snapshot: text(fork.snapshot),
        pid: fork.pid.unwrap_or(0),
        error: text(fork.error),
        name: fork.name,
        ..Default::default()
    }
}

/// A container whose content was replaced.
pub(super) fn rolled(rolled: Rolled) -> proto::Rolled {
    proto::Rolled {
        container: rolled.container,
        name: rolled.name,
        namespace: rolled.namespace,
        snapshot: rolled.snapshot.to_string(),
        kept: text(rolled.kept),
        kept_name: rolled.kept_name.unwrap_or_default(),
        pid: rolled.pid.unwrap_or(0),
        ..Default::default()
    }
}

/// An operation. Its request and its plan are nobody else's.
pub(super) fn operation(operation: store::Operation) -> proto::Operation {
    use proto::OperationKind as Kind;
    use proto::OperationState as State;
    let kind = match operation.kind {
        OperationKind::Snapshot => Kind::OPERATION_KIND_SNAPSHOT,
        OperationKind::Fork => Kind::OPERATION_KIND_FORK,
        OperationKind::Clone => Kind::OPERATION_KIND_CLONE,
        OperationKind::Rollback => Kind::OPERATION_KIND_ROLLBACK,
        OperationKind::Promote => Kind::OPERATION_KIND_PROMOTE,
        OperationKind::Resume => Kind::OPERATION_KIND_RESUME,
        OperationKind::Commit => Kind::OPERATION_KIND_COMMIT,
        OperationKind::Portable => Kind::OPERATION_KIND_PORTABLE,
        OperationKind::Import => Kind::OPERATION_KIND_IMPORT,
    };
    let state = match operation.state {
        OperationState::Accepted => State::OPERATION_STATE_ACCEPTED,
        OperationState::Running => State::OPERATION_STATE_RUNNING,
        OperationState::Succeeded => State::OPERATION_STATE_SUCCEEDED,
        OperationState::Failed => State::OPERATION_STATE_FAILED,
        OperationState::Cancelled => State::OPERATION_STATE_CANCELLED,
    };
    let step = |step: store::Step| proto::Step {
        name: step.name,
        // One that took less than a microsecond is not under way.
        took_us: step.took_us.map_or(0, |us| us.max(1)),
        ..Default::default()
    };
    let (error_code, error) = operation.error.map(|e| (e.code, e.message)).unwrap_or_default();
    proto::Operation {
        id: operation.id.to_string(),
        kind: kind.into(),
        subject: operation.subject,
        namespace: operation.namespace,
        state: state.into(),
        done: operation.done,
        total: operation.total,
        steps: operation.steps.into_iter().map(step).collect(),
        warnings: operation.warnings,
        error_code,
        error,
        idempotency_key: operation.key.unwrap_or_default(),
        created: timestamp(operation.created),
        ended: operation.ended.map(timestamp).unwrap_or_default(),
        result: operation.result.unwrap_or_default(),
        ..Default::default()
    }
}

/// True for what a listing shows that did not ask for all: the states of containers that still have
/// their bytes, and whatever loom keeps by a name or a pin.
pub(super) fn shown(seen: &Seen) -> bool {
    let snapshot = &seen.snapshot;
    if snapshot.layer.is_none() {
        return false;
    }
    snapshot.pinned || snapshot.name.is_some() || (snapshot.kind != Kind::View && !image_layer(snapshot))
}

/// True for what containerd unpacked from an image, or is unpacking.
fn image_layer(snapshot: &store::Snapshot) -> bool {
    let key = snapshot.key.as_deref().unwrap_or_default();
    // A committed layer's key is its chain id.
    key::is_unpack(key, &snapshot.labels)
        || (snapshot.kind == Kind::Committed && key::client(key).starts_with("sha256:"))
}

/// The namespace whose images a snapshot can be the top of.
pub(super) fn image_namespace(snapshot: &store::Snapshot) -> Option<String> {
    let committed = snapshot.kind == Kind::Committed && image_layer(snapshot);
    let (namespace, _) = snapshot.key.as_deref().filter(|_| committed).and_then(key::parts)?;
    Some(namespace.to_owned())
}

/// The container that a snapshot is or was a state of. One that containerd still writes to is the state
/// of whom its key names, whatever its bytes were captured from: a container's snapshot has its id as key.
fn owner(snapshot: &store::Snapshot) -> Captured {
    let live = snapshot.kind != Kind::Committed && !image_layer(snapshot);
    if let Some((namespace, client)) = snapshot.key.as_deref().filter(|_| live).and_then(key::parts) {
        return Captured { namespace: namespace.to_owned(), id: client.to_owned(), labels: BTreeMap::new() };
    }
    let captured = snapshot.captured.as_deref();
    captured.and_then(|captured| serde_json::from_str(captured).ok()).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::error::Error;
    use crate::layer::Method;
    use crate::store::{Home, Id, Layer, LayerId, Snapshot, Stage, Time};

    fn row(kind: Kind, key: &str) -> Snapshot {
        Snapshot {
            id: "0123456789abcdef0123456789abcdef".parse::<Id>().unwrap(),
            key: (!key.is_empty()).then(|| key.to_owned()),
            name: None,
            kind,
            parent: None,
            source: None,
            layer: Some(LayerId(7)),
            pinned: false,
            transient: false,
            labels: BTreeMap::new(),
            created: Time(1_500_000_000),
            updated: Time(2_000_000_000),
            captured: None,
            operation: Some("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap()),
            expires: Some(Time(9_000_000_000)),
            taken: None,
        }
    }

    fn seen(snapshot: Snapshot) -> Seen {
        Seen { snapshot, chain: Vec::new() }
    }

    #[test]
    fn what_is_an_image_layer_and_what_is_shown() {
        for (kind, key, image, show) in [
            (Kind::Active, "default/1/c1", false, true),
            (Kind::Active, "default/1/extract-123-abc sha256:aa", true, false),
            (Kind::Committed, "default/2/sha256:aa", true, false),
            (Kind::Active, "default/2/sha256:aa", false, true),
            (Kind::Committed, "sha256:aa", true, false),
            (Kind::Committed, "default/2/mine", false, true),
            (Kind::View, "default/3/c1-view", false, false),
            (Kind::Committed, "", false, true),
        ] {
            let row = row(kind, key);
            assert_eq!(image_layer(&row), image, "{kind} {key}");
            assert_eq!(shown(&seen(row)), show, "{kind} {key}");
        }
        let mut unpacked = row(Kind::Committed, "anything");
        unpacked.labels.insert(key::REF_LABEL.into(), "sha256:aa".into());
        assert!(image_layer(&unpacked));
        unpacked.pinned = true;
        assert!(shown(&seen(unpacked.clone())), "a pinned layer is loom's too");
        unpacked.layer = None;
        assert!(!shown(&seen(unpacked)), "a row without bytes");
    }

    #[test]
    fn the_container_of_a_snapshot() {
        let owner = |row: &Snapshot| {
            let Captured { namespace, id, .. } = owner(row);
            (namespace, id)
        };
        let pair = |namespace: &str, id: &str| (namespace.to_owned(), id.to_owned());
        assert_eq!(owner(&row(Kind::Active, "prod/5/web")), pair("prod", "web"));
        assert_eq!(owner(&row(Kind::Committed, "prod/5/web")), pair("", ""));
        assert_eq!(owner(&row(Kind::Active, "prod/5/extract-1 x")), pair("", ""));
        let mut captured = row(Kind::Committed, "");
        captured.captured = Some(r#"{"namespace":"prod","id":"web","spec":{}}"#.into());
        assert_eq!(owner(&captured), pair("prod", "web"));
        let fork = Snapshot { captured: captured.captured.clone(), ..row(Kind::Active, "prod/6/web-fork") };
        assert_eq!(owner(&fork), pair("prod", "web-fork"));
        let named = r#"{"namespace":"prod","id":"c0ffee","labels":{"nerdctl/name":"shop","a":"b"}}"#;
        captured.captured = Some(named.into());
        let told = snapshot(seen(captured.clone()));
        assert_eq!((told.container.as_str(), told.container_name.as_str()), ("c0ffee", "shop"));
        captured.captured = Some("not json".into());
        assert_eq!(owner(&captured), pair("", ""));
    }

    #[test]
    fn a_message_tells_all_of_a_snapshot() {
        let mut row = row(Kind::Active, "prod/5/web");
        row.name = Some("warm".into());
        row.source = Some("ffffffffffffffffffffffffffffffff".parse().unwrap());
        let layer = |id, home| Layer::new(LayerId(id), home, None, Stage::Writable);
        let chain = vec![layer(7, Home::Pool), layer(3, Home::Plain)];
        let message = snapshot(Seen { snapshot: row, chain });
        assert_eq!(message.id, "0123456789abcdef0123456789abcdef");
        assert_eq!(message.source, "ffffffffffffffffffffffffffffffff");
        assert_eq!((message.parent.as_str(), message.name.as_str()), ("", "warm"));
        assert_eq!((message.home.as_str(), message.depth), ("pool", 2));
        assert_eq!((message.created.seconds, message.created.nanos), (1, 500_000_000));
        assert_eq!(message.kind.enum_value(), Ok(proto::Kind::KIND_ACTIVE));
        assert_eq!((message.operation, message.expires.seconds), ("a".repeat(32), 9));
    }

    #[test]
    fn costs_and_forks() {
        let message = cost(&Cost {
            method: Method::Reflink,
            paused: Duration::from_micros(1_500),
            total: Duration::from_millis(20),
        });
        assert_eq!(
            (message.method.as_str(), message.paused_us, message.total_us),
            ("reflink", 1_500, 20_000)
        );
        let failed = forked(Forked {
            container: "c1-fork".into(),
            namespace: "default".into(),
            snapshot: None,
            pid: None,
            name: "c1-fork".into(),
            error: Some(
                Error::ContainerExists { name: "c1-fork".into(), namespace: "default".into() }.into(),
            ),
        });
        assert_eq!((failed.snapshot.as_str(), failed.pid), ("", 0));
        assert!(failed.error.contains("already exists"), "{}", failed.error);
    }

    #[test]
    fn a_message_tells_all_of_an_operation_but_its_plan() {
        let step = |name: &str, took_us| store::Step { name: name.into(), took_us };
        let failed = store::Operation {
            id: "0123456789abcdef0123456789abcdef".parse().unwrap(),
            kind: OperationKind::Promote,
            subject: "try".into(),
            address: "/run/c".into(),
            namespace: "prod".into(),
            state: OperationState::Failed,
            done: 1,
            total: 3,
            steps: vec![step("stop", Some(0)), step("replace", Some(9)), step("start", None)],
            warnings: vec!["slow".into()],
            error: Some(Error::Busy("web".into()).into()),
            key: Some("k".into()),
            request: "{}".into(),
            plan: Some("{}".into()),
            result: None,
            created: Time(1_500_000_000),
            ended: Some(Time(2_000_000_000)),
        };
        let message = operation(failed.clone());
        assert_eq!(message.kind.enum_value(), Ok(proto::OperationKind::OPERATION_KIND_PROMOTE));
        assert_eq!(message.state.enum_value(), Ok(proto::OperationState::OPERATION_STATE_FAILED));
        assert_eq!((message.error_code.as_str(), message.idempotency_key.as_str()), ("BUSY", "k"));
        assert!(message.error.contains("web"), "{}", message.error);
        assert_eq!((message.done, message.total, message.ended.seconds), (1, 3, 2));
        // Zero is for what is under way.
        assert_eq!(message.steps.iter().map(|step| step.took_us).collect::<Vec<_>>(), [1, 9, 0]);
        let accepted = store::Operation {
            state: OperationState::Accepted,
            error: None,
            key: None,
            ended: None,
            ..failed
        };
        let message = operation(accepted);
        assert!(message.ended.is_none() && message.error.is_empty() && message.result.is_empty());
    }

    #[test]
    fn a_container_that_was_rolled_back() {
        let id: Id = "0123456789abcdef0123456789abcdef".parse().unwrap();
        let cost = Cost { method: Method::Copy, paused: Duration::ZERO, total: Duration::ZERO };
        let stopped = Rolled {
            container: "c0ffee".into(),
            name: "web".into(),
            namespace: "prod".into(),
            snapshot: id,
            kept: None,
            kept_name: None,
            pid: None,
            cost,
        };
        let message = rolled(stopped.clone());
        assert_eq!((message.container.as_str(), message.name.as_str()), ("c0ffee", "web"));
        assert_eq!((message.kept.as_str(), message.kept_name.as_str(), message.pid), ("", "", 0));
        let message = rolled(Rolled { kept: Some(id), kept_name: Some("old".into()), ..stopped });
        assert_eq!((message.kept, message.kept_name.as_str()), (id.to_string(), "old"));
    }
}
