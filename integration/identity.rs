//! A fork is a container of its own for containerd and for people: what it takes over, how it is shown,
//! and what cannot be forked.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::process::Command;

use serde_json::Value;

use support::containerd::tools;
use support::image::small;
use support::process::succeed;
use support::stage::{Stage, on_every_stage};
use support::wait::wait_until_none;

on_every_stage!(identity);

/// A fork is a container of its own: what it takes over from its source, what it does not, and how it
/// is shown.
fn identity(stage: Stage) {
    let image = stage.import(&small());
    // The current ctr: Debian's sets no hostname.
    let mut ctr = Command::new(tools().join("ctr"));
    ctr.arg("--address").arg(stage.containerd.socket());
    ctr.args(["run", "-d", "--snapshotter", "loom", "--hostname", "web", "--label", "app=shop"]);
    ctr.args(["--label", "containerd.io/restart.policy=no", "--env", "COLOR=blue"]);
    ctr.args([&image, "web", "sleep", "100000"]);
    succeed(&mut ctr);
    assert_eq!(stage.fork(&["web", "--name", "try", "--count", "2"]), ["try-1", "try-2"]);
    let unnamed = stage.fork(&["web"]).remove(0);
    let random = unnamed.strip_prefix("web-fork-").expect(&unnamed);
    assert!(random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_hexdigit()), "{unnamed}");

    let info = |name: &str| -> Value {
        serde_json::from_str(&stage.containerd.ctr(&["containers", "info", name])).unwrap()
    };
    let cgroups = |name: &str| {
        std::fs::read_to_string(format!("/proc/{}/cgroup", stage.containerd.pid_of(name))).unwrap()
    };
    let web = info("web");
    for name in ["try-1", "try-2", &unnamed] {
        let fork = info(name);
        assert_eq!(fork["ID"], name);
        assert_eq!(fork["SnapshotKey"], name);
        assert_eq!(fork["Image"], web["Image"]);
        assert_eq!(fork["Runtime"], web["Runtime"]);
        assert_eq!(fork["Snapshotter"], web["Snapshotter"]);
        assert_eq!(fork["Labels"]["app"], "shop");
        assert_eq!(fork["Labels"]["containerd.io/restart.policy"], Value::Null, "it is not the fork's own");
        assert_eq!(fork["Spec"]["linux"]["cgroupsPath"], format!("/default/{name}"));
        assert_eq!(fork["Spec"]["process"], web["Spec"]["process"]);
        assert_eq!(fork["Spec"]["mounts"], web["Spec"]["mounts"]);
        assert_eq!(stage.containerd.exec(name, &["hostname"]), name);
        assert_eq!(stage.containerd.exec(name, &["sh", "-c", "echo $COLOR"]), "blue");
        for (theirs, its) in cgroups("web").lines().zip(cgroups(name).lines()) {
            assert!(theirs == its || its.ends_with(&format!("/default/{name}")), "{theirs} and {its}");
        }
        assert!(cgroups(name).contains(&format!("/default/{name}")), "{}", cgroups(name));
    }
    assert_eq!(stage.containerd.exec("web", &["hostname"]), "web");

    shown(&stage, &["try-1", "try-2", &unnamed]);
    refused(&stage, &image);
    undone(&stage, &image);
    stage.end(&image);
}

