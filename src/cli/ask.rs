//! Arguments as requests of loomd: what is asked, under an operation's id that is chosen here.

use jiff::Timestamp;
use protobuf::MessageField;
use protobuf::well_known_types::timestamp::Timestamp as Wire;

use super::args::{
    Asked, Changes, Clone, Commit, Compression, Consistency, Diff, Export, Fork, Format, Import, Once,
    Policy, Portable, Promote, Prune, Resume, Rollback, Save, Snapshot, Start, Tag, Volumes, Whole,
};
use crate::protos::admin;

/// `loom snapshot`.
pub(super) fn snapshot(operation: &str, args: Snapshot) -> admin::SnapshotRequest {
    admin::SnapshotRequest {
        reference: args.reference,
        name: args.name.unwrap_or_default(),
        options: options(operation, &args.asked, &args.whole, &Start::default()),
        labels: args.asked.labels.into_iter().collect(),
        ..Default::default()
    }
}

/// `loom fork`.
pub(super) fn fork(operation: &str, args: Fork) -> admin::ForkRequest {
    admin::ForkRequest {
        reference: args.reference,
        name: args.name.unwrap_or_default(),
        count: args.count,
        options: options(operation, &args.asked, &args.whole, &args.start),
        changes: changes(args.changes, args.asked),
        ..Default::default()
    }
}

/// `loom clone`.
pub(super) fn clone(operation: &str, args: Clone) -> admin::CloneRequest {
    admin::CloneRequest {
        reference: args.reference,
        name: args.name.unwrap_or_default(),
        options: options(operation, &args.asked, &Whole::default(), &args.start),
        changes: changes(args.changes, args.asked),
        ..Default::default()
    }
}

/// `loom rollback`.
pub(super) fn rollback(operation: &str, args: Rollback) -> admin::RollbackRequest {
    admin::RollbackRequest {
        reference: args.reference,
        snapshot: args.snapshot,
        name: args.kept.name.unwrap_or_default(),
        discard: args.kept.discard,
        options: options(operation, &args.asked, &Whole::default(), &args.start),
        labels: args.asked.labels.into_iter().collect(),
        ..Default::default()
    }
}

/// `loom promote`.
pub(super) fn promote(operation: &str, args: Promote) -> admin::PromoteRequest {
    admin::PromoteRequest {
        reference: args.reference,
        name: args.kept.name.unwrap_or_default(),
        discard: args.kept.discard,
        if_unchanged: args.if_unchanged,
        options: options(operation, &args.asked, &args.whole, &args.start),
        labels: args.asked.labels.into_iter().collect(),
        ..Default::default()
    }
}

/// `loom resume`.
pub(super) fn resume(operation: &str, args: Resume) -> admin::ResumeRequest {
    admin::ResumeRequest {
        reference: args.reference,
        options: MessageField::some(once(operation, &args.once)),
        ..Default::default()
    }
}

/// `loom commit`.
pub(super) fn commit(operation: &str, args: Commit) -> admin::CommitRequest {
    let asked = Asked { once: args.once, ..Asked::default() };
    admin::CommitRequest {
        reference: args.reference,
        image: args.image,
        changes: args.described.changes,
        author: args.author.unwrap_or_default(),
        message: args.described.message.unwrap_or_default(),
        portable: args.portable,
        compression: compression(args.compression).into(),
        replace: args.replace,
        options: options(operation, &asked, &args.whole, &Start::default()),
        ..Default::default()
    }
}

/// `loom portable`.
pub(super) fn portable(operation: &str, args: Portable) -> admin::PortableRequest {
    admin::PortableRequest {
        image: args.image,
        compression: compression(args.compression).into(),
        options: MessageField::some(once(operation, &args.once)),
        ..Default::default()
    }
}

/// `loom tag`.
pub(super) fn tag(args: Tag) -> admin::TagRequest {
    admin::TagRequest { image: args.image, name: args.name, ..Default::default() }
}

/// `loom diff`.
pub(super) fn diff(args: Diff) -> admin::DiffRequest {
    let Diff { from, to, patch } = args;
    admin::DiffRequest { from, to: to.unwrap_or_default(), patch, ..Default::default() }
}

