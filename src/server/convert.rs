//! The one place where the core's types become a transport's.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use containerd_snapshots as grpc;
use protobuf::MessageField;
use protobuf::well_known_types::timestamp::Timestamp;

use crate::error::{Error, Kind};
use crate::layer::Mount;
use crate::protos::{mount as ttrpc_mount, snapshots as ttrpc_snapshots};
use crate::snapshot::Listed;
use crate::store::{self, Time, Usage};

/// The code of an error kind, which gRPC and ttrpc have in common.
pub(super) fn code(kind: Kind) -> i32 {
    match kind {
        Kind::InvalidArgument => 3,
        Kind::DeadlineExceeded => 4,
        Kind::NotFound => 5,
        Kind::AlreadyExists => 6,
        Kind::PermissionDenied => 7,
        Kind::ResourceExhausted => 8,
        Kind::FailedPrecondition => 9,
        Kind::Aborted => 10,
        Kind::Unimplemented => 12,
        Kind::Internal => 13,
        Kind::Unavailable => 14,
    }
}

/// The longest message that is sent, in bytes. By gRPC a message is a header, and a client that gets
/// too long a one hangs up; and nobody reads more.
const MESSAGE: usize = 2048;

/// An error's text. It may repeat what the client sent, of whatever length: then the middle is left out.
fn message(error: &Error) -> String {
    let text = error.to_string();
    if text.len() <= MESSAGE {
        return text;
    }
    let (head, tail) =
        (text.floor_char_boundary(MESSAGE / 2), text.ceil_char_boundary(text.len() - MESSAGE / 4));
    format!("{} … {}", &text[..head], &text[tail..])
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Self::new(tonic::Code::from_i32(code(error.kind())), message(&error))
    }
}

impl From<Error> for ttrpc::Error {
    fn from(error: Error) -> Self {
        let mut status = ttrpc::Status::new();
        status.code = protobuf::EnumOrUnknown::from_i32(code(error.kind()));
        status.message = message(&error);
        Self::RpcStatus(status)
    }
}

/// Labels in a map as the generated code has it.
pub(super) fn to_labels(labels: BTreeMap<String, String>) -> HashMap<String, String> {
    labels.into_iter().collect()
}

/// Labels as the core has them.
pub(super) fn from_labels(labels: HashMap<String, String>) -> BTreeMap<String, String> {
    labels.into_iter().collect()
}

/// A moment as protobuf has it: nanoseconds always count forward.
pub(super) fn timestamp(time: Time) -> MessageField<Timestamp> {
    const SECOND: i64 = 1_000_000_000;
    let mut timestamp = Timestamp::new();
    timestamp.seconds = time.0.div_euclid(SECOND);
    timestamp.nanos = i32::try_from(time.0.rem_euclid(SECOND)).unwrap_or(0);
    MessageField::some(timestamp)
}

/// Mounts for gRPC.
pub(super) fn grpc_mounts(mounts: Vec<Mount>) -> Vec<grpc::api::types::Mount> {
    let convert = |mount: Mount| grpc::api::types::Mount {
        r#type: mount.kind.to_owned(),
        source: mount.source,
        target: String::new(),
        options: mount.options,
    };
    mounts.into_iter().map(convert).collect()
}

/// Mounts for ttrpc.
pub(super) fn ttrpc_mounts(mounts: Vec<Mount>) -> Vec<ttrpc_mount::Mount> {
    let convert = |mount: Mount| ttrpc_mount::Mount {
        type_: mount.kind.to_owned(),
        source: mount.source,
        options: mount.options,
        ..Default::default()
    };
    mounts.into_iter().map(convert).collect()
}

/// A snapshot for gRPC.
pub(super) fn grpc_info(listed: Listed) -> grpc::Info {
    grpc::Info {
        kind: match listed.kind {
            store::Kind::Active => grpc::Kind::Active,
            store::Kind::View => grpc::Kind::View,
            store::Kind::Committed => grpc::Kind::Committed,
        },
        name: listed.key,
        parent: listed.parent,
        labels: to_labels(listed.labels),
        created_at: SystemTime::from(listed.created),
        updated_at: SystemTime::from(listed.updated),
    }
}

/// A snapshot for ttrpc.
pub(super) fn ttrpc_info(listed: Listed) -> ttrpc_snapshots::Info {
    let kind = match listed.kind {
        store::Kind::Active => ttrpc_snapshots::Kind::ACTIVE,
        store::Kind::View => ttrpc_snapshots::Kind::VIEW,
        store::Kind::Committed => ttrpc_snapshots::Kind::COMMITTED,
    };
    ttrpc_snapshots::Info {
        name: listed.key,
        parent: listed.parent,
        kind: kind.into(),
        created_at: timestamp(listed.created),
        updated_at: timestamp(listed.updated),
        labels: to_labels(listed.labels),
        ..Default::default()
    }
}

