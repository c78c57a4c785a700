//! Requests as the core's types. What a message can say and the core has no type for is refused here.

use std::collections::HashMap;
use std::time::Duration;

use protobuf::well_known_types::timestamp::Timestamp;
use protobuf::{Enum, EnumOrUnknown};

use crate::containerd::{Archive, Changes, Commit, Compression, Consistency, Import, Options, Volumes};
use crate::error::{Error, Result};
use crate::protos::admin as proto;
use crate::server::convert::from_labels;
use crate::snapshot::Pruned;
use crate::store::Time;

/// What containerd calls us, unless told otherwise.
const SNAPSHOTTER: &str = "loom";
/// The longest idempotency key, in bytes.
const LONGEST_KEY: usize = 256;
/// The longest that anything is kept by a ttl: ten years.
const LONGEST_TTL: Duration = Duration::from_hours(10 * 365 * 24);

/// What a branch is asked for. The name and the labels are for what it makes; an empty name is none.
pub(super) fn options(
    given: Option<proto::Options>,
    name: String,
    labels: HashMap<String, String>,
) -> Result<Options> {
    let given = given.unwrap_or_default();
    let operation = match given.operation.as_str() {
        "" => None,
        id => {
            let id = id.parse().map_err(|_| {
                Error::invalid(format!("operation id {id:?}"), "an id is 32 lowercase hex digits")
            })?;
            Some(id)
        }
    };
    if given.idempotency_key.len() > LONGEST_KEY {
        let what = format!("an idempotency key of {} bytes", given.idempotency_key.len());
        return Err(Error::invalid(what, format!("it may have {LONGEST_KEY}")));
    }
    let ttl = Duration::from_secs(given.ttl_seconds);
    if ttl > LONGEST_TTL {
        let what = format!("a ttl of {} seconds", ttl.as_secs());
        return Err(Error::invalid(what, "ten years are the most; without one, it is kept for ever"));
    }
    Ok(Options {
        operation,
        idempotency_key: some(given.idempotency_key),
        name: some(name),
        labels: from_labels(labels),
        ttl: (!ttl.is_zero()).then_some(ttl),
        consistency: match known("consistency", given.consistency)? {
            proto::Consistency::CONSISTENCY_APP => Consistency::App,
            proto::Consistency::CONSISTENCY_CRASH | proto::Consistency::CONSISTENCY_UNSPECIFIED => {
                Consistency::Crash
            }
        },
        no_start: match known("resume policy", given.resume_policy)? {
            proto::ResumePolicy::RESUME_POLICY_MANUAL => true,
            proto::ResumePolicy::RESUME_POLICY_IMMEDIATE | proto::ResumePolicy::RESUME_POLICY_UNSPECIFIED => {
                false
            }
        },
    })
}

/// What a branch is asked for that makes containers, and how these differ from their source.
pub(super) fn branch(
    options: Option<proto::Options>,
    changes: Option<proto::Changes>,
    name: String,
) -> Result<(Options, Changes)> {
    let given = changes.unwrap_or_default();
    let changes = Changes {
        volumes: match known("choice of volumes", given.volumes)? {
            proto::Volumes::VOLUMES_CLONE => Volumes::Clone,
            proto::Volumes::VOLUMES_SHARE | proto::Volumes::VOLUMES_UNSPECIFIED => Volumes::Share,
        },
        env: given.env,
        command: given.command,
        publish: given.publish,
    };
    Ok((self::options(options, name, given.labels)?, changes))
}

/// An image that is to be made of a state.
pub(super) fn commit(request: &mut proto::CommitRequest) -> Result<(Commit, Options)> {
    let compression = compression(request.compression)?;
    let commit = Commit {
        image: std::mem::take(&mut request.image),
        changes: std::mem::take(&mut request.changes),
        author: std::mem::take(&mut request.author),
        message: std::mem::take(&mut request.message),
        portable: request.portable.then_some(compression),
        replace: request.replace,
    };
    Ok((commit, only(request.options.take())?))
}

/// An image that is to be made of an archive.
pub(super) fn import(to: proto::ImportTo) -> Result<(Import, Options)> {
    let import = Import {
        image: some(to.image),
        changes: to.changes,
        message: to.message,
        snapshotter: some(to.snapshotter).unwrap_or_else(|| SNAPSHOTTER.to_owned()),
    };
    Ok((import, only(to.options.into_option())?))
}

/// What is asked of what makes neither a container nor a snapshot with a name.
pub(super) fn only(given: Option<proto::Options>) -> Result<Options> {
    options(given, String::new(), HashMap::default())
}

