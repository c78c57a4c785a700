//! The whole command against a loomd of its own: an admin server that answers what a test put into it.

#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::path::Path;
use std::{fs, io, thread};

use clap_complete::Shell;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};

use self::fake::{before, web, with_loomd};
use super::{Exit, completion, run};

mod args;
mod branches;
mod fake;
mod images;
mod operations;
mod pool;

fn words(line: &[&str]) -> Vec<OsString> {
    ["loom"].iter().chain(line).map(OsString::from).collect()
}

/// A person who presses Ctrl-C so many times, at once.
fn impatient(times: usize) -> BoxStream<'static, ()> {
    stream::iter(vec![(); times]).chain(stream::pending()).boxed()
}

/// Runs a line; its exit, standard output and standard error.
fn loom(line: &[&str]) -> (Exit, String, String) {
    loom_interrupted(0, line)
}

/// The same, with so many Ctrl-C.
fn loom_interrupted(times: usize, line: &[&str]) -> (Exit, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = run(words(line), &mut out, &mut err, impatient(times));
    (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
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
    assert_eq!(run(line(), &mut Closed(io::ErrorKind::BrokenPipe), &mut err, impatient(0)), Exit::Done);
    assert!(err.is_empty());
    assert_eq!(run(line(), &mut Closed(io::ErrorKind::StorageFull), &mut err, impatient(0)), Exit::Failed);
    assert!(err.starts_with(b"loom: cannot write to standard output"));
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
            Some("ID             NAME     KIND        CONTAINER   FROM   CREATED       PINNED   EXPIRES")
        );
        assert!(
            lines.next().is_some_and(
                |line| line.starts_with("0123456789ab   web      active      web         -      ")
            )
        );
        assert!(
            lines
                .next()
                .is_some_and(|line| line.ends_with("pinned   now") && line.contains("   web         web    "))
        );
        assert_eq!(loom("ls -q").1, format!("{}\n{}\n", web().id, before().id));
        assert_eq!(loom("ls -q -a").1.lines().count(), 102);

        let (_, out, _) = loom("lineage before");
        assert!(out.lines().nth(1).is_some_and(|line| line.contains("its source")), "{out}");
        assert!(
            out.starts_with("ID             NAME     KIND        NEXT IS      OWN   SHARED   CREATED"),
            "{out}"
        );
        let (_, out, _) = loom("tree");
        assert!(out.contains("\n└─ before  snapshot ") && out.contains("  pinned\n"), "{out}");
        assert_eq!(loom("tree web").1.lines().count(), 3);
        for verb in ["tree", "lineage before"] {
            for (format, begins) in
                [("text", ""), ("dot", "digraph "), ("mermaid", "flowchart "), ("svg", "<svg ")]
            {
                let (exit, out, _) = loom(&format!("{verb} --format {format}"));
                assert!(exit == Exit::Done && out.starts_with(begins), "{format}: {out}");
                assert!(out.contains("before"), "{format}: {out}");
            }
            assert_eq!(loom(&format!("{verb} --format json")), loom(&format!("{verb} --json")));
            assert_eq!(loom(&format!("{verb} --format dot --json")).0, Exit::Usage);
        }
        assert_eq!(loom("tree nobody").0, Exit::NotFound);
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
  "container_name": "web",
  "namespace": "default",
  "image_layer": false,
  "operation": "5eed5eed5eed5eed5eed5eed5eed5eed",
  "expires": null,
  "images": [],
  "size": null,
  "limit": null
}
"#
        );
        for line in ["ls --json", "tree --json", "lineage before --json", "rm a b --json"] {
            let (_, out, _) = loom(line);
            assert!(serde_json::from_str::<serde_json::Value>(&out).unwrap().is_array(), "{line}");
        }
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