/// Usage for gRPC.
pub(super) fn grpc_usage(usage: Usage) -> grpc::Usage {
    grpc::Usage { inodes: usage.inodes, size: usage.size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_a_length_that_every_client_takes() {
        let long = format!("start{}end", "\u{1f9f5}".repeat(20_000));
        let status = tonic::Status::from(Error::SnapshotNotFound(long));
        assert!(status.message().len() <= MESSAGE, "{}", status.message().len());
        assert!(status.message().contains("start"), "{}", status.message());
        assert!(status.message().ends_with("lists those that do"), "{}", status.message());
    }

    #[test]
    fn every_kind_has_its_code_on_both_transports() {
        let table = [
            (Kind::InvalidArgument, tonic::Code::InvalidArgument, ttrpc::Code::INVALID_ARGUMENT),
            (Kind::DeadlineExceeded, tonic::Code::DeadlineExceeded, ttrpc::Code::DEADLINE_EXCEEDED),
            (Kind::NotFound, tonic::Code::NotFound, ttrpc::Code::NOT_FOUND),
            (Kind::AlreadyExists, tonic::Code::AlreadyExists, ttrpc::Code::ALREADY_EXISTS),
            (Kind::PermissionDenied, tonic::Code::PermissionDenied, ttrpc::Code::PERMISSION_DENIED),
            (Kind::ResourceExhausted, tonic::Code::ResourceExhausted, ttrpc::Code::RESOURCE_EXHAUSTED),
            (Kind::FailedPrecondition, tonic::Code::FailedPrecondition, ttrpc::Code::FAILED_PRECONDITION),
            (Kind::Aborted, tonic::Code::Aborted, ttrpc::Code::ABORTED),
            (Kind::Unimplemented, tonic::Code::Unimplemented, ttrpc::Code::UNIMPLEMENTED),
            (Kind::Internal, tonic::Code::Internal, ttrpc::Code::INTERNAL),
            (Kind::Unavailable, tonic::Code::Unavailable, ttrpc::Code::UNAVAILABLE),
        ];
        for (kind, grpc, ttrpc) in table {
            let error = || Error::Containerd { action: "start".into(), message: "no".into(), kind };
            let status = tonic::Status::from(error());
            assert_eq!((status.code(), status.message()), (grpc, "containerd: start: no"));
            let ttrpc::Error::RpcStatus(status) = ttrpc::Error::from(error()) else {
                panic!("{kind} is no status");
            };
            assert_eq!((status.code(), status.message.as_str()), (ttrpc, "containerd: start: no"));
        }
    }

    #[test]
    fn times_before_and_after_1970() {
        for (nanos, seconds, rest) in [
            (0, 0, 0),
            (1, 0, 1),
            (-1, -1, 999_999_999),
            (1_700_000_000_000_000_007, 1_700_000_000, 7),
            (i64::MIN, -9_223_372_037, 145_224_192),
        ] {
            let timestamp = timestamp(Time(nanos));
            assert_eq!((timestamp.seconds, timestamp.nanos), (seconds, rest), "{nanos}");
        }
    }

    #[test]
    fn a_snapshot_is_the_same_on_both_transports() {
        for (kind, number) in [(store::Kind::View, 1), (store::Kind::Active, 2), (store::Kind::Committed, 3)]
        {
            let listed = Listed {
                key: "default/2/c1".into(),
                parent: "default/1/sha256:aa".into(),
                kind,
                labels: BTreeMap::from([("a".into(), "b".into())]),
                created: Time(1_000_000_001),
                updated: Time(2_000_000_002),
            };
            let ours = ttrpc_info(listed.clone());
            let theirs = grpc::api::snapshots::v1::Info::from(grpc_info(listed));
            assert_eq!((ours.kind.value(), theirs.kind), (number, number));
            assert_eq!(
                (&ours.name, &ours.parent, &ours.labels),
                (&theirs.name, &theirs.parent, &theirs.labels)
            );
            let times = [theirs.created_at, theirs.updated_at].map(|t| t.map(|t| (t.seconds, t.nanos)));
            assert_eq!(times, [Some((1, 1)), Some((2, 2))]);
            assert_eq!((ours.created_at.seconds, ours.created_at.nanos), (1, 1));
            assert_eq!((ours.updated_at.seconds, ours.updated_at.nanos), (2, 2));
        }
    }

    #[test]
    fn mounts_keep_their_options_in_order() {
        let mount = Mount {
            kind: "overlay",
            source: "overlay".into(),
            options: vec!["index=off".into(), "lowerdir=/a:/b".into()],
        };
        let theirs = grpc_mounts(vec![mount.clone()]);
        let ours = ttrpc_mounts(vec![mount.clone()]);
        assert_eq!((theirs[0].r#type.as_str(), ours[0].type_.as_str()), ("overlay", "overlay"));
        assert_eq!((&theirs[0].source, &ours[0].source), (&mount.source, &mount.source));
        assert_eq!((&theirs[0].options, &ours[0].options), (&mount.options, &mount.options));
        assert_eq!((theirs[0].target.as_str(), ours[0].target.as_str()), ("", ""));
    }
}
