//! What can be typed, what is refused, and what loomd is asked then.

use std::time::Duration;

use clap::CommandFactory as _;
use jiff::Timestamp;

use super::super::args::{self, Args, Compression, DEFAULT_ADDRESS, Verb};
use super::super::ask;
use super::*;
use crate::protos::admin;

const OPERATION: &str = "5eed5eed5eed5eed5eed5eed5eed5eed";

fn parse(line: &[&str]) -> Result<Args, clap::Error> {
    args::parse(words(line))
}

/// The verb of a line; its words are parted by single spaces.
fn verb(line: &str) -> Verb {
    parse(&line.split(' ').collect::<Vec<_>>()).unwrap().verb
}

#[test]
fn the_arguments_hold_together() {
    Args::command().debug_assert();
}

#[test]
fn verbs_take_what_their_help_says() {
    let args = parse(&["--address", "unix:///x", "--containerd", "unix:///y", "rm", "a", "b"]).unwrap();
    assert_eq!((args.global.address.as_str(), args.global.containerd.as_str()), ("/x", "/y"));
    assert_eq!(args.verb, Verb::Rm { references: vec!["a".into(), "b".into()] });

    assert_eq!(parse(&["status", "--address", ""]).unwrap().global.address, DEFAULT_ADDRESS);
    assert_eq!(parse(&["ls", "--namespace", ""]).unwrap().global.namespace, "default");
    assert_eq!(parse(&["fork", "web", "-n", "k8s.io"]).unwrap().global.namespace, "k8s.io");

    assert_eq!(verb("operations"), Verb::Operations { limit: 20, watch: false });
    assert_eq!(verb("operation 4f2a --watch"), Verb::Operation { id: "4f2a".into(), watch: true });
    assert_eq!(verb("cancel 4f2a"), Verb::Cancel { id: "4f2a".into() });
}

#[test]
fn a_snapshot_asks_for_what_was_typed() {
    let line = "snapshot container:a/web --name n --label a=b=c --label d= --ttl 7d --consistency app \
                --idempotency-key k";
    let Verb::Snapshot(args) = verb(line) else { panic!("no snapshot") };
    let request = ask::snapshot(OPERATION, args);
    assert_eq!((request.reference.as_str(), request.name.as_str()), ("container:a/web", "n"));
    assert_eq!(request.labels, [("a".into(), "b=c".into()), ("d".into(), String::new())].into());
    let options = admin::Options {
        operation: OPERATION.into(),
        idempotency_key: "k".into(),
        ttl_seconds: 7 * 86_400,
        consistency: admin::Consistency::CONSISTENCY_APP.into(),
        resume_policy: admin::ResumePolicy::RESUME_POLICY_IMMEDIATE.into(),
        ..Default::default()
    };
    assert_eq!(*request.options, options);

    let Verb::Snapshot(args) = verb("snapshot web") else { panic!("no snapshot") };
    let request = ask::snapshot(OPERATION, args);
    assert_eq!((request.name.as_str(), request.options.ttl_seconds), ("", 0));
    assert_eq!(request.options.consistency.enum_value(), Ok(admin::Consistency::CONSISTENCY_CRASH));
}

#[test]
fn a_fork_asks_for_what_was_typed() {
    let line = "fork web --name try -c 3 --env A=b=c -e D --label x= -p 8080:80 --publish 53:53/udp \
                --volumes clone --resume manual -- sh -c --json";
    let Verb::Fork(args) = verb(line) else { panic!("no fork") };
    let request = ask::fork(OPERATION, args);
    assert_eq!((request.reference.as_str(), request.name.as_str(), request.count), ("web", "try", 3));
    assert_eq!(request.options.resume_policy.enum_value(), Ok(admin::ResumePolicy::RESUME_POLICY_MANUAL));
    let changes = admin::Changes {
        env: vec!["A=b=c".into(), "D".into()],
        labels: [("x".into(), String::new())].into(),
        command: vec!["sh".into(), "-c".into(), "--json".into()],
        publish: vec!["8080:80".into(), "53:53/udp".into()],
        volumes: admin::Volumes::VOLUMES_CLONE.into(),
        ..Default::default()
    };
    assert_eq!(*request.changes, changes);

    for (line, manual) in [
        ("clone before", false),
        ("clone before --no-start", true),
        ("clone before --resume manual", true),
        ("clone before --resume immediate", false),
    ] {
        let Verb::Clone(args) = verb(line) else { panic!("no clone") };
        let policy = ask::clone(OPERATION, args).options.resume_policy.enum_value();
        assert_eq!(policy == Ok(admin::ResumePolicy::RESUME_POLICY_MANUAL), manual, "{line}");
    }
}

