//! The admin service for others than loom: a program in Go, on containerd's own ttrpc and generated from
//! the proto alone, calls every method (`integration/go/admin`).
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.

mod support;

use std::process::Command;

use support::containerd::{Version, tools};
use support::image::small;
use support::layout::Layout;
use support::process::succeed;
use support::stage::Stage;

fn every_method(version: Version) {
    let stage = Stage::new(Layout::Ext4Pool, version);
    let image = stage.import(&small());
    let run = ["run", "-d", "--snapshotter", "loom", &image, "origin", "sleep", "10000"];
    stage.containerd.ctr(&run);
    let mut admin = Command::new(tools().join("admin"));
    admin.arg("-address").arg(stage.loomd.ttrpc_socket());
    let called = succeed(admin.args(["-namespace", "default", "-container", "origin"]));
    println!("called from Go: {called}");
    for made in stage.containerd.images().iter().filter(|made| **made != image) {
        stage.containerd.ctr(&["images", "rm", made]);
    }
    stage.end(&image);
}

#[test]
fn every_method_with_debians_containerd() {
    every_method(Version::Debian);
}

#[test]
fn every_method_with_the_current_containerd() {
    every_method(Version::Current);
}
