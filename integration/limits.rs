//! What a container may write, and what everything takes: a limit stops it, goes with its branches, and is refused where
//! nothing keeps it; what `loom df` and `Usage` tell is what the filesystem says.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::path::Path;

use serde_json::Value;

use support::containerd::Version;
use support::image::small;
use support::layout::Layout;
use support::stage::{Stage, on_stages};
use support::wait::wait_until;

const MIB: u64 = 1 << 20;
const LABEL: &str = "containerd.io/snapshot/max-size";

fn idle(stage: &Stage, image: &str, name: &str) {
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", image, name, "sleep", "100000"]);
}

/// Has a container write a file of so many MiB; answers how many bytes are in it, and what dd said.
fn write(stage: &Stage, container: &str, file: &str, mib: u64) -> (u64, String) {
    let script = format!(
        "dd if=/dev/zero of=/root/{file} bs=65536 count={} 2>&1; sync; stat -c %s /root/{file} || echo 0",
        mib * 16
    );
    let said = stage.containerd.exec(container, &["sh", "-c", &script]);
    let size = said.lines().last().and_then(|line| line.trim().parse().ok());
    (size.unwrap_or_else(|| panic!("{container}: {said}")), said)
}

/// A container is stopped within 5 % of what it may write.
fn is_stopped_at(stage: &Stage, container: &str, mib: u64) {
    let (size, said) = write(stage, container, "full", mib * 3);
    assert!((mib * MIB * 95 / 100..=mib * MIB).contains(&size), "{container} wrote {size}: {said}");
    assert!(said.to_lowercase().contains("quota"), "{said}");
    // What it deletes it can write again.
    stage.containerd.exec(container, &["sh", "-c", "rm /root/full; sync"]);
    let (size, said) = write(stage, container, "again", mib / 2);
    assert_eq!(size, mib / 2 * MIB, "{container}: {said}");
    stage.containerd.exec(container, &["rm", "/root/again"]);
    stage.containerd.exec(container, &["sync"]);
}

fn limit_of(stage: &Stage, container: &str) -> Value {
    stage.loom_json(&["inspect", container])["limit"].clone()
}

fn key_of(stage: &Stage, container: &str) -> String {
    stage.loom_json(&["inspect", container])["key"].as_str().unwrap().to_owned()
}

fn a_limit_stops_a_container_and_its_branches(stage: Stage) {
    let image = stage.import(&small());
    idle(&stage, &image, "web");
    let set = stage.loom_json(&["limit", "web", "64M"]);
    assert_eq!(set["limit"], 64 * MIB, "{set}");
    stage.loom_json(&["snapshot", "web", "--name", "before"]);

    let (size, said) = write(&stage, "web", "full", 200);
    assert!((61 * MIB..=64 * MIB).contains(&size), "{size}: {said}");
    let used = stage.doors().usage(&key_of(&stage, "web")).unwrap();
    assert!(used.abs_diff(size) < 2 * MIB, "Usage is {used}, and {size} were written");
    // One that is full is forked, snapshotted and goes on; each branch has the limit, and room of its own.
    stage.loom_json(&["fork", "web", "--name", "fork"]);
    stage.loom_json(&["snapshot", "web", "--name", "filled"]);
    stage.loom_json(&["clone", "before", "--name", "clone"]);
    for branch in ["fork", "clone"] {
        assert_eq!(limit_of(&stage, branch), 64 * MIB);
    }
    is_stopped_at(&stage, "clone", 64);
    let (size, said) = write(&stage, "fork", "own", 200);
    assert!((61 * MIB..=64 * MIB).contains(&size), "{size}: {said}");
    let told = stage.loom_json(&["df"]);
    let row = |name: &str| {
        let rows = told["usage"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}: {told}")).clone()
    };
    assert_eq!(row("fork")["limit"], 64 * MIB);
    assert_eq!(row("before")["limit"], Value::Null);
    assert!(row("fork")["exclusive"].as_u64().unwrap().abs_diff(size) < 2 * MIB, "{told}");
    assert!(row("filled")["shared"].as_u64().unwrap() >= 61 * MIB, "{told}");

    // A rollback and a promotion leave the container its limit.
    stage.loom_json(&["limit", "clone", "32M"]);
    stage.loom_json(&["rollback", "web", "before", "--discard"]);
    assert_eq!(limit_of(&stage, "web"), 64 * MIB);
    is_stopped_at(&stage, "web", 64);
    stage.loom_json(&["promote", "fork", "--discard"]);
    assert_eq!(limit_of(&stage, "web"), 64 * MIB);
    let (size, said) = write(&stage, "web", "more", 200);
    assert!((61 * MIB..=64 * MIB).contains(&size), "{size}: {said}");
    is_stopped_at(&stage, "clone", 32);
    stage.loom_json(&["rm", "before", "filled"]);
    stage.end(&image);
}

