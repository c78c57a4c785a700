//! Containers in user namespaces: whose files are inside and outside of one, of its forks, of what it is rolled back
//! to, and of containers of an image of it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use support::containerd::Version;
use support::image::small;
use support::layout::Layout;
use support::process::{finish, run};
use support::stage::{Stage, on_stages};
use support::wait::wait_until;

on_stages! {
    nerdctls_on_ext4: nerdctls(Ext4, Current);
    nerdctls_with_a_pool: nerdctls(Ext4Pool, Current);
    ctrs_on_ext4: by_labels(Ext4, Current);
    ctrs_on_xfs: by_labels(Xfs, Current);
    ctrs_with_a_pool: by_labels(Ext4Pool, Current);
    changed_by_a_client_on_ext4: by_a_client(Ext4, Current);
    changed_by_a_client_with_a_pool: by_a_client(Ext4Pool, Current);
    changed_by_a_client_of_an_older_containerd: by_a_client(Ext4, Debian);
    changed_by_a_client_of_an_older_containerd_with_a_pool: by_a_client(Ext4Pool, Debian);
}

/// Files of the image, new ones and one that is changed, of several owners; then nothing more.
const WORK: &str = "echo own >/own; chown 33:44 /own; mkdir /dir; chown 1:2 /dir; echo more >>/etc/group
touch /ready; while :; do sleep 1; done";
/// What of that is whose, inside.
const INSIDE: [(&str, (u32, u32)); 6] = [
    ("", (0, 0)),
    ("own", (33, 44)),
    ("dir", (1, 2)),
    ("etc/group", (0, 0)),
    ("etc/passwd", (0, 0)),
    ("bin/busybox", (0, 0)),
];

/// Checks whose files a running container has, inside and outside, where its root is `root` on the host; `exec` runs a
/// script in it.
fn check(name: &str, pid: u32, root: u32, exec: &dyn Fn(&str, &str) -> String) {
    for (path, (user, group)) in INSIDE {
        let inside = exec(name, &format!("stat -c %u:%g /{path}"));
        assert_eq!(inside.trim(), format!("{user}:{group}"), "/{path} inside of {name}");
        let outside = fs::symlink_metadata(format!("/proc/{pid}/root/{path}")).unwrap();
        assert_eq!((outside.uid(), outside.gid()), (root + user, root + group), "/{path} outside of {name}");
    }
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    let map: Vec<_> = map.split_whitespace().collect();
    assert_eq!(map[..2], ["0", &root.to_string()], "{name}");
    // And it can change all of that: what lies below, too.
    let script = "echo again >>/own; echo again >>/etc/passwd; chown 5 /bin/busybox; chown 0 /bin/busybox; \
                  mkdir -p /made; rmdir /made; cat /own";
    assert!(exec(name, script).starts_with("own\n"), "{name}");
}

/// Users whose names `--userns-remap` takes, while this lives: over /etc lies one that knows them.
struct Users;

impl Users {
    fn new(stage: &Stage) -> Self {
        let [upper, work] = [stage.scratch.dir("etc"), stage.scratch.dir("etc-work")];
        let add = |file: &str, text: &str| {
            let before = fs::read_to_string(format!("/etc/{file}")).unwrap_or_default();
            fs::write(upper.join(file), before + text).unwrap();
        };
        add("passwd", "remap:x:4242:4242::/:/bin/false\nother:x:4343:4343::/:/bin/false\n");
        add("group", "remap:x:4242:\nother:x:4343:\n");
        for file in ["subuid", "subgid"] {
            add(file, "remap:200000:65536\nother:300000:32768\nother:400000:32768\n");
        }
        let options = format!("lowerdir=/etc,upperdir={},workdir={}", upper.display(), work.display());
        run("mount", &["-t", "overlay", "users", "-o", &options, "/etc"]);
        Self
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        finish(Command::new("umount").args(["--lazy", "/etc"]));
    }
}

/// Waits until a container of ctr's has done its work.
fn ready(stage: &Stage, name: &str) {
    let look = ["tasks", "exec", "--exec-id", "look", name, "test", "-e", "/ready"];
    wait_until("its work", || stage.containerd.try_ctr(&look).status.success());
}

