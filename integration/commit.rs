//! An image is made of a running container in a moment, and containerd's and nerdctl's own verbs take it as theirs.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;


use support::image::small;
use support::containerd::Version;
use support::layout::Layout;
use support::stage::{Stage, on_stages};


fn explore(stage: Stage) {
    let image = stage.import(&small());
    let nerdctl = |args: &[&str]| {
        let output = stage.containerd.try_nerdctl(args);
        println!("$ nerdctl {args:?} -> {:?}\n{}{}", output.status.code(), String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    };
    nerdctl(&["run", "-d", "--net=none", "--name", "web", "-e", "A=1", &image, "sleep", "10000"]);
    nerdctl(&["exec", "web", "sh", "-c", "echo one >/root/state"]);
    println!("{}", stage.loom_json(&["commit", "web", "app:1", "--change", "ENV B=2", "--message", "hello"]));
    println!("{}", stage.loom(&["images"]));
    for args in [
        &["images"][..],
        &["run", "--rm", "--net=none", "app:1", "cat", "/root/state"],
        &["inspect", "app:1"],
        &["image", "inspect", "--mode", "native", "app:1"],
        &["history", "app:1"],
        &["run", "-d", "--net=none", "--name", "two", "app:1"],
        &["commit", "two", "three:1"],
        &["create", "--net=none", "--name", "four", "app:1"],
        &["tag", "app:1", "app:2"],
        &["save", "-o", "/tmp/x.tar", "app:1"],
        &["push", "localhost:1/app:1"],
        &["pull", "app:1"],
        &["rmi", "app:1"],
        &["rmi", "-f", "app:1"],
        &["images"],
        &["rm", "-f", "two", "four"],
        &["rmi", "app:1"],
        &["images", "-a"],
        &["rm", "-f", "web"],
    ] {
        nerdctl(args);
    }
    println!("{}", stage.containerd.ctr(&["images", "ls"]));
    println!("{}", stage.containerd.ctr(&["snapshots", "--snapshotter", "loom", "ls"]));
}

on_stages! {
    explore_current: explore(Ext4Pool, Current);
    explore_debian: explore(Ext4, Debian);
}
