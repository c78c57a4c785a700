//! Asking and looking at the pool that loom makes on a stage that has none.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::containerd::Version;
use super::counter::Counter;
use super::layout::Layout;
use super::process::{finish, run};
use super::stage::Stage;

/// In bytes.
pub const GIB: u64 = 1 << 30;

/// A stage on ext4 without a pool.
pub fn stage(version: Version) -> Stage {
    Stage::new(Layout::Ext4, version)
}

/// What `loom pool status` tells; None where there is no pool.
pub fn pool(stage: &Stage) -> Option<Value> {
    let told = stage.loom_json(&["pool", "status"]);
    (!told.is_null()).then_some(told)
}

pub fn number(stage: &Stage, field: &str) -> u64 {
    pool(stage).unwrap()[field].as_u64().unwrap()
}

/// Where the pool is mounted, and its image.
pub fn places(stage: &Stage) -> (PathBuf, PathBuf) {
    (stage.place.root.join("pool"), stage.place.root.join("pool.img"))
}

/// The loop devices that an image is attached to.
pub fn loops(image: &Path) -> Vec<String> {
    let listed = run("losetup", &["--noheadings", "--output", "NAME,BACK-FILE", "--list"]);
    let ours = listed.lines().filter(|line| line.contains(image.to_str().unwrap()));
    ours.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

pub fn is_mounted(place: &Path) -> bool {
    finish(Command::new("mountpoint").arg("-q").arg(place)).status.success()
}

/// What a pool that was not made has left.
pub fn left(stage: &Stage) -> Vec<String> {
    let (place, image) = places(stage);
    let mut left = loops(&image);
    for path in [place, image, stage.place.root.join("pool.json"), stage.place.root.join("pool.json.tmp")] {
        if path.exists() {
            left.push(path.display().to_string());
        }
    }
    left
}

/// How a container is forked; the fork is ended again.
pub fn method(stage: &Stage, container: &str) -> String {
    let answer = stage.loom_json(&["fork", container, "--name", "probe"]);
    stage.containerd.remove(&["probe"]);
    answer["cost"]["method"].as_str().unwrap().to_owned()
}

/// Stops a container's process, and starts it again on the same files.
pub fn start_again(stage: &Stage, name: &str) -> Counter {
    stage.containerd.ctr(&["tasks", "start", "--detach", name]);
    Counter::of(stage, name)
}

pub fn stop(stage: &Stage, name: &str) {
    stage.containerd.ctr(&["tasks", "rm", "--force", name]);
}