/// How a layer is compressed.
pub(super) fn compression(given: EnumOrUnknown<proto::Compression>) -> Result<Compression> {
    Ok(match known("compression", given)? {
        proto::Compression::COMPRESSION_GZIP => Compression::Gzip,
        proto::Compression::COMPRESSION_ZSTD | proto::Compression::COMPRESSION_UNSPECIFIED => {
            Compression::Zstd
        }
    })
}

/// What an archive is.
pub(super) fn archive(given: EnumOrUnknown<proto::ArchiveFormat>) -> Result<Archive> {
    Ok(match known("format of an archive", given)? {
        proto::ArchiveFormat::ARCHIVE_FORMAT_OCI => Archive::Oci,
        proto::ArchiveFormat::ARCHIVE_FORMAT_TAR | proto::ArchiveFormat::ARCHIVE_FORMAT_UNSPECIFIED => {
            Archive::Tar
        }
    })
}

/// What a prune is about. Its container need not exist, so it is not looked up.
pub(super) fn pruned(request: proto::PruneRequest, namespace: &str) -> Result<Pruned> {
    let container = match request.container.as_str() {
        "" => None,
        reference if reference.starts_with("snapshot:") => {
            return Err(Error::invalid(format!("container {reference:?}"), "it names a snapshot"));
        }
        reference => {
            let (namespace, name) = match reference.strip_prefix("container:") {
                Some(name) => name.split_once('/').unwrap_or((namespace, name)),
                None => (namespace, reference),
            };
            Some((namespace.to_owned(), name.to_owned()))
        }
    };
    let before = request.before.into_option().map(|before| time(&before)).transpose()?;
    Ok(Pruned { before, labels: from_labels(request.labels), container })
}

/// A moment that can be told in nanoseconds.
fn time(given: &Timestamp) -> Result<Time> {
    let nanos = given.seconds.checked_mul(1_000_000_000).and_then(|s| s.checked_add(given.nanos.into()));
    nanos.filter(|_| (0..1_000_000_000).contains(&given.nanos)).map(Time).ok_or_else(|| {
        let what = format!("time {} s {} ns", given.seconds, given.nanos);
        Error::invalid(what, "it is no moment between the years 1678 and 2262")
    })
}

/// A choice that this loomd knows.
fn known<E: Enum>(what: &str, given: EnumOrUnknown<E>) -> Result<E> {
    given.enum_value().map_err(|number| {
        Error::invalid(format!("{what} {number}"), "this loomd does not know it; is its client newer?")
    })
}

