//! Input that is wrong, or meant to harm: it is refused with an answer that names the thing, nothing is
//! lost by it and nothing is left.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use containerd_client::tonic::Request;

use loom_snapshotter::protos::{snapshots, snapshots_ttrpc};
use loom_snapshotter::snapshot::FORK_LABEL;

use support::containerd::Version;
use support::doors::{Doors, Refusal, prepare_request};
use support::image::small;
use support::layout::Layout;
use support::loom::try_loom;
use support::process::said;
use support::stage::Stage;
use support::wait::{DEADLINE, wait_until};

const INVALID: i32 = 3;
const NOT_FOUND: i32 = 5;
const PRECONDITION: i32 = 9;

/// A loomd alone.
fn alone(layout: Layout) -> Stage {
    let mut stage = Stage::prepared(layout, Version::Current);
    stage.loomd.start();
    stage
}

/// `loom ARGS` ends with this status, and says these things on standard error.
fn refused(stage: &Stage, args: &[&str], status: i32, parts: &[&str]) {
    let output = try_loom(&stage.loomd.ttrpc_socket(), args);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(status), "loom {args:?}: {said}");
    for part in parts {
        assert!(said.contains(part), "loom {args:?}: {part:?} is not in: {said}");
    }
}

#[test]
fn keys_that_could_be_paths() {
    let stage = alone(Layout::Ext4);
    let doors = stage.doors();
    doors.prepare("good", "", &[]).unwrap();
    let long = "k".repeat(64 << 10);
    let bad = ["", "..", "../../etc", "default/1/../../../etc", "a\0b", "/..", "a\nb", "\u{1b}[2J", &long];
    let by_ttrpc = |key: &str| {
        doors.run(async {
            let client = snapshots_ttrpc::SnapshotsClient::new(doors.ttrpc().await);
            let request = snapshots::PrepareSnapshotRequest { key: key.into(), ..Default::default() };
            client.prepare(ttrpc::context::Context::default(), &request).await.map_err(Refusal::from)
        })
    };
    for key in bad {
        let name = if key.is_empty() { "key" } else { &key[..key.len().min(1)].escape_debug().to_string() };
        doors.prepare(key, "", &[]).unwrap_err().assert(INVALID, &["key", name]);
        by_ttrpc(key).unwrap_err().assert(INVALID, &["key", name]);
        doors.view(key, "").unwrap_err().assert(INVALID, &["key", name]);
        doors.commit(key, "good", &[]).unwrap_err().assert(INVALID, &["key", name]);
        // What does not exist is not found, whatever it is called; and no message repeats 64 KiB.
        for refusal in [doors.stat(key).unwrap_err(), doors.remove(key).unwrap_err()] {
            assert!([INVALID, NOT_FOUND].contains(&refusal.code), "{}", refusal.message);
        }
        let refusal = doors.prepare(key, "", &[]).unwrap_err();
        assert!(refusal.message.len() < 1000, "{} bytes: {:.200}", refusal.message.len(), refusal.message);
    }
    // Odd, but harmless: no key is ever a path.
    let odd = [
        "/etc/passwd",
        "victim/1/secret",
        ".",
        "a/./b",
        "-rf",
        "$(reboot)",
        "'; DROP TABLE snapshots; --",
        "\u{1f9f5}",
    ];
    for key in odd {
        doors.prepare(key, "", &[]).unwrap();
        doors.stat(key).unwrap();
    }
    let mut keys = doors.list().unwrap();
    keys.sort();
    let mut expected = odd.to_vec();
    expected.push("good");
    expected.sort_unstable();
    assert_eq!(keys, expected);
    for layer in stage.place.layers() {
        let name = layer.file_name().unwrap().to_str().unwrap();
        assert!(name.bytes().all(|byte| byte.is_ascii_digit()), "{name}");
    }
    stage.wait_until_agreed();
    for key in expected {
        doors.remove(key).unwrap();
    }
    stage.wait_until_agreed();
    assert_eq!(stage.place.layers().len(), 0);
}

