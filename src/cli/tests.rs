//! The whole command against a loomd of its own: an admin server that answers what a test put into it.

#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io, thread};

use async_trait::async_trait;
use clap::CommandFactory as _;
use clap_complete::Shell;
use protobuf::MessageField;
use protobuf::well_known_types::timestamp::Timestamp;
use tokio::sync::oneshot;
use ttrpc::Code;
use ttrpc::r#async::{Server, ServerStreamSender, TtrpcContext};

use super::args::{self, Args, DEFAULT_ADDRESS, Verb};
use super::{Exit, completion, run};
use crate::protos::admin::*;
use crate::protos::admin_ttrpc::{Admin, create_admin};

fn words(line: &[&str]) -> Vec<OsString> {
    ["loom"].iter().chain(line).map(OsString::from).collect()
}

fn parse(line: &[&str]) -> Result<Args, clap::Error> {
    args::parse(words(line))
}

/// Runs a line; its exit, standard output and standard error.
fn loom(line: &[&str]) -> (Exit, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = run(words(line), &mut out, &mut err);
    (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn the_arguments_hold_together() {
    Args::command().debug_assert();
}

#[test]
fn verbs_take_what_their_help_says() {
    let args =
        parse(&["fork", "web", "--name", "try", "--count", "3", "--no-start", "-n", "k8s.io"]).unwrap();
    let (reference, name) = ("web".to_owned(), Some("try".to_owned()));
    assert_eq!(args.verb, Verb::Fork { reference, name, count: 3, no_start: true });
    assert_eq!(args.global.namespace, "k8s.io");

    let args = parse(&["snapshot", "container:a/web", "--label", "a=b=c", "--label", "d="]).unwrap();
    let labels = vec![("a".into(), "b=c".into()), ("d".into(), String::new())];
    assert_eq!(args.verb, Verb::Snapshot { reference: "container:a/web".into(), name: None, labels });

    let args = parse(&["--address", "unix:///x", "--containerd", "unix:///y", "rm", "a", "b"]).unwrap();
    assert_eq!((args.global.address.as_str(), args.global.containerd.as_str()), ("/x", "/y"));
    assert_eq!(args.verb, Verb::Rm { references: vec!["a".into(), "b".into()] });

    assert_eq!(parse(&["status", "--address", ""]).unwrap().global.address, DEFAULT_ADDRESS);
    assert_eq!(parse(&["ls", "--namespace", ""]).unwrap().global.namespace, "default");
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
        &["snapshot", "web", "--label", "novalue"],
        &["snapshot", "web", "--label", "=x"],
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

#[test]
fn the_completions_that_are_kept_are_the_commands() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("contrib/completions/loom.{shell}"));
        let text = fs::read_to_string(&kept).unwrap();
        assert!(
            text == completion(shell),
            "{} is old: cargo run --bin loom completion {shell} > {0}",
            kept.display()
        );
    }
}