/// What is given; empty is none.
pub(super) fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn read(given: proto::Options) -> Result<Options> {
        options(Some(given), String::new(), HashMap::new())
    }

    #[test]
    fn nothing_asked_is_the_default() {
        assert_eq!(options(None, String::new(), HashMap::new()).unwrap(), Options::default());
        assert_eq!(read(proto::Options::new()).unwrap(), Options::default());
        let (options, changes) = branch(None, None, String::new()).unwrap();
        assert_eq!((options, changes), (Options::default(), Changes::default()));
    }

    #[test]
    fn all_that_is_asked_comes_through() {
        let given = proto::Options {
            operation: "0123456789abcdef0123456789abcdef".into(),
            idempotency_key: "nightly-7".into(),
            ttl_seconds: 90,
            consistency: proto::Consistency::CONSISTENCY_APP.into(),
            resume_policy: proto::ResumePolicy::RESUME_POLICY_MANUAL.into(),
            ..Default::default()
        };
        let changes = proto::Changes {
            env: vec!["A=b".into(), "C".into()],
            labels: HashMap::from([("job".into(), "nightly".into())]),
            command: vec!["sh".into(), "-c".into()],
            publish: vec!["8080:80".into()],
            volumes: proto::Volumes::VOLUMES_CLONE.into(),
            ..Default::default()
        };
        let (options, changes) = branch(Some(given), Some(changes), "try".into()).unwrap();
        assert_eq!(
            options,
            Options {
                operation: Some("0123456789abcdef0123456789abcdef".parse().unwrap()),
                idempotency_key: Some("nightly-7".into()),
                name: Some("try".into()),
                labels: [("job".into(), "nightly".into())].into(),
                ttl: Some(Duration::from_secs(90)),
                consistency: Consistency::App,
                no_start: true,
            }
        );
        assert_eq!(
            changes,
            Changes {
                env: vec!["A=b".into(), "C".into()],
                command: vec!["sh".into(), "-c".into()],
                publish: vec!["8080:80".into()],
                volumes: Volumes::Clone,
            }
        );
    }

    #[test]
    fn what_means_nothing_is_an_invalid_argument() {
        let wrong = |change: fn(&mut proto::Options)| {
            let mut given = proto::Options::new();
            change(&mut given);
            let error = read(given).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
            error.to_string()
        };
        assert!(wrong(|o| o.operation = "0123".into()).contains("operation id \"0123\""));
        assert!(wrong(|o| o.operation = "0123456789ABCDEF0123456789ABCDEF".into()).contains("lowercase"));
        assert!(wrong(|o| o.idempotency_key = "k".repeat(257)).contains("257 bytes"));
        assert!(wrong(|o| o.ttl_seconds = u64::MAX).contains("ten years"));
        assert!(wrong(|o| o.consistency = EnumOrUnknown::from_i32(9)).contains("consistency 9"));
        assert!(wrong(|o| o.resume_policy = EnumOrUnknown::from_i32(-1)).contains("resume policy -1"));
        let changes = proto::Changes { volumes: EnumOrUnknown::from_i32(3), ..Default::default() };
        assert!(branch(None, Some(changes), String::new()).unwrap_err().to_string().contains("volumes 3"));
    }

    #[test]
    fn images_are_asked_for_likewise() {
        let mut request = proto::CommitRequest {
            image: "app:1".into(),
            changes: vec!["CMD [\"x\"]".into()],
            author: "me".into(),
            message: "why".into(),
            compression: proto::Compression::COMPRESSION_GZIP.into(),
            replace: true,
            ..Default::default()
        };
        let (here, _) = commit(&mut request.clone()).unwrap();
        let expected = Commit {
            image: "app:1".into(),
            changes: vec!["CMD [\"x\"]".into()],
            author: "me".into(),
            message: "why".into(),
            portable: None,
            replace: true,
        };
        assert_eq!(here, expected);
        request.portable = true;
        let (portable, _) = commit(&mut request).unwrap();
        assert_eq!(portable, Commit { portable: Some(Compression::Gzip), ..expected });
        request.compression = EnumOrUnknown::from_i32(7);
        assert!(commit(&mut request).unwrap_err().to_string().contains("compression 7"));

        let (import, _) = import(proto::ImportTo { message: "m".into(), ..Default::default() }).unwrap();
        assert_eq!((import.image, import.snapshotter.as_str()), (None, "loom"));
        assert_eq!(archive(proto::ArchiveFormat::ARCHIVE_FORMAT_UNSPECIFIED.into()).unwrap(), Archive::Tar);
        assert!(archive(EnumOrUnknown::from_i32(3)).is_err());
    }

    #[test]
    fn a_ttl_is_a_second_to_ten_years() {
        let ttl = |ttl_seconds| read(proto::Options { ttl_seconds, ..Default::default() });
        assert_eq!(ttl(1).unwrap().ttl, Some(Duration::from_secs(1)));
        assert_eq!(ttl(LONGEST_TTL.as_secs()).unwrap().ttl, Some(LONGEST_TTL));
        assert!(ttl(LONGEST_TTL.as_secs() + 1).is_err());
    }

    #[test]
    fn a_prune_is_about_a_container_that_may_be_gone() {
        let container = |container: &str| {
            let request = proto::PruneRequest { container: container.into(), ..Default::default() };
            pruned(request, "ci").map(|pruned| pruned.container)
        };
        let pair = |namespace: &str, name: &str| Some((namespace.to_owned(), name.to_owned()));
        assert_eq!(container("").unwrap(), None);
        assert_eq!(container("web").unwrap(), pair("ci", "web"));
        assert_eq!(container("container:web").unwrap(), pair("ci", "web"));
        assert_eq!(container("container:k8s.io/web").unwrap(), pair("k8s.io", "web"));
        assert_eq!(container("snapshot:web").unwrap_err().kind(), Kind::InvalidArgument);
    }

    #[test]
    fn a_prune_is_about_what_was_made_before_a_moment() {
        let before = |seconds, nanos| {
            let before = Some(Timestamp { seconds, nanos, ..Default::default() }).into();
            pruned(proto::PruneRequest { before, ..Default::default() }, "ci").map(|pruned| pruned.before)
        };
        assert_eq!(before(1, 5).unwrap(), Some(Time(1_000_000_005)));
        assert_eq!(before(-1, 5).unwrap(), Some(Time(-999_999_995)));
        for (seconds, nanos) in [(i64::MAX, 0), (0, -1), (0, 1_000_000_000)] {
            assert!(before(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
    }
}