#[test]
fn parents_and_labels_that_cannot_be() {
    let stage = alone(Layout::Ext4Pool);
    let doors = stage.doors();
    doors.prepare("one", "", &[("keep", "me")]).unwrap();
    doors.prepare("two", "nobody", &[]).unwrap_err().assert(NOT_FOUND, &["parent", "nobody"]);
    doors.view("two", "nobody").unwrap_err().assert(NOT_FOUND, &["parent", "nobody"]);
    doors.prepare("two", "one", &[]).unwrap_err().assert(INVALID, &["\"one\"", "committed"]);
    for refusal in [doors.upper("nobody").unwrap_err(), doors.usage("nobody").unwrap_err()] {
        refusal.assert(NOT_FOUND, &["nobody"]);
    }

    let long = "v".repeat(4096);
    let bad = [("size", long.as_str()), ("", "value"), ("null", "a\0b")];
    for label in bad {
        doors.prepare("two", "", &[label]).unwrap_err().assert(INVALID, &["label", label.0]);
        doors.update("one", &[label]).unwrap_err().assert(INVALID, &["label", label.0]);
        doors.commit("two", "one", &[label]).unwrap_err().assert(INVALID, &["label", label.0]);
    }
    let info = doors.stat("one").unwrap();
    assert_eq!(info.labels.get("keep").map(String::as_str), Some("me"));
    assert_eq!(doors.list().unwrap(), ["one"]);
    stage.wait_until_agreed();
    doors.commit("two", "one", &[("size", &long[..4092])]).unwrap();
}

/// What containerd lets its clients of one namespace ask for does not reach another's.
#[test]
fn other_namespaces_are_out_of_reach() {
    let stage = Stage::new(Layout::Btrfs, Version::Current);
    let containerd = Doors::new(stage.containerd.socket(), stage.loomd.ttrpc_socket());
    let prepare = |namespace: &str, key: &str, labels: &[(&str, &str)]| {
        containerd.run(async {
            let mut request = Request::new(prepare_request(key, "", labels));
            request.get_mut().snapshotter = "loom".into();
            request.metadata_mut().insert("containerd-namespace", namespace.parse().unwrap());
            containerd.grpc().await.prepare(request).await.map(drop).map_err(Refusal::from)
        })
    };
    // containerd's collector takes what nothing refers to.
    let root = ("containerd.io/gc.root", "now");
    prepare("victim", "secret", &[root]).unwrap();
    let rows = stage.loom_json(&["ls", "--all"]);
    let (id, key) = (rows[0]["id"].as_str().unwrap(), rows[0]["key"].as_str().unwrap());
    assert!(key.starts_with("victim/"), "{key}");

    prepare("default", "../../victim/1/secret", &[]).unwrap_err().assert(INVALID, &["key"]);
    for of in ["secret", key, "../secret"] {
        let refusal = prepare("default", "fork", &[(FORK_LABEL, of)]).unwrap_err();
        refusal.assert(NOT_FOUND, &[of]);
    }
    let of = format!("id:{id}");
    prepare("default", "fork", &[(FORK_LABEL, &of)]).unwrap_err().assert(PRECONDITION, &["namespace"]);
    prepare("default", "fork", &[(FORK_LABEL, "grant:0")]).unwrap_err().assert(PRECONDITION, &["grant"]);
    // The same from within is a fork.
    prepare("victim", "fork", &[(FORK_LABEL, &of), root]).unwrap();

    // A name that only looks like another namespace's is one's own.
    prepare("default", key, &[root]).unwrap();
    let rows = stage.loom_json(&["ls", "--all"]);
    let own = rows.as_array().unwrap().iter().filter(|row| row["key"].as_str().unwrap().ends_with(key));
    assert_eq!(own.count(), 2);
    stage.wait_until_agreed();
}