/// `loom save`.
pub(super) fn save(operation: &str, args: &Save) -> admin::ExportRequest {
    admin::ExportRequest {
        // A container may be called the same.
        reference: format!("image:{}", args.image),
        format: admin::ArchiveFormat::ARCHIVE_FORMAT_OCI.into(),
        compression: compression(args.compression).into(),
        options: MessageField::some(once(operation, &Once::default())),
        ..Default::default()
    }
}

/// `loom export`.
pub(super) fn export(operation: &str, args: Export) -> admin::ExportRequest {
    let format = match args.format {
        Format::Tar => admin::ArchiveFormat::ARCHIVE_FORMAT_TAR,
        Format::Oci => admin::ArchiveFormat::ARCHIVE_FORMAT_OCI,
    };
    admin::ExportRequest {
        reference: args.reference,
        format: format.into(),
        compression: compression(args.compression.unwrap_or_default()).into(),
        image: args.image.unwrap_or_default(),
        options: options(operation, &Asked::default(), &args.whole, &Start::default()),
        ..Default::default()
    }
}

/// `loom import`.
pub(super) fn import(operation: &str, args: Import) -> admin::ImportTo {
    admin::ImportTo {
        image: args.image.unwrap_or_default(),
        changes: args.described.changes,
        message: args.described.message.unwrap_or_default(),
        snapshotter: args.snapshotter,
        options: MessageField::some(once(operation, &args.once)),
        ..Default::default()
    }
}

fn compression(compression: Compression) -> admin::Compression {
    match compression {
        Compression::Zstd => admin::Compression::COMPRESSION_ZSTD,
        Compression::Gzip => admin::Compression::COMPRESSION_GZIP,
    }
}

/// `loom prune`, at this moment.
pub(super) fn prune(args: Prune, now: Timestamp) -> admin::PruneRequest {
    // What is older than time itself can be told: nothing is.
    let before = args.which.older_than.map(|age| now.checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH));
    admin::PruneRequest {
        before: before.map(wire).into(),
        labels: args.which.labels.into_iter().collect(),
        container: args.which.container.unwrap_or_default(),
        dry_run: args.dry_run,
        ..Default::default()
    }
}

/// What is asked of a branch.
fn options(operation: &str, asked: &Asked, whole: &Whole, start: &Start) -> MessageField<admin::Options> {
    let consistency = match whole.consistency {
        Consistency::Crash => admin::Consistency::CONSISTENCY_CRASH,
        Consistency::App => admin::Consistency::CONSISTENCY_APP,
    };
    let resume_policy = match start.resume {
        Policy::Immediate if !start.no_start => admin::ResumePolicy::RESUME_POLICY_IMMEDIATE,
        _ => admin::ResumePolicy::RESUME_POLICY_MANUAL,
    };
    MessageField::some(admin::Options {
        ttl_seconds: asked.ttl.map_or(0, |ttl| ttl.as_secs()),
        consistency: consistency.into(),
        resume_policy: resume_policy.into(),
        ..once(operation, &asked.once)
    })
}

/// What every operation can be asked for.
fn once(operation: &str, once: &Once) -> admin::Options {
    admin::Options {
        operation: operation.to_owned(),
        idempotency_key: once.idempotency_key.clone().unwrap_or_default(),
        ..Default::default()
    }
}

/// How a container that is made differs; its labels are asked for like any.
fn changes(changes: Changes, asked: Asked) -> MessageField<admin::Changes> {
    let volumes = match changes.volumes {
        Volumes::Share => admin::Volumes::VOLUMES_SHARE,
        Volumes::Clone => admin::Volumes::VOLUMES_CLONE,
    };
    MessageField::some(admin::Changes {
        env: changes.env,
        labels: asked.labels.into_iter().collect(),
        command: changes.command,
        publish: changes.publish,
        volumes: volumes.into(),
        ..Default::default()
    })
}

/// A time for the wire.
fn wire(time: Timestamp) -> Wire {
    let (mut seconds, mut nanos) = (time.as_second(), time.subsec_nanosecond());
    // Before 1970 they count backward here, and never on the wire.
    if nanos < 0 {
        (seconds, nanos) = (seconds - 1, nanos + 1_000_000_000);
    }
    Wire { seconds, nanos, ..Default::default() }
}