fn nerdctl_pid(stage: &Stage, name: &str) -> u32 {
    stage.containerd.nerdctl(&["inspect", "--format", "{{.State.Pid}}", name]).trim().parse().unwrap()
}

/// What a container has changed, by `loom diff`: each path with its kind.
fn changes(stage: &Stage, name: &str) -> String {
    stage.loom(&["diff", name])
}

/// Containers that nerdctl runs with --userns-remap.
fn nerdctls(stage: Stage) {
    let _users = Users::new(&stage);
    finish(Command::new("ip").args(["link", "delete", "nerdctl0"]));
    let image = stage.import(&small());
    let nerdctl = |args: &[&str]| stage.containerd.nerdctl(args);
    let exec = |name: &str, script: &str| nerdctl(&["exec", name, "sh", "-ec", script]);
    let ready = |name: &str| {
        wait_until("its work", || {
            stage.containerd.try_nerdctl(&["exec", name, "test", "-e", "/ready"]).status.success()
        });
    };
    let check = |name: &str, root: u32| check(name, nerdctl_pid(&stage, name), root, &exec);
    nerdctl(&["--userns-remap=remap", "run", "-d", "--name", "web", &image, "sh", "-c", WORK]);
    ready("web");
    let told = changes(&stage, "web");
    assert!(told.contains("own") && told.contains("etc/group") && !told.contains("etc/passwd"), "{told}");
    check("web", 200_000);

    stage.fork(&["web", "--name", "try"]);
    check("try", 200_000);
    stage.fork(&["web", "--name", "many", "--count", "2"]);
    check("many-1", 200_000);
    check("many-2", 200_000);
    stage.loom_json(&["snapshot", "web", "--name", "state"]);
    stage.loom_json(&["clone", "state", "--name", "copy"]);
    check("copy", 200_000);
    stage.fork(&["try", "--name", "next"]);
    check("next", 200_000);
    exec("next", "rm /own");
    stage.loom_json(&["rollback", "next", "state", "--name", "before"]);
    check("next", 200_000);
    nerdctl(&["stop", "-t", "0", "try"]);
    nerdctl(&["start", "try"]);
    check("try", 200_000);

    // An image of it is anybody's.
    stage.loom_json(&["commit", "web", "state:1"]);
    stage.loom_json(&["commit", "state", "state:2"]);
    for (n, image) in ["state:1", "state:2"].into_iter().enumerate() {
        for (user, root) in [("remap", 200_000), ("other", 300_000), ("host", 0)] {
            let name = format!("{user}-{n}");
            let remap = format!("--userns-remap={user}");
            nerdctl(&[&remap, "run", "-d", "--name", &name, image, "sleep", "100000"]);
            check(&name, root);
        }
    }
    stage.fork(&["other-0", "--name", "of-other"]);
    check("of-other", 300_000);

    let all = nerdctl(&["ps", "-aq"]);
    nerdctl(&[&["rm", "-f", "-v"], &all.split_whitespace().collect::<Vec<_>>()[..]].concat());
    for name in ["state", "before"] {
        stage.loom(&["rm", name]);
    }
    for image in stage.containerd.images() {
        stage.containerd.ctr(&["images", "rm", "--sync", &image]);
    }
    stage.wait_until_empty();
}