#[test]
fn a_rollback_and_a_promotion_ask_for_what_was_typed() {
    let Verb::Rollback(args) = verb("rollback web before --name after --ttl 1h30m --label a=b") else {
        panic!("no rollback")
    };
    let request = ask::rollback(OPERATION, args);
    assert_eq!((request.reference.as_str(), request.snapshot.as_str()), ("web", "before"));
    assert_eq!((request.name.as_str(), request.discard), ("after", false));
    assert_eq!((request.options.ttl_seconds, request.labels["a"].as_str()), (5_400, "b"));

    let Verb::Promote(args) = verb("promote try --if-unchanged --discard --no-start") else {
        panic!("no promotion")
    };
    let request = ask::promote(OPERATION, args);
    assert_eq!((request.reference.as_str(), request.if_unchanged, request.discard), ("try", true, true));
    assert_eq!(request.options.operation, OPERATION);

    let Verb::Resume(args) = verb("resume web --idempotency-key k") else { panic!("no resume") };
    let request = ask::resume(OPERATION, args);
    assert_eq!((request.reference.as_str(), request.options.idempotency_key.as_str()), ("web", "k"));
}

#[test]
fn an_image_asks_for_what_was_typed() {
    let line = "commit web app:v2 -c USER\u{a0}me --change ENV\u{a0}A=b -a Jane -m why --portable --compression gzip \
                --replace --consistency app --idempotency-key k";
    let Verb::Commit(args) = verb(line) else { panic!("no commit") };
    let request = ask::commit(OPERATION, args);
    assert_eq!((request.reference.as_str(), request.image.as_str()), ("web", "app:v2"));
    assert_eq!(request.changes, ["USER\u{a0}me", "ENV\u{a0}A=b"]);
    assert_eq!((request.author.as_str(), request.message.as_str()), ("Jane", "why"));
    assert!(request.portable && request.replace);
    assert_eq!(request.compression.enum_value(), Ok(admin::Compression::COMPRESSION_GZIP));
    let options = &request.options;
    assert_eq!(options.consistency.enum_value(), Ok(admin::Consistency::CONSISTENCY_APP));
    assert_eq!((options.operation.as_str(), options.idempotency_key.as_str()), (OPERATION, "k"));

    let Verb::Portable(args) = verb("portable app:v2") else { panic!("no portable") };
    let request = ask::portable(OPERATION, args);
    assert_eq!((request.image.as_str(), request.options.operation.as_str()), ("app:v2", OPERATION));
    assert_eq!(request.compression.enum_value(), Ok(admin::Compression::COMPRESSION_ZSTD));

    let Verb::Push(args) = verb("push app --compression gzip -- --all-platforms --json") else {
        panic!("no push")
    };
    assert_eq!((args.compression, args.args.len()), (Compression::Gzip, 2));
}

#[test]
fn an_archive_asks_for_what_was_typed() {
    let exported = |line| match verb(line) {
        Verb::Export(args) => ask::export(OPERATION, args),
        Verb::Save(args) => ask::save(OPERATION, &args),
        other => panic!("{other:?}"),
    };
    let request = exported("export web --format oci --image app:v2 --compression gzip -o a.tar");
    assert_eq!((request.reference.as_str(), request.image.as_str()), ("web", "app:v2"));
    assert_eq!(request.format.enum_value(), Ok(admin::ArchiveFormat::ARCHIVE_FORMAT_OCI));
    assert_eq!(request.compression.enum_value(), Ok(admin::Compression::COMPRESSION_GZIP));
    let request = exported("export web --consistency app");
    assert_eq!(request.format.enum_value(), Ok(admin::ArchiveFormat::ARCHIVE_FORMAT_TAR));
    assert_eq!(request.options.consistency.enum_value(), Ok(admin::Consistency::CONSISTENCY_APP));
    let request = exported("save web");
    assert_eq!(request.reference, "image:web", "a container may be called so");
    assert_eq!(request.format.enum_value(), Ok(admin::ArchiveFormat::ARCHIVE_FORMAT_OCI));

    let imported = |line| match verb(line) {
        Verb::Import(args) => (args.file.clone(), ask::import(OPERATION, args)),
        other => panic!("{other:?}"),
    };
    let (file, request) = imported("import");
    assert_eq!((file.to_str(), request.image.as_str()), (Some("-"), ""));
    assert_eq!(request.snapshotter, "loom");
    let (file, request) = imported("import a.tar app:v2 -m why --snapshotter mine --idempotency-key k");
    assert_eq!((file.to_str(), request.image.as_str()), (Some("a.tar"), "app:v2"));
    assert_eq!((request.message.as_str(), request.snapshotter.as_str()), ("why", "mine"));
    assert_eq!(request.options.idempotency_key, "k");

    let Verb::Diff(args) = verb("diff before web -p") else { panic!("no diff") };
    let request = ask::diff(args);
    assert_eq!((request.from.as_str(), request.to.as_str(), request.patch), ("before", "web", true));
}