/// Each class of error has its exit status, and its text names the thing.
#[test]
fn what_loom_refuses() {
    let stage = Stage::new(Layout::Ext4, Version::Current);
    let image = stage.import(&small());
    stage.containerd.import("overlayfs", &small().archive);
    let containerd = &stage.containerd;
    containerd.ctr(&["run", "-d", "--snapshotter", "overlayfs", &image, "elsewhere", "sleep", "10000"]);
    containerd.ctr(&["run", "-d", "--snapshotter", "loom", &image, "here", "sleep", "10000"]);
    stage.loom_json(&["snapshot", "here", "--name", "state"]);
    stage.loom_json(&["pin", "state"]);
    let rows = stage.loom_json(&["ls", "--all"]);
    let rows = rows.as_array().unwrap();
    let layer = rows.iter().find(|row| row["image_layer"] == true).unwrap()["id"].as_str().unwrap();
    let before = stage.place.layers();

    for verb in ["fork", "snapshot", "pin", "lineage", "inspect"] {
        refused(&stage, &[verb, "elsewhere"], 4, &["elsewhere", "overlayfs", "--snapshotter loom"]);
        refused(&stage, &[verb, "nobody"], 3, &["nobody", "\"default\""]);
        refused(&stage, &["-n", "nowhere", verb, "here"], 3, &["here", "nowhere"]);
        refused(&stage, &["-n", "no/where", verb, "here"], 2, &["no/where"]);
        refused(&stage, &[verb, "container:"], 2, &["container:"]);
        refused(&stage, &[verb, "container:../here"], 2, &["\"..\""]);
    }
    let long = "x".repeat(64 << 10);
    for name in ["../x", "a b", "-", "x/y", &long[..129]] {
        refused(&stage, &["fork", "here", &format!("--name={name}")], 2, &[]);
        refused(&stage, &["snapshot", "here", &format!("--name={name}x/")], 2, &["name"]);
    }
    refused(&stage, &["fork", "here", "--count", "0"], 2, &["0"]);
    refused(&stage, &["fork", "here", "--count", "100000"], 2, &["100000"]);
    refused(&stage, &["fork", "here", "--name", "elsewhere"], 4, &["elsewhere", "exists"]);
    refused(&stage, &["fork", "snapshot:state"], 2, &["snapshot:state", "clone"]);
    refused(&stage, &["clone", "nothing"], 3, &["nothing"]);
    refused(&stage, &["clone", layer], 4, &["no state of a container"]);
    refused(&stage, &["snapshot", "here", "--name", "state"], 4, &["state", "exists"]);
    refused(&stage, &["snapshot", "state"], 4, &["state", "committed"]);
    refused(&stage, &["snapshot", "here", "--label", &format!("size={}", "v".repeat(4096))], 2, &["size"]);
    refused(&stage, &["rm", "state"], 4, &["state", "pinned", "loom unpin"]);
    refused(&stage, &["rm", "here"], 4, &["here", "containerd"]);
    refused(&stage, &["rm", layer], 4, &["containerd"]);
    refused(&stage, &["inspect", &long], 3, &["xxx"]);
    refused(&stage, &["inspect", "0000"], 3, &["0000"]);
    refused(&stage, &["branch"], 2, &["branch"]);
    let nowhere = stage.scratch.path().join("nowhere.sock");
    let output = try_loom(&nowhere, &["status"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nowhere.sock"));

    // All of that made nothing and ended nothing.
    assert_eq!(stage.place.layers(), before);
    assert_eq!(stage.containerd.leases(), Vec::<String>::new());
    assert_eq!(stage.containerd.exec("here", &["echo", "alive"]), "alive");
    stage.wait_until_agreed();
}

/// Many Prepares whose clients hang up at one moment or another.
fn hung_up(layout: Layout) {
    const CALLS: usize = 200;
    let stage = alone(layout);
    let doors = stage.doors();
    let cut = doors.run(async {
        let mut cut = 0;
        for turn in 0..CALLS {
            let mut client = doors.grpc().await;
            let call = tokio::spawn(async move {
                client.prepare(prepare_request(&format!("default/{turn}/c"), "", &[])).await
            });
            for _ in 0..turn {
                tokio::task::yield_now().await;
            }
            call.abort(); // Drops the connection too.
            match call.await {
                Ok(answer) => drop(answer.unwrap()),
                Err(_) => cut += 1,
            }
        }
        cut
    });
    assert!(cut > 0, "no call was cut off");
    stage.wait_until_agreed();
    let keys = doors.list().unwrap();
    assert!(keys.len() >= CALLS - cut, "{} of {CALLS} were answered, {} are there", CALLS - cut, keys.len());
    for key in keys {
        assert!(doors.upper(&key).unwrap().is_dir(), "{key}");
        doors.remove(&key).unwrap();
    }
    stage.wait_until_agreed();
    assert_eq!(stage.place.layers().len(), 0);
}

#[test]
fn clients_that_hang_up_on_ext4() {
    hung_up(Layout::Ext4);
}

#[test]
fn clients_that_hang_up_with_a_pool() {
    hung_up(Layout::Ext4Pool);
}

/// A `loom fork` that is killed: its forks are all there, or none was begun.
fn killed_fork(layout: Layout) {
    const FORKS: usize = 3;
    let stage = Stage::new(layout, Version::Current);
    let image = stage.import(&small());
    let containerd = &stage.containerd;
    containerd.ctr(&["run", "-d", "--snapshotter", "loom", &image, "origin", "sleep", "10000"]);
    let before = stage.place.layers().len();
    for (name, begun) in [("begun", true), ("at-once", false)] {
        let mut fork = Command::new(env!("CARGO_BIN_EXE_loom"))
            .arg("--address")
            .arg(stage.loomd.ttrpc_socket())
            .args(["fork", "origin", "--name", name, "--count", &FORKS.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        if begun {
            wait_until("the fork to begin", || stage.place.layers().len() > before);
        }
        fork.kill().unwrap();
        fork.wait().unwrap();

        let forks = || {
            let ours = |each: &str| each.starts_with(name);
            let tasks = containerd.tasks().into_iter();
            let running = tasks.filter(|task| ours(&task.name) && task.status == "RUNNING");
            (containerd.containers().into_iter().filter(|each| ours(each)).count(), running.count())
        };
        // One that was not begun is not begun later: the connection is gone.
        wait_until("the forks to be whole", || {
            let quiet = containerd.leases().is_empty();
            let whole = [(FORKS, FORKS), (0, 0)].contains(&forks());
            quiet && whole && (!begun || forks().0 == FORKS)
        });
        // Not in the middle of anything: the origin can be branched again.
        containerd.exec("origin", &["true"]);
        stage.loom_json(&["snapshot", "origin", "--name", "after"]);
        stage.loom_json(&["rm", "after"]);
        wait_until("the forks to go", || {
            for container in containerd.containers().iter().filter(|each| each.starts_with(name)) {
                containerd.try_ctr(&["tasks", "rm", "-f", container]);
                containerd.try_ctr(&["containers", "rm", container]);
            }
            containerd.leases().is_empty() && forks() == (0, 0)
        });
    }
    containerd.ctr(&["tasks", "rm", "-f", "origin"]);
    containerd.ctr(&["containers", "rm", "origin"]);
    containerd.ctr(&["images", "rm", "--sync", &image]);
    stage.wait_until_empty();
}

#[test]
fn a_fork_whose_client_is_killed_on_ext4() {
    killed_fork(Layout::Ext4);
}

#[test]
fn a_fork_whose_client_is_killed_with_a_pool() {
    killed_fork(Layout::Ext4Pool);
}

/// What is no request at all, on both sockets, beside thousands of connections that say nothing.
#[test]
fn garbage_and_idle_connections() {
    const IDLE: usize = 2000;
    let mut stage = alone(Layout::Ext4);
    let pid = stage.loomd.daemon().pid();
    let open_files = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let sockets = [stage.loomd.socket(), stage.loomd.ttrpc_socket()];
    let doors = stage.doors();
    doors.prepare("before", "", &[]).unwrap();
    let before = open_files();

    let connect = |socket: &Path| UnixStream::connect(socket).unwrap();
    let idle: Vec<UnixStream> =
        sockets.iter().flat_map(|socket| (0..IDLE).map(move |_| connect(socket))).collect();
    wait_until("idle connections to be taken", || open_files() > idle.len());
    for socket in &sockets {
        for garbage in garbage() {
            let mut stream = connect(socket);
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.set_write_timeout(Some(DEADLINE)).unwrap();
            // loomd may hang up before it has read all of it.
            if stream.write_all(&garbage).is_ok() {
                let _ = stream.shutdown(Shutdown::Write);
                let mut answer = Vec::new();
                let end = stream.read_to_end(&mut answer);
                let timed_out = end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
                assert!(!timed_out, "a connection stays after {:?}", &garbage[..garbage.len().min(16)]);
            }
        }
    }
    // Others are served meanwhile.
    doors.prepare("meanwhile", "", &[]).unwrap();
    assert_eq!(stage.loom_json(&["status"])["layers"], 2);
    drop(idle);
    drop(doors);
    wait_until("the connections to be closed", || open_files() <= before + 8);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = memory.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 512 << 10, "{kib} KiB are in use");
    assert_eq!(stage.doors().list().unwrap(), ["before", "meanwhile"]);
}

/// Bytes that are no gRPC and no ttrpc, or nearly.
fn garbage() -> Vec<Vec<u8>> {
    let mut random = vec![0; 1 << 20];
    getrandom::fill(&mut random).unwrap();
    // A ttrpc header: length, stream, type, flags.
    let header = |length: u32, stream: u32, kind: u8| {
        [&length.to_be_bytes()[..], &stream.to_be_bytes(), &[kind, 0]].concat()
    };
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    vec![
        Vec::new(),
        vec![0],
        vec![0; 1 << 16],
        vec![0xff; 1 << 16],
        random,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        header(u32::MAX, 1, 1),
        header(64, 1, 1),
        header(0, 0, 0),
        [header(4, 1, 1), vec![0xff; 4]].concat(),
        [header(4, 1, 200), vec![0; 4]].concat(),
        [header(4, 2, 3), vec![0; 4]].concat(),
        preface.clone(),
        [preface.clone(), vec![0xff; 4096]].concat(),
        // A frame of HTTP/2 that is longer than it may be.
        [preface, vec![0xff, 0xff, 0xff, 1, 4, 0, 0, 0, 1]].concat(),
    ]
}
