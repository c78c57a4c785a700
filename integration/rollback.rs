//! A container's content goes back and forth between its snapshots, and takes that of a fork; what has expired
//! goes by itself.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::fs;

use serde_json::Value;

use support::containerd::Version;
use support::counter::{self, Counter};
use support::image::small;
use support::layout::Layout;
use support::process::run;
use support::stage::{Stage, on_every_stage};
use support::wait::{wait_until, wait_until_none};

on_every_stage!(back_and_forth, one_that_counts, promoted);

/// A container that does nothing, and ends at once when it is told to.
fn idle(stage: &Stage, image: &str, name: &str) {
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", image, name, "sleep", "100000"]);
    quick(stage, name);
}

/// Has a container stopped without the patience that a process 1 needs which does not listen.
fn quick(stage: &Stage, name: &str) {
    stage.containerd.ctr(&["containers", "label", name, "io.containerd.image.config.stop-signal=SIGKILL"]);
}

fn shell(stage: &Stage, name: &str, script: &str) -> String {
    stage.containerd.exec(name, &["sh", "-ec", script]).trim().to_owned()
}

/// The files below a container's /data, each with its content, seen from inside and from outside.
fn data(stage: &Stage, name: &str) -> String {
    let inside = shell(stage, name, "cd /data && for file in *; do echo $file $(cat $file); done");
    let root = format!("/proc/{}/root/data", stage.containerd.pid_of(name));
    assert_eq!(inside, data_in(&root), "inside and outside of {name}");
    inside
}

fn data_in(dir: &str) -> String {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|file| file.unwrap()).collect();
    files.sort_by_key(fs::DirEntry::file_name);
    let read = |file: &fs::DirEntry| fs::read_to_string(file.path()).unwrap().trim().to_owned();
    let lines = files.iter().map(|file| format!("{} {}", file.file_name().to_str().unwrap(), read(file)));
    lines.collect::<Vec<_>>().join("\n")
}