#[test]
fn what_can_be_no_image_is_refused() {
    for name in [
        "app",
        "app:v2",
        "localhost:5000/team/app_x.y-z:v2",
        "[::1]:5000/app",
        "app@sha256:0123",
        "Registry.Example.com/app",
    ] {
        assert!(parse(&["tag", "app", name]).is_ok(), "{name}");
    }
    for name in ["", "a b", "app:", "/app", "app/", ":v2", "app\n", "äpp", "app;rm"] {
        assert!(parse(&["tag", "app", name]).is_err(), "{name}");
    }
    for change in ["CMD x", "cmd [\"x\"]", " ENV  A=b ", "label a=b"] {
        assert!(parse(&["commit", "web", "app", &format!("--change={change}")]).is_ok(), "{change}");
    }
    for change in ["", "RUN make", "CMD", "CMD ", "COPY a b"] {
        assert!(parse(&["commit", "web", "app", &format!("--change={change}")]).is_err(), "{change}");
    }
}

#[test]
fn a_prune_asks_for_what_was_typed() {
    let now = Timestamp::new(1_000_000, 500_000_000).unwrap();
    let asked = |line| match verb(line) {
        Verb::Prune(args) => ask::prune(args, now),
        other => panic!("{other:?}"),
    };
    let request = asked("prune --older-than 1d --label a=b --label c= --container web --dry-run");
    assert_eq!((request.before.seconds, request.before.nanos), (1_000_000 - 86_400, 500_000_000));
    assert_eq!(request.labels, [("a".into(), "b".into()), ("c".into(), String::new())].into());
    assert_eq!((request.container.as_str(), request.dry_run), ("web", true));
    let request = asked("prune --older-than 20d");
    assert_eq!((request.before.seconds, request.before.nanos), (1_000_000 - 20 * 86_400, 500_000_000));
    let request = asked("prune --all");
    assert!(request.before.is_none() && request.labels.is_empty() && !request.dry_run);
}

#[test]
fn a_duration_is_in_words_that_people_use() {
    for (text, seconds) in [
        ("1s", 1),
        ("90s", 90),
        ("15m", 900),
        ("12h", 43_200),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("1h30m", 5_400),
        ("1d 2h", 93_600),
        ("1500ms", 1),
    ] {
        let Verb::Snapshot(args) = parse(&["snapshot", "web", "--ttl", text]).unwrap().verb else {
            panic!("no snapshot")
        };
        assert_eq!(args.asked.ttl, Some(Duration::from_secs(seconds)), "{text}");
    }
    for text in ["", "7", "0s", "999ms", "-1h", "1h ago", "1y", "1mo", "soon", "99999999999999999999d"] {
        assert!(parse(&["snapshot", "web", &format!("--ttl={text}")]).is_err(), "{text:?}");
    }
}

#[test]
fn a_wrong_line_is_refused_with_2() {
    let wrong: &[&[&str]] = &[
        &[],
        &["frok", "web"],
        &["fork"],
        &["fork", ""],
        &["fork", "container:"],
        &["fork", "web", "--count", "0"],
        &["fork", "web", "--count", "1001"],
        &["fork", "web", "--count", "-1"],
        &["fork", "web", "extra"],
        &["fork", "web", "--no-start", "--resume", "manual"],
        &["fork", "web", "--resume", "later"],
        &["fork", "web", "--env", "=x"],
        &["fork", "web", "--consistency", "none"],
        &["clone", "before", "--count", "2"],
        &["clone", "before", "--consistency", "app"],
        &["snapshot", "web", "--label", "novalue"],
        &["snapshot", "web", "--label", "=x"],
        &["snapshot", "web", "--no-start"],
        &["rollback", "web"],
        &["rollback", "web", "before", "--discard", "--name", "kept"],
        &["rollback", "web", "before", "--discard", "--ttl", "1d"],
        &["promote", "try", "--volumes", "clone"],
        &["commit", "web"],
        &["commit", "web", "app", "--compression", "gzip"],
        &["commit", "web", "app", "--portable", "--compression", "xz"],
        &["commit", "web", "app", "--ttl", "1d"],
        &["portable"],
        &["images", "-q", "--json"],
        &["tag", "app"],
        &["push", "app", "--all-platforms"],
        &["diff"],
        &["diff", "a", "image:"],
        &["export", "web", "--image", "app"],
        &["export", "web", "--compression", "gzip"],
        &["export", "web", "--format", "docker"],
        &["prune"],
        &["prune", "--dry-run"],
        &["prune", "--all", "--label", "a=b"],
        &["operations", "--limit", "0"],
        &["operations", "--limit", "5", "--watch"],
        &["operation"],
        &["cancel"],
        &["ls", "-q", "--json"],
        &["rm"],
        &["completion", "tcsh"],
        &["status", "--nothing"],
    ];
    for line in wrong {
        let error = parse(line).unwrap_err();
        assert!(error.use_stderr() && error.exit_code() == 2, "{line:?}");
        assert_eq!(loom(&[*line, &["--json"]].concat()).0, Exit::Usage, "{line:?}");
    }
    assert_eq!(parse(&["fork", "--help"]).unwrap_err().exit_code(), 0);
    let (_, out, err) = loom(&["--json", "fork"]);
    assert_eq!(out, "");
    assert!(
        err.starts_with(r#"{"error":{"code":"INVALID_ARGUMENT","message":"the following required"#),
        "{err}"
    );
}