#[test]
fn no_loomd_is_5() {
    let (exit, out, err) = loom(&["status", "--address", "/nonexistent/loom.sock"]);
    assert_eq!((exit, out.as_str()), (Exit::Unavailable, ""));
    assert_eq!(
        err,
        "loom: cannot reach loomd at /nonexistent/loom.sock: is it running? systemctl start loomd\n"
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    struct Closed(io::ErrorKind);
    impl io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let line = || words(&["completion", "bash"]);
    let mut err = Vec::new();
    assert_eq!(run(line(), &mut Closed(io::ErrorKind::BrokenPipe), &mut err), Exit::Done);
    assert!(err.is_empty());
    assert_eq!(run(line(), &mut Closed(io::ErrorKind::StorageFull), &mut err), Exit::Failed);
    assert!(err.starts_with(b"loom: cannot write to standard output"));
}

/// A loomd that knows one container, one snapshot, and how to refuse.
struct Fake;

fn refuse<T>(code: Code, message: &str) -> ttrpc::Result<T> {
    Err(ttrpc::Error::RpcStatus(ttrpc::get_status(code, message)))
}

fn web() -> Snapshot {
    Snapshot {
        id: "0123456789abcdef0123456789abcdef".into(),
        key: "default/7/web".into(),
        kind: Kind::KIND_ACTIVE.into(),
        container: "web".into(),
        namespace: "default".into(),
        created: MessageField::some(Timestamp {
            seconds: 1_700_000_000,
            nanos: 5_000_000,
            ..Default::default()
        }),
        home: "pool".into(),
        depth: 3,
        labels: [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    }
}

fn before() -> Snapshot {
    Snapshot {
        id: "fedcba9876543210fedcba9876543210".into(),
        name: "before".into(),
        kind: Kind::KIND_COMMITTED.into(),
        source: web().id,
        pinned: true,
        ..web()
    }
}

fn price() -> MessageField<Cost> {
    MessageField::some(Cost {
        method: "subvolume".into(),
        paused_us: 2_100,
        total_us: 14_000,
        ..Default::default()
    })
}

#[async_trait]
impl Admin for Fake {
    async fn status(&self, _: &TtrpcContext, _: StatusRequest) -> ttrpc::Result<StatusResponse> {
        Ok(StatusResponse {
            version: "0.1.0".into(),
            pid: 42,
            root: "/var/lib/loom".into(),
            root_filesystem: "ext4".into(),
            method: "copy".into(),
            containerd: "/run/containerd/containerd.sock".into(),
            listed: 2,
            ..Default::default()
        })
    }

    async fn list(
        &self,
        _: &TtrpcContext,
        request: ListRequest,
        sender: ServerStreamSender<ListResponse>,
    ) -> ttrpc::Result<()> {
        // Several batches: the end of one is not the end of the list.
        for snapshot in [web(), before()] {
            sender.send(&ListResponse { snapshots: vec![snapshot], ..Default::default() }).await?;
        }
        if request.all {
            let layer = Snapshot { image_layer: true, ..Default::default() };
            sender.send(&ListResponse { snapshots: vec![layer; 100], ..Default::default() }).await?;
        }
        Ok(())
    }

    async fn get(&self, _: &TtrpcContext, request: GetRequest) -> ttrpc::Result<GetResponse> {
        match request.reference.as_str() {
            "web" => Ok(GetResponse { snapshot: MessageField::some(web()), ..Default::default() }),
            "lost" => refuse(Code::UNAVAILABLE, "containerd does not answer"),
            other => refuse(Code::NOT_FOUND, &format!("snapshot {other:?} does not exist")),
        }
    }

    async fn lineage(
        &self,
        _: &TtrpcContext,
        _: LineageRequest,
        sender: ServerStreamSender<LineageResponse>,
    ) -> ttrpc::Result<()> {
        for snapshot in [before(), web()] {
            sender.send(&LineageResponse { snapshots: vec![snapshot], ..Default::default() }).await?;
        }
        Ok(())
    }

    async fn remove(&self, _: &TtrpcContext, request: RemoveRequest) -> ttrpc::Result<RemoveResponse> {
        match request.reference.as_str() {
            "before" => refuse(Code::FAILED_PRECONDITION, "snapshot \"before\" is pinned"),
            "none" => refuse(Code::NOT_FOUND, "snapshot \"none\" does not exist"),
            _ => Ok(RemoveResponse::new()),
        }
    }

    async fn snapshot(&self, _: &TtrpcContext, request: SnapshotRequest) -> ttrpc::Result<SnapshotResponse> {
        if request.name == "before" {
            return refuse(Code::ALREADY_EXISTS, "a snapshot named \"before\" already exists");
        }
        let snapshot = Snapshot { name: request.name, labels: request.labels, ..before() };
        Ok(SnapshotResponse { snapshot: MessageField::some(snapshot), cost: price(), ..Default::default() })
    }

    async fn fork(&self, _: &TtrpcContext, request: ForkRequest) -> ttrpc::Result<ForkResponse> {
        let containerd = &request.containerd;
        let fork = |at: u32| Forked {
            container: format!("{}-{at}", request.name),
            namespace: containerd.namespace.clone(),
            snapshot: containerd.address.clone(),
            pid: if request.options.resume_policy.enum_value()
                == Ok(crate::protos::admin::ResumePolicy::RESUME_POLICY_MANUAL)
            {
                0
            } else {
                100 + at
            },
            error: if at == 3 { "no space".into() } else { String::new() },
            ..Default::default()
        };
        let forks = (1..=request.count).map(fork).collect();
        Ok(ForkResponse { forks, cost: price(), ..Default::default() })
    }

    async fn clone_state(&self, _: &TtrpcContext, request: CloneRequest) -> ttrpc::Result<CloneResponse> {
        let clone = Forked { container: request.name, pid: 7, ..Default::default() };
        Ok(CloneResponse { clone: MessageField::some(clone), cost: price(), ..Default::default() })
    }
}

/// Runs `check` with the address of a [`Fake`] that is gone afterwards.
fn with_loomd(check: impl FnOnce(&dyn Fn(&str) -> (Exit, String, String))) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("loom.sock").display().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let (ready, started) = std::sync::mpsc::channel();
    let address = format!("unix://{socket}");
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut server =
                Server::new().bind(&address).unwrap().register_service(create_admin(Arc::new(Fake)));
            server.start().await.unwrap();
            ready.send(()).unwrap();
            let _ = stopped.await;
            server.shutdown().await.unwrap();
        });
    };
    let server = thread::spawn(serve);
    started.recv().unwrap();
    check(&|line| loom(&[&["--address", &socket], &*line.split(' ').collect::<Vec<_>>()].concat()));
    let _ = stop.send(());
    server.join().unwrap();
}

