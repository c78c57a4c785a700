//! Prepare and Remove through containerd, loom beside overlayfs in one run. It prints ratios; the
//! machine is not quiet enough to judge small ones, so only a collapse fails.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.

mod support;

use std::process::Command;

use support::containerd::{Version, tools};
use support::image::small;
use support::layout::Layout;
use support::process::succeed;
use support::stage::Stage;

/// Under this fraction of overlayfs's rate something is broken, however busy the machine is.
const FLOOR: f64 = 0.2;

fn prepare_and_remove(layout: Layout, version: Version) {
    let stage = Stage::new(layout, version);
    let containerd = &stage.containerd;
    stage.import(&small());
    containerd.import("overlayfs", &small().archive);
    // One layer: its key is its diff id, on every snapshotter.
    let parent = containerd.snapshots("overlayfs").pop().unwrap();
    let snapshotters = format!("overlayfs,{}", containerd.snapshotter);
    let text = succeed(
        Command::new(tools().join("bench"))
            .arg("-address")
            .arg(containerd.socket())
            .args(["-parent", &parent, "-seconds", "2", "-clients", "1,8,32"])
            .args(["-snapshotters", &snapshotters]),
    );
    let results: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    println!("prepare+remove a second, {layout:?}, {version:?} containerd:");
    for pair in results.chunks(2) {
        let rate = |index: usize| pair[index]["per_second"].as_f64().unwrap();
        let ratio = rate(1) / rate(0);
        println!(
            "  {:>2} clients: overlayfs {:>5.0}, loom {:>5.0}, ratio {ratio:.2}; prepare p50 {} µs, {} µs",
            pair[0]["clients"],
            rate(0),
            rate(1),
            pair[0]["prepare_p50_us"],
            pair[1]["prepare_p50_us"],
        );
        assert!(ratio > FLOOR, "loom does {ratio:.2} of what overlayfs does");
    }
    assert_eq!(results.len(), 6, "{text}");
}

#[test]
fn prepare_and_remove_on_ext4_with_debians_containerd() {
    prepare_and_remove(Layout::Ext4, Version::Debian);
}

#[test]
fn prepare_and_remove_on_ext4_with_the_current_containerd() {
    prepare_and_remove(Layout::Ext4, Version::Current);
}

#[test]
fn prepare_and_remove_with_a_pool_and_debians_containerd() {
    prepare_and_remove(Layout::Ext4Pool, Version::Debian);
}

#[test]
fn prepare_and_remove_with_a_pool_and_the_current_containerd() {
    prepare_and_remove(Layout::Ext4Pool, Version::Current);
}