fn a_limit_is_set_raised_lowered_and_ended(mut stage: Stage) {
    let image = stage.import(&small());
    idle(&stage, &image, "web");
    // What was written before anything was limited is not counted, and what is written from now on in a new one is.
    write(&stage, "web", "old", 10);
    stage.loom_json(&["limit", "web", "1G"]);
    idle(&stage, &image, "shop");
    assert_eq!(limit_of(&stage, "shop"), Value::Null);
    stage.loom_json(&["limit", "shop", "20M"]);
    is_stopped_at(&stage, "shop", 20);
    stage.loom_json(&["limit", "shop", "40M"]);
    is_stopped_at(&stage, "shop", 40);
    write(&stage, "shop", "kept", 30);
    let said = support::process::wrote(&support::loom::try_loom(
        &stage.loomd.ttrpc_socket(),
        &["limit", "shop", "10M"],
    ));
    assert!(said.contains("can write nothing until it has deleted"), "{said}");
    let (size, said) = write(&stage, "shop", "none", 10);
    assert!(size < MIB, "{size}: {said}");
    stage.loomd.kill();
    stage.start_again();
    let (size, said) = write(&stage, "shop", "none", 10);
    assert!(size < MIB, "behind a crash of loomd: {size}: {said}");
    assert_eq!(stage.loom_json(&["limit", "shop", "none"])["limit"], Value::Null);
    assert_eq!(write(&stage, "shop", "none", 60).0, 60 * MIB);

    let doors = stage.doors();
    let parent =
        stage.containerd.snapshots("loom").into_iter().find(|key| key.starts_with("sha256:")).unwrap();
    let parent = stage.loom_json(&["ls", "--all"]).as_array().unwrap().iter().find_map(|row| {
        let key = row["key"].as_str()?;
        key.ends_with(&parent).then(|| key.to_owned())
    });
    let parent = parent.unwrap();
    doors.prepare("default/900/labelled", &parent, &[(LABEL, "10485760")]).unwrap();
    let rows = stage.loom_json(&["ls", "--all"]);
    let row = rows.as_array().unwrap().iter().find(|row| row["key"] == "default/900/labelled").unwrap();
    assert_eq!(row["limit"], 10 * MIB);
    let refused = doors.prepare("default/901/wrong", &parent, &[(LABEL, "10G")]).unwrap_err();
    assert!(format!("{refused:?}").contains(LABEL), "{refused:?}");
    doors.remove("default/900/labelled").unwrap();
    stage.end(&image);
}

fn the_default_is_every_containers(mut stage: Stage) {
    stage.loomd.stop();
    stage.loomd.configure("[limit]\ndefault = \"24M\"\n");
    stage.start_again();
    let image = stage.import(&small());
    idle(&stage, &image, "web");
    assert_eq!(limit_of(&stage, "web"), 24 * MIB);
    is_stopped_at(&stage, "web", 24);
    stage.end(&image);
}

fn what_nothing_keeps_is_refused(mut stage: Stage) {
    let image = stage.import(&small());
    idle(&stage, &image, "web");
    let said = stage.loom_fails(4, &["limit", "web", "1G"]);
    let filesystem = format!("{:?}", stage.layout).to_lowercase();
    assert!(said.contains(&filesystem) && said.contains("loom pool create"), "{said}");
    assert_eq!(limit_of(&stage, "web"), Value::Null);
    stage.loom_json(&["limit", "web", "none"]);
    stage.loom_fails(2, &["limit", "web", "0"]);
    let before = stage.place.layers();
    let refused = stage.doors().prepare("default/900/labelled", "", &[(LABEL, "1048576")]).unwrap_err();
    assert!(format!("{refused:?}").contains("loom pool create"), "{refused:?}");
    assert_eq!(stage.place.layers(), before);

    stage.loomd.stop();
    stage.loomd.configure("[limit]\ndefault = \"1G\"\n");
    let daemon = stage.loomd.spawn();
    wait_until("loomd to refuse to start", || !daemon.is_running());
    let log = stage.loomd.log();
    assert!(log.contains("limit.default is 1G, and cannot be kept") && log.contains(&filesystem), "{log}");
    stage.loomd.deconfigure("[limit]\ndefault = \"1G\"\n");
    stage.start_again();
    stage.end(&image);
}

/// What a place takes: its layers and trash, and what its filesystem uses.
fn place(stage: &Stage, home: &str, of: &Path) -> (u64, u64) {
    rustix::fs::syncfs(std::fs::File::open(of).unwrap()).unwrap();
    let told = stage.loom_json(&["df"]);
    let place = told["places"].as_array().unwrap().iter().find(|place| place["home"] == home).unwrap();
    assert_eq!(place["partial"], false, "{told}");
    let bytes = |field: &str| place[field].as_u64().unwrap();
    (bytes("layers") + bytes("trash"), bytes("used"))
}

fn the_sum_is_the_filesystems(stage: Stage) {
    let image = stage.import(&small());
    let (home, of) = match &stage.place.pool {
        Some(pool) => ("pool", pool.clone()),
        None => ("plain", stage.place.root.clone()),
    };
    idle(&stage, &image, "web");
    write(&stage, "web", "shared", 30);
    let (sum, used) = place(&stage, home, &of);
    for fork in ["one", "two"] {
        stage.loom_json(&["fork", "web", "--name", fork]);
        write(&stage, fork, "own", 10);
    }
    let (sum_then, used_then) = place(&stage, home, &of);
    let (grown, by) = (sum_then - sum, used_then - used);
    let copied = stage.loom_json(&["status"])["method"] == "copy";
    let wanted = if copied { 80 } else { 20 };
    assert!(grown.abs_diff(wanted * MIB) < 2 * MIB, "layers grew by {grown}, and {wanted} MiB were written");
    assert!(grown.abs_diff(by) < 8 * MIB, "layers grew by {grown}, and the filesystem by {by}");
    stage.end(&image);
}

on_stages! {
    a_limit_with_a_pool: a_limit_stops_a_container_and_its_branches(Ext4Pool, Debian);
    a_limit_changes_at_run_time: a_limit_is_set_raised_lowered_and_ended(Ext4Pool, Current);
    a_default: the_default_is_every_containers(Ext4Pool, Debian);
    refused_on_ext4: what_nothing_keeps_is_refused(Ext4, Debian);
    refused_on_xfs: what_nothing_keeps_is_refused(Xfs, Debian);
    the_sum_on_ext4: the_sum_is_the_filesystems(Ext4, Debian);
    the_sum_with_a_pool: the_sum_is_the_filesystems(Ext4Pool, Debian);
}