#[test]
fn people_read_tables_and_trees() {
    with_loomd(|loom| {
        let (exit, out, err) = loom("status");
        assert_eq!((exit, err.as_str()), (Exit::Done, ""));
        assert!(out.starts_with("version: 0.1.0\npid: 42\n") && out.contains("\npool: none\n"), "{out}");

        let (_, out, _) = loom("ls");
        let mut lines = out.lines();
        assert_eq!(
            lines.next(),
            Some("ID             NAME     KIND        CONTAINER   FROM   CREATED       PINNED")
        );
        assert!(
            lines.next().is_some_and(
                |line| line.starts_with("0123456789ab   web      active      web         -      ")
            )
        );
        assert!(
            lines
                .next()
                .is_some_and(|line| line.ends_with("pinned") && line.contains("   web         web    "))
        );
        assert_eq!(loom("ls -q").1, format!("{}\n{}\n", web().id, before().id));
        assert_eq!(loom("ls -q -a").1.lines().count(), 102);

        let (_, out, _) = loom("lineage before");
        assert!(out.lines().nth(1).is_some_and(|line| line.contains("its source")), "{out}");
        assert!(loom("tree").1.contains("\n└─ before  committed, pinned  "));
    });
}

#[test]
fn branches_tell_their_names_and_what_they_cost() {
    with_loomd(|loom| {
        let cost = "paused 2.1 ms, 14 ms in all (subvolume)\n";
        let told = |out: &str| (Exit::Done, out.to_owned(), cost.to_owned());
        assert_eq!(loom("snapshot web --name after --label a=b"), told("after\n"));
        assert_eq!(loom("clone before --name again"), told("again   pid 7\n"));
        assert_eq!(loom("fork web --name try --count 2"), told("try-1   pid 101\ntry-2   pid 102\n"));
        assert_eq!(loom("fork web --name try --no-start"), told("try-1   stopped\n"));
        let (exit, out, err) = loom("fork web --name try --count 3");
        assert_eq!((exit, out.lines().count()), (Exit::Failed, 2));
        assert_eq!(err, format!("{cost}loom: try-3: no space\n"));
    });
}

#[test]
fn programs_read_json() {
    with_loomd(|loom| {
        let (exit, out, err) = loom("inspect web");
        assert_eq!((exit, err.as_str()), (Exit::Done, ""));
        assert_eq!(
            out,
            r#"{
  "id": "0123456789abcdef0123456789abcdef",
  "name": null,
  "key": "default/7/web",
  "kind": "active",
  "parent": null,
  "source": null,
  "labels": {
    "a": "1",
    "b": "2"
  },
  "created": "2023-11-14T22:13:20.005Z",
  "updated": null,
  "pinned": false,
  "home": "pool",
  "depth": 3,
  "container": "web",
  "namespace": "default",
  "image_layer": false
}
"#
        );
        for line in ["ls --json", "tree --json", "lineage before --json", "rm a b --json"] {
            let (_, out, _) = loom(line);
            assert!(serde_json::from_str::<serde_json::Value>(&out).unwrap().is_array(), "{line}");
        }
        let (exit, out, err) = loom("fork web --name t --count 3 --json --containerd /c -n ns --no-start");
        let forks: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            (exit, err.as_str()),
            (Exit::Failed, "{\"error\":{\"code\":\"UNKNOWN\",\"message\":\"t-3: no space\"}}\n")
        );
        assert_eq!(
            forks["forks"][0],
            serde_json::json!({"container": "t-1", "namespace": "ns", "snapshot": "/c", "pid": null, "error": null})
        );
        assert_eq!(
            forks["cost"],
            serde_json::json!({"method": "subvolume", "paused_us": 2100, "total_us": 14000})
        );
    });
}

#[test]
fn refusals_have_their_exit_status() {
    with_loomd(|loom| {
        let failed = |exit, err: &str| (exit, String::new(), err.to_owned());
        let missing = "snapshot \"nobody\" does not exist";
        assert_eq!(loom("inspect nobody"), failed(Exit::NotFound, &format!("loom: {missing}\n")));
        let (exit, _, err) = loom("inspect nobody --json");
        assert_eq!(exit, Exit::NotFound);
        let error: serde_json::Value = serde_json::from_str(&err).unwrap();
        assert_eq!(error, serde_json::json!({"error": {"code": "NOT_FOUND", "message": missing}}));
        assert_eq!(loom("inspect lost").0, Exit::Unavailable);
        assert_eq!(loom("snapshot web --name before").0, Exit::Conflict);

        let (exit, out, err) = loom("rm a before none b");
        assert_eq!((exit, out.as_str()), (Exit::Conflict, "a\nb\n"));
        assert_eq!(err.lines().count(), 2);
    });
}

#[test]
fn a_loomd_that_goes_away_is_unavailable_not_the_end_of_a_list() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("loom.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    // Takes the call and hangs up.
    let server = thread::spawn(move || drop(listener.accept()));
    let (exit, out, err) = loom(&["ls", "--address", &socket.display().to_string()]);
    server.join().unwrap();
    assert_eq!((exit, out.as_str()), (Exit::Unavailable, ""));
    assert!(err.contains("went away before it answered"), "{err}");
}