/// How the forks of "web" are shown.
fn shown(stage: &Stage, forks: &[&str]) {
    let web = stage.loom_json(&["inspect", "web"]);
    assert_eq!(web["source"], Value::Null);
    let listed = stage.loom_json(&["ls"]);
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), forks.len() + 1, "{listed:?}");
    assert_eq!(listed[0], web, "oldest first");
    let (table, tree) = (stage.loom(&["ls"]), stage.loom(&["tree"]));
    let line_of = |text: &str, name: &str| -> String {
        let line = text.lines().find(|line| line.split_whitespace().any(|word| word == name));
        line.unwrap_or_else(|| panic!("{name} in\n{text}")).to_owned()
    };
    let indent = |name: &str| line_of(&tree, name).chars().position(|c| c.is_alphanumeric()).unwrap();
    for name in forks {
        let fork = stage.loom_json(&["inspect", name]);
        assert_eq!(fork["kind"], "active");
        assert_eq!(fork["source"], web["id"]);
        assert_eq!(fork["parent"], web["parent"]);
        assert_eq!(fork["home"], web["home"]);
        assert_eq!(fork["container"], *name);
        assert_eq!(fork["namespace"], "default");
        assert!(fork["key"].as_str().unwrap().ends_with(&format!("/{name}")), "{fork}");
        assert!(listed.contains(&fork), "{name} in {listed:?}");
        assert_eq!(stage.loom_json(&["inspect", fork["id"].as_str().unwrap()]), fork, "by its id");

        let row: Vec<String> = line_of(&table, name).split_whitespace().map(ToOwned::to_owned).collect();
        assert_eq!(row[1..5], [*name, "active", name, "web"], "{table}");
        assert!(indent(name) > indent("web"), "{tree}");

        let mut lineage = stage.loom_json(&["lineage", name]);
        for shown in lineage.as_array_mut().unwrap() {
            // That is measured for a lineage, and not for one alone.
            assert!(shown["size"].is_object(), "{shown}");
            shown["size"] = Value::Null;
        }
        assert_eq!(lineage[0], fork);
        assert_eq!(lineage[1], web);
        assert_eq!(lineage[2]["id"], web["parent"], "{lineage}");
        assert_eq!(lineage[2]["image_layer"], true, "{lineage}");
    }
}

/// Forks that there cannot be.
fn refused(stage: &Stage, image: &str) {
    stage.containerd.ctr(&[
        "run",
        "-d",
        "--snapshotter",
        "loom",
        "--label",
        "nerdctl/name=shop",
        image,
        "nerd",
        "sleep",
        "100000",
    ]);
    for name in ["nerd", "shop"] {
        let said = stage.loom_fails(4, &["fork", name]);
        assert!(said.contains("no hook of its says where nerdctl is"), "{said}");
    }
    let said = stage.loom_fails(4, &["fork", "web", "--name", "try", "--count", "3"]);
    assert!(said.contains("try-1"), "{said}");
    assert_eq!(stage.containerd.status_of("try-3"), None, "none is made where one cannot be");
    stage.loom_fails(3, &["fork", "nobody"]);
    for wrong in [&["web", "--name", "a b"][..], &["web", "--name", "../x"], &["web", "--count", "0"]] {
        stage.loom_fails(2, &[&["fork"], wrong].concat());
    }
    stage.containerd.ctr(&["containers", "create", "--rootfs", "/", "stranger", "true"]);
    let said = stage.loom_fails(4, &["fork", "stranger"]);
    assert!(said.contains("stranger"), "{said}");
}

/// Nothing stays of forks that cannot start.
fn undone(stage: &Stage, image: &str) {
    let bound = stage.scratch.dir("bound");
    let mount = format!("type=bind,src={},dst=/mnt,options=rbind:rw", bound.display());
    stage.containerd.ctr(&[
        "run",
        "-d",
        "--snapshotter",
        "loom",
        "--mount",
        &mount,
        image,
        "bound",
        "sleep",
        "100000",
    ]);
    let left = |stage: &Stage| {
        let mut found = stage.containerd.snapshots("loom");
        found.extend(stage.containerd.containers());
        found.extend(stage.containerd.leases());
        found.extend(stage.place.layers().iter().map(|path| path.display().to_string()));
        found.extend(stage.place.trash().iter().map(|path| path.display().to_string()));
        found.extend(stage.place.subvolumes());
        found
    };
    // Of what was there before, the trash may still be emptied.
    wait_until_none("files in the trash", || {
        stage.place.trash().iter().map(|path| path.display().to_string()).collect()
    });
    let before = left(stage);
    std::fs::remove_dir(&bound).unwrap();
    for count in ["1", "3"] {
        let said = stage.loom_fails(1, &["fork", "bound", "--count", count]);
        assert!(said.contains("bound-fork-"), "{said}");
        wait_until_none("more than before", || {
            let now = left(stage);
            now.into_iter().filter(|each| !before.contains(each)).collect()
        });
    }
    assert_eq!(stage.containerd.status_of("bound").as_deref(), Some("RUNNING"));
}