/// Containers whose snapshots have the labels, as ctr makes them.
fn by_labels(stage: Stage) {
    let image = stage.import(&small());
    let exec = |name: &str, script: &str| stage.containerd.exec(name, &["sh", "-ec", script]);
    let check = |name: &str, root: u32| check(name, stage.containerd.pid_of(name), root, &exec);
    let run = |name: &str, root: u32, flags: &[&str], command: &[&str]| {
        let map = format!("0:{root}:65536");
        let map =
            ["run", "-d", "--snapshotter", "loom", "--uidmap", &map, "--gidmap", &map, "--remap-labels"];
        stage.containerd.ctr(&[&map, flags, &[&image, name], command].concat());
        stage.containerd.ctr(&[
            "containers",
            "label",
            name,
            "io.containerd.image.config.stop-signal=SIGKILL",
        ]);
    };
    run("web", 300_000, &[], &["sh", "-c", WORK]);
    ready(&stage, "web");
    check("web", 300_000);
    let exported = stage.scratch.path().join("web.tar");
    stage.loom(&["export", "web", "-o", exported.to_str().unwrap()]);
    let mut archive = tar::Archive::new(fs::File::open(&exported).unwrap());
    let owners: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| INSIDE.iter().any(|(path, _)| entry.path().unwrap().to_str().unwrap() == *path))
        .map(|entry| (entry.header().uid().unwrap(), entry.header().gid().unwrap()))
        .collect();
    let known = [(0, 0), (33, 44)];
    assert!(owners.len() >= 4 && owners.iter().all(|owner| known.contains(owner)), "{owners:?}");
    fs::remove_file(exported).unwrap();

    for name in stage.fork(&["web", "--name", "try", "--count", "3"]) {
        check(&name, 300_000);
    }
    exec("try-1", "chown 6:7 /dir; chown 1:2 /dir; touch /better");
    stage.loom_json(&["promote", "try-1", "--name", "before"]);
    check("web", 300_000);
    exec("web", "test -e /better");
    stage.loom_json(&["rollback", "web", "before", "--name", "again"]);
    check("web", 300_000);
    assert_eq!(exec("web", "ls / | grep -c better || true").trim(), "0");

    // A state goes on in another user namespace, or in none, only through an image of it.
    stage.loom_json(&["commit", "try-2", "state:1"]);
    let state = "docker.io/library/state:1";
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", state, "host", "sleep", "100000"]);
    check("host", 0);
    run("read", 300_000, &["--read-only"], &["sleep", "100000"]);
    assert_eq!(exec("read", "stat -c %u:%g /bin /etc/passwd; touch /x 2>&1 || true").lines().count(), 3);

    stage.containerd.remove_all();
    for name in ["before", "again"] {
        stage.loom(&["rm", name]);
    }
    stage.containerd.ctr(&["images", "rm", "--sync", state]);
    stage.end(&image);
}

/// Where containerd is not told that loom maps owners, its client changes them, and passes the labels all the same.
#[test]
fn a_client_that_was_not_told() {
    let mut stage = Stage::prepared(Layout::Ext4, Version::Current);
    stage.containerd.knows_no_mapping();
    stage.loomd.start();
    stage.containerd.start();
    let image = stage.import(&small());
    let exec = |name: &str, script: &str| stage.containerd.exec(name, &["sh", "-ec", script]);
    let map = ["--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536", "--remap-labels"];
    let run = ["run", "-d", "--snapshotter", "loom"];
    stage.containerd.ctr(&[&run[..], &map, &[&image, "web", "sh", "-c", WORK]].concat());
    ready(&stage, "web");
    check("web", stage.containerd.pid_of("web"), 300_000, &exec);
    stage.end(&image);
}

/// Containers for which a client changes the owners of a whole copy of the image itself: loom keeps that as it is.
fn by_a_client(stage: Stage) {
    let image = stage.import(&small());
    let exec = |name: &str, script: &str| stage.containerd.exec(name, &["sh", "-ec", script]);
    let check = |name: &str| check(name, stage.containerd.pid_of(name), 300_000, &exec);
    let map = ["--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536"];
    let run = ["run", "-d", "--snapshotter", "loom"];
    stage.containerd.ctr(&[&run[..], &map, &[&image, "web", "sh", "-c", WORK]].concat());
    ready(&stage, "web");
    check("web");
    for name in stage.fork(&["web", "--name", "try", "--count", "2"]) {
        check(&name);
    }
    if stage.containerd.version == Version::Debian {
        // 1.6 passes labels on to a snapshotter, and mounts nothing under a mapping.
        let with = [&run[..], &map, &["--remap-labels", &image, "labels", "sleep", "100000"]].concat();
        let refused = stage.containerd.try_ctr(&with);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("invalid argument"), "{said}");
    }
    stage.containerd.remove_all();
    stage.end(&image);
}