/// The same of a container that does not run.
fn data_at_rest(stage: &Stage, name: &str) -> String {
    let place = stage.scratch.dir("at-rest");
    stage.containerd.mount("loom", name, &place);
    let seen = data_in(place.join("data").to_str().unwrap());
    run("umount", &[&place]);
    seen
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn names(stage: &Stage) -> Vec<String> {
    let kept = stage.loom_json(&["ls"]);
    kept.as_array().unwrap().iter().filter_map(|row| row["name"].as_str().map(ToOwned::to_owned)).collect()
}

/// Five snapshots, in any order, of a container that runs and of one that does not; each time with a way back.
fn back_and_forth(mut stage: Stage) {
    for namespace in ["default", "k8s.io"] {
        namespace.clone_into(&mut stage.containerd.namespace);
        let image = stage.import(&small());
        idle(&stage, &image, "web");
        let began = text(&stage.loom_json(&["inspect", "web"])["parent"]).to_owned();
        shell(&stage, "web", "mkdir /data");
        let mut seen = Vec::new();
        for at in 1..=5 {
            let script =
                format!("cd /data; echo {at} >changed; echo {at} >made-{at}; rm -f made-$(({at} - 2))");
            shell(&stage, "web", &script);
            stage.loom_json(&["snapshot", "web", "--name", &format!("s{at}")]);
            seen.push(data(&stage, "web"));
        }
        shell(&stage, "web", "echo last >/data/changed");
        let last = data(&stage, "web");

        for at in [1, 5, 3, 2, 4] {
            let (pid, before) = (stage.containerd.pid_of("web"), data(&stage, "web"));
            let kept = format!("before-{at}");
            let answer = stage.loom_json(&["rollback", "web", &format!("s{at}"), "--name", &kept]);
            let web = &answer["container"];
            assert_eq!((text(&web["container"]), text(&web["namespace"])), ("web", namespace), "{answer}");
            assert_eq!(text(&web["kept_name"]), kept, "{answer}");
            assert_eq!(web["pid"], stage.containerd.pid_of("web"), "{answer}");
            assert_eq!(web["snapshot"], stage.loom_json(&["inspect", "web"])["id"], "{answer}");
            assert_ne!(web["pid"], pid, "{answer}");
            assert!(answer["cost"]["paused_us"].as_u64().unwrap() > 0, "{answer}");
            assert_eq!(data(&stage, "web"), seen[at - 1], "rolled back to s{at}");
            // And there and back again.
            stage.loom_json(&["rollback", "web", &kept, "--discard"]);
            assert_eq!(data(&stage, "web"), before, "rolled forward to {kept}");
            stage.loom_json(&["rollback", "web", &format!("s{at}"), "--discard"]);
            assert_eq!(data(&stage, "web"), seen[at - 1]);
        }
        let answer = stage.loom_json(&["rollback", "web", "before-1"]);
        assert!(text(&answer["container"]["kept_name"]).starts_with("web-"), "{answer}");
        assert_eq!(data(&stage, "web"), last);
        // What it wrote is its own: nothing of it is in a snapshot.
        shell(&stage, "web", "echo other >/data/changed");
        at_rest(&stage, &seen);
        stage.loom_json(&["rollback", "web", &began, "--discard"]);
        assert!(!shell(&stage, "web", "ls /").contains("data"), "its image has none");
        stage.loom_json(&["rollback", "web", "s5", "--discard"]);
        assert_eq!(data(&stage, "web"), seen[4]);

        for name in names(&stage) {
            stage.loom_json(&["rm", &name]);
        }
        stage.end(&image);
    }
}

/// A container that does not run is not started; one that its user has paused stays paused.
fn at_rest(stage: &Stage, seen: &[String]) {
    let answer = stage.loom_json(&["rollback", "web", "s2", "--discard", "--no-start"]);
    assert_eq!((&answer["container"]["pid"], &answer["container"]["kept"]), (&Value::Null, &Value::Null));
    assert_eq!(stage.containerd.status_of("web"), None);
    let answer = stage.loom_json(&["rollback", "web", "s3", "--discard"]);
    assert_eq!(answer["cost"]["paused_us"], 0, "{answer}");
    assert_eq!(stage.containerd.status_of("web"), None, "it did not run");
    assert_eq!(data_at_rest(stage, "web"), seen[2]);
    stage.loom_json(&["resume", "web"]);
    assert_eq!(data(stage, "web"), seen[2]);

    stage.containerd.ctr(&["tasks", "pause", "web"]);
    stage.loom_json(&["rollback", "web", "s4", "--discard"]);
    assert_eq!(stage.containerd.status_of("web").as_deref(), Some("PAUSED"));
    stage.loom_json(&["resume", "web"]);
    wait_until("it to run again", || stage.containerd.status_of("web").as_deref() == Some("RUNNING"));
    assert_eq!(data(stage, "web"), seen[3]);
    // One whose process has ended by itself has a task still.
    stage.containerd.ctr(&["tasks", "kill", "--signal", "SIGKILL", "web"]);
    wait_until("its end", || stage.containerd.status_of("web").as_deref() == Some("STOPPED"));
    stage.loom_json(&["rollback", "web", "s1", "--discard"]);
    assert_eq!(data_at_rest(stage, "web"), seen[0]);
    stage.loom_json(&["resume", "web"]);
}

/// One that writes all the time goes on from the very moment of the snapshot, alone on its files.
fn one_that_counts(stage: Stage) {
    let image = stage.import(&small());
    let source = counter::start(&stage, &image, "counter", &[]);
    let steady = source.steady();
    stage.loom_json(&["snapshot", "counter", "--name", "early"]);
    stage.loom_json(&["fork", "counter", "--name", "bystander", "--no-start"]);
    quick(&stage, "counter");
    let before = source.count();
    source.assert_advances();

    let answer = stage.loom_json(&["rollback", "counter", "early", "--name", "late"]);
    let counter = Counter::of(&stage, "counter");
    assert_eq!(answer["container"]["pid"], counter.pid);
    let moment = counter.found(2);
    assert!(moment.a <= before + 1, "{moment:?} is of before {before}");
    counter.assert_advances();
    counter.assert_alone();
    steady.assert_same(&counter.steady(), "the container, rolled back");

    stage.loom_json(&["rollback", "counter", "late", "--name", "aside"]);
    let counter = Counter::of(&stage, "counter");
    let forward = counter.found(2);
    assert!(forward.a > before, "{forward:?} is of behind {before}");
    counter.assert_alone();
    steady.assert_same(&counter.steady(), "the container, rolled forward");
    stage.loom_json(&["resume", "bystander"]);
    Counter::of(&stage, "bystander").found(2);

    for name in ["early", "late", "aside"] {
        stage.loom_json(&["rm", name]);
    }
    stage.end(&image);
}

/// The container that a fork was made from takes the fork's content.
fn promoted(stage: Stage) {
    let image = stage.import(&small());
    idle(&stage, &image, "web");
    shell(&stage, "web", "mkdir /data; echo 1 >/data/one");
    stage.loom_json(&["fork", "web", "--name", "try"]);
    quick(&stage, "try");
    let (original, pid) = (data(&stage, "web"), stage.containerd.pid_of("web"));

    // Writes that it must not lose are told by their names.
    shell(&stage, "web", "echo 2 >/data/two");
    let said = stage.loom_fails(4, &["promote", "try", "--if-unchanged"]);
    assert!(said.contains("/data/two"), "{said}");
    assert_eq!(stage.containerd.pid_of("web"), pid, "it was not stopped for that");
    shell(&stage, "try", "cd /data; echo tried >one; echo 3 >three");
    let tried = data(&stage, "try");
    let answer = stage.loom_json(&["promote", "try", "--name", "before"]);
    assert_eq!(text(&answer["container"]["container"]), "web", "{answer}");
    assert_eq!(answer["container"]["pid"], stage.containerd.pid_of("web"), "{answer}");
    assert!(answer["cost"]["paused_us"].as_u64().unwrap() > 0, "{answer}");
    assert_eq!(data(&stage, "web"), tried);
    // The fork runs on, apart.
    shell(&stage, "try", "echo 4 >/data/four");
    assert_eq!(data(&stage, "web"), tried);
    shell(&stage, "web", "echo 5 >/data/five");
    assert!(!data(&stage, "try").contains("five"));
    let said = stage.loom_fails(4, &["promote", "try", "--if-unchanged"]);
    assert!(said.contains("promoted to since"), "{said}");
    let said = stage.loom_fails(4, &["promote", "web"]);
    assert!(said.contains("forked from no container"), "{said}");
    stage.loom_json(&["rollback", "web", "before", "--discard"]);
    assert_eq!(data(&stage, "web"), format!("{original}\ntwo 2"));

    // One whose origin has not written is let through, also after it was rolled back itself.
    stage.loom_json(&["fork", "web", "--name", "second"]);
    quick(&stage, "second");
    stage.loom_json(&["snapshot", "second", "--name", "of-second"]);
    shell(&stage, "second", "echo lost >/data/lost");
    stage.loom_json(&["rollback", "second", "of-second", "--discard"]);
    shell(&stage, "second", "echo 6 >/data/six");
    let answer = stage.loom_json(&["promote", "second", "--if-unchanged", "--discard", "--no-start"]);
    assert_eq!(text(&answer["container"]["container"]), "web", "{answer}");
    assert_eq!(stage.containerd.status_of("web"), None);
    assert_eq!(data_at_rest(&stage, "web"), format!("{original}\nsix 6\ntwo 2"));
    // A fork of a fork is promoted to the fork.
    stage.loom_json(&["fork", "second", "--name", "third"]);
    shell(&stage, "third", "echo 7 >/data/seven");
    assert_eq!(
        text(&stage.loom_json(&["promote", "third", "--discard"])["container"]["container"]),
        "second"
    );
    assert!(data(&stage, "second").contains("seven 7"));

    stage.containerd.remove(&["web"]);
    let said = stage.loom_fails(4, &["promote", "try"]);
    assert!(said.contains("default/web") && said.contains("gone"), "{said}");
    for name in ["before", "of-second"] {
        stage.loom_json(&["rm", name]);
    }
    stage.end(&image);
}

/// What cannot be done leaves everything as it is.
#[test]
fn refused() {
    let stage = Stage::new(Layout::Ext4Pool, Version::Debian);
    let image = stage.import(&small());
    for name in ["web", "db"] {
        idle(&stage, &image, name);
        shell(&stage, name, "mkdir /data; echo 1 >/data/one");
        stage.loom_json(&["snapshot", name, "--name", &format!("of-{name}")]);
    }
    stage.containerd.import("overlayfs", &small().archive);
    stage.containerd.ctr(&[
        "run",
        "-d",
        "--snapshotter",
        "overlayfs",
        &image,
        "elsewhere",
        "sleep",
        "100000",
    ]);
    let key = stage.loom_json(&["inspect", "db"])["key"].clone();
    let (pid, before) = (stage.containerd.pid_of("web"), names(&stage));

    for (status, args, says) in [
        (4, &["rollback", "web", "of-db"][..], "loom clone of-db"),
        (4, &["rollback", "web", &format!("snapshot:{}", text(&key))], "committed"),
        (3, &["rollback", "web", "nothing"], "nothing"),
        (3, &["rollback", "nobody", "of-web"], "nobody"),
        (4, &["rollback", "elsewhere", "of-web"], "overlayfs"),
        (4, &["rollback", "web", "of-web", "--name", "of-db"], "of-db"),
        (2, &["rollback", "snapshot:of-web", "of-web"], "container"),
        (4, &["promote", "web"], "forked from no container"),
        (4, &["promote", "elsewhere"], "overlayfs"),
    ] {
        let said = stage.loom_fails(status, args);
        assert!(said.contains(says), "{args:?}: {said}");
    }
    assert_eq!((stage.containerd.pid_of("web"), names(&stage)), (pid, before.clone()));

    // Nor while somebody else has its files.
    let place = stage.scratch.dir("look");
    stage.containerd.mount("loom", "web", &place);
    let said = stage.loom_fails(4, &["rollback", "web", "of-web"]);
    assert!(said.contains("mounted"), "{said}");
    run("umount", &[&place]);
    assert_eq!((data(&stage, "web").as_str(), names(&stage)), ("one 1", before), "it runs as before");
    stage.loom_json(&["rollback", "web", "of-web", "--discard"]);

    // One that does not start with its new content has the old one again.
    shell(&stage, "web", "rm /bin/sleep");
    stage.loom_json(&["snapshot", "web", "--name", "broken"]);
    stage.loom_json(&["rollback", "web", "of-web", "--discard"]);
    let before = names(&stage);
    let said = stage.loom_fails(1, &["rollback", "web", "broken"]);
    assert!(said.contains("start container"), "{said}");
    assert_eq!((data(&stage, "web").as_str(), names(&stage)), ("one 1", before));

    stage.containerd.remove(&["elsewhere"]);
    for name in names(&stage) {
        stage.loom_json(&["rm", &name]);
    }
    stage.end(&image);
}

/// nerdctl's containers are stopped and started by nerdctl, and one that it would remove is not stopped.
#[test]
fn of_nerdctl() {
    let stage = Stage::new(Layout::Ext4Pool, Version::Current);
    let image = stage.import(&small());
    let started = |name: &str, flags: &[&str]| {
        let create = ["create", "--pull=never", "--network=none", "--stop-signal=SIGKILL", "--name", name];
        let id = stage.containerd.nerdctl(&[&create, flags, &[&image, "sleep", "100000"]].concat());
        stage.containerd.nerdctl(&["start", name]);
        id.trim().to_owned()
    };
    let within = |name: &str, script: &str| stage.containerd.nerdctl(&["exec", name, "sh", "-ec", script]);
    let id = started("web", &[]);
    within("web", "echo 1 >/root/one");
    stage.loom_json(&["snapshot", "web", "--name", "state"]);
    within("web", "echo 2 >/root/one");
    let answer = stage.loom_json(&["rollback", "web", "state"]);
    let web = &answer["container"];
    assert_eq!((text(&web["container"]), text(&web["name"])), (id.as_str(), "web"), "{answer}");
    assert!(text(&web["kept_name"]).starts_with("web-"), "{answer}");
    assert_eq!(within("web", "cat /root/one").trim(), "1");
    assert!(stage.containerd.nerdctl(&["ps"]).contains("web"));
    stage.containerd.nerdctl(&["stop", "web"]);
    stage.loom_json(&["rollback", "web", text(&web["kept_name"]), "--discard"]);
    stage.containerd.nerdctl(&["start", "web"]);
    assert_eq!(within("web", "cat /root/one").trim(), "2");

    started("brief", &["--rm"]);
    stage.loom_json(&["snapshot", "brief", "--name", "of-brief"]);
    let said = stage.loom_fails(4, &["rollback", "brief", "of-brief"]);
    assert!(said.contains("--rm"), "{said}");
    stage.containerd.nerdctl(&["exec", "brief", "true"]);

    stage.containerd.nerdctl(&["rm", "-f", "web", "brief"]);
    for name in names(&stage) {
        stage.loom_json(&["rm", &name]);
    }
    stage.end(&image);
}

/// The restart monitor of containerd does not start what is being rolled back, and goes on with it behind that.
#[test]
fn monitored() {
    let stage = Stage::new(Layout::Ext4Pool, Version::Debian);
    let image = stage.import(&small());
    idle(&stage, &image, "web");
    stage.loom_json(&["snapshot", "web", "--name", "state"]);
    stage.containerd.ctr(&["containers", "label", "web", "containerd.io/restart.status=running"]);
    stage.loom_json(&["rollback", "web", "state", "--discard"]);
    let labels = || {
        let info: Value =
            serde_json::from_str(&stage.containerd.ctr(&["containers", "info", "web"])).unwrap();
        info["Labels"].clone()
    };
    assert_eq!(labels()["containerd.io/restart.status"], "running");
    stage.loom_json(&["rollback", "web", "state", "--discard", "--no-start"]);
    assert_eq!(labels()["containerd.io/restart.status"], Value::Null, "or it would be started");
    assert_eq!(stage.containerd.status_of("web"), None);
    stage.loom_json(&["rm", "state"]);
    stage.end(&image);
}

/// What has expired goes; what is pinned stays.
#[test]
fn expired() {
    let stage = Stage::new(Layout::Ext4Pool, Version::Debian);
    let image = stage.import(&small());
    idle(&stage, &image, "web");
    stage.loom_json(&["snapshot", "web", "--name", "pinned", "--ttl", "4s"]);
    stage.loom_json(&["pin", "pinned"]);
    stage.loom_json(&["snapshot", "web", "--name", "brief", "--ttl", "5s"]);
    stage.loom_json(&["snapshot", "web", "--name", "long", "--ttl", "1h30m"]);
    stage.loom_json(&["fork", "web", "--name", "runs", "--ttl", "5s"]);
    stage.loom_json(&["fork", "web", "--name", "rests", "--ttl", "5s", "--no-start"]);
    wait_until_none("expired ones", || {
        let mut left = stage.containerd.containers();
        left.retain(|name| name != "web");
        left.extend(names(&stage).into_iter().filter(|name| name == "brief"));
        left
    });
    wait_until("their snapshots to go", || {
        stage.containerd.collect();
        let keys = stage.containerd.snapshots("loom");
        !keys.iter().any(|key| key == "runs" || key == "rests")
    });
    let mut left = names(&stage);
    left.sort();
    assert_eq!(left, ["long", "pinned"]);
    stage.containerd.pid_of("web");
    // It has expired, and goes with its pin.
    stage.loom_json(&["unpin", "pinned"]);
    wait_until("the one that was pinned to go", || names(&stage) == ["long"]);

    stage.loom_json(&["snapshot", "web", "--name", "kept", "--label", "by=hand"]);
    stage.loom_json(&["snapshot", "web", "--name", "other"]);
    stage.loom_json(&["pin", "other"]);
    let pruned = |args: &[&str]| {
        let answer = stage.loom_json(&[&["prune"], args].concat());
        let snapshots = answer["snapshots"].as_array().unwrap().iter();
        let mut found: Vec<_> = snapshots.map(|row| text(&row["name"]).to_owned()).collect();
        found.sort();
        found
    };
    stage.loom_fails(2, &["prune"]);
    assert_eq!(pruned(&["--all", "--dry-run"]), ["kept", "long"]);
    assert_eq!(pruned(&["--older-than", "1h"]), Vec::<String>::new());
    assert_eq!(pruned(&["--container", "nobody"]), Vec::<String>::new());
    assert_eq!(pruned(&["--label", "by=hand"]), ["kept"]);
    assert_eq!(pruned(&["--container", "web"]), ["long"]);
    assert_eq!(names(&stage), ["other"]);
    stage.loom_json(&["unpin", "other"]);
    stage.loom_json(&["rm", "other"]);
    stage.end(&image);
}
