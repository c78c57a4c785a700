//! An image of a state, made portable, is the same everywhere: saved and loaded into another containerd, pushed to a
//! registry and pulled by a third, both on overlayfs. What compares is a walk that shares nothing with loom's own.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use support::containerd::Version;
use support::image::{debian, small};
use support::kinds::{change_image, make_all};
use support::layout::Layout;
use support::peer::{Peer, image_tree};
use support::process::run;
use support::registry::Registry;
use support::stage::{Stage, on_stages};
use support::tree::Tree;
use support::wait::wait_until;

/// What is mounted into every container, and so is not to be seen in its root.
const MOUNTED: [&str; 4] = ["dev", "proc", "run", "sys"];

fn root(stage: &Stage, container: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root", stage.containerd.pid_of(container)))
}

/// The tree of an image, as the stage's containerd mounts it.
fn tree(stage: &Stage, image: &str) -> Tree {
    image_tree(&stage.containerd, &stage.scratch.dir("mounted"), image).into_layer()
}

/// Starts a container with every kind of file in it; answers what is in it.
fn zoo(stage: &Stage) -> Tree {
    let image = stage.import(&debian());
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", &image, "origin", "sleep", "10000"]);
    let root = root(stage, "origin");
    change_image(&root);
    make_all(&root.join("srv/kinds"));
    // In a layer it would delete something.
    fs::remove_file(root.join("srv/kinds/.wh.name")).unwrap();
    Tree::read(&root).into_layer().without(&MOUNTED)
}

/// What nerdctl cannot do with an image that is this node's alone, and can do with a portable one.
fn nerdctls<'a>(image: &'a str, file: &'a str) -> [(&'static str, Vec<&'a str>); 3] {
    [
        ("tag", vec!["tag", image, "loom.test/tagged:1"]),
        ("save", vec!["save", "-o", file, image]),
        ("push", vec!["push", "--insecure-registry", image]),
    ]
}

fn the_same_everywhere(stage: Stage) {
    let was = zoo(&stage);
    let registry = Registry::start(&stage.scratch.dir("registry"));
    let name = format!("{}/zoo:1", registry.address);
    let saved = stage.scratch.path().join("saved.tar");
    let exported = stage.scratch.path().join("exported.tar");
    let (saved, exported) = (saved.to_str().unwrap(), exported.to_str().unwrap());

    stage.loom_json(&["commit", "origin", &name]);
    tree(&stage, &name).without(&MOUNTED).assert_same(&was, "the image");
    for (verb, command) in nerdctls(&name, saved) {
        let output = stage.containerd.try_nerdctl(&command);
        assert!(!output.status.success(), "nerdctl {verb} of an image without a blob");
    }
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", &name, "before", "sleep", "10000"]);

    let made = stage.loom_json(&["portable", &name]);
    assert_eq!(made["image"]["portable"], true, "{made}");
    assert!(made["layer_size"].as_u64().unwrap() > 0, "{made}");
    // What was made of it before runs on, and new ones run.
    stage.containerd.exec("before", &["sh", "-c", "test ! -e /srv/many/1 && echo x > /srv/own"]);
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", &name, "behind", "sleep", "10000"]);
    stage.containerd.collect();
    stage.containerd.exec("before", &["cat", "/srv/own"]);
    tree(&stage, &name).without(&MOUNTED).assert_same(&was, "the portable image");
    if stage.containerd.version == Version::Debian {
        // This nerdctl looks at an image's content by services that 1.6 has not, whoever made it.
        let tagged = stage.containerd.try_nerdctl(&["tag", &debian().name, "loom.test/tagged:1"]);
        println!("nerdctl tag of an ordinary image on 1.6: {tagged:?}");
        stage.containerd.ctr(&["images", "tag", "--force", &name, "loom.test/tagged:1"]);
        stage.containerd.ctr(&["images", "export", saved, &name]);
        stage.containerd.ctr(&["images", "push", "--plain-http", &name]);
    } else {
        for (_, command) in nerdctls(&name, saved) {
            stage.containerd.nerdctl(&command);
        }
    }
    stage.loom(&["export", &format!("image:{name}"), "--format", "oci", "-o", exported]);

    // Another containerd, of the other version, and a third.
    let other = match stage.containerd.version {
        Version::Debian => Version::Current,
        Version::Current => Version::Debian,
    };
    let all = tree(&stage, &name).into_unpacked();
    for (archive, peer) in [(saved, "second"), (exported, "loaded")] {
        let peer = Peer::start(&stage, peer, other);
        peer.containerd.import("overlayfs", Path::new(archive));
        peer.tree(&stage, &name).into_layer().into_unpacked().assert_same(&all, archive);
    }
    let third = Peer::start(&stage, "third", stage.containerd.version);
    third.containerd.ctr(&["images", "pull", "--plain-http", "--snapshotter", "overlayfs", &name]);
    third.tree(&stage, &name).into_layer().into_unpacked().assert_same(&all, "pulled");
    drop(third);

    stage.containerd.remove(&["origin", "before", "behind"]);
    stage.containerd.ctr(&["images", "rm", &name, "loom.test/tagged:1"]);
    stage.end(&debian().name);
}

fn other_tools_take_it(stage: Stage) {
    zoo(&stage);
    let dir = stage.scratch.dir("layouts");
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    for compression in ["gzip", "zstd"] {
        let (name, archive) = (format!("loom.test/{compression}:v1"), at(&format!("{compression}.tar")));
        stage.loom_json(&["commit", "origin", &name, "--portable", "--compression", compression]);
        stage.loom(&["save", &name, "-o", &archive]);
        let layout = at(compression);
        run(
            "skopeo",
            &[
                "copy",
                "-q",
                "--insecure-policy",
                &format!("oci-archive:{archive}"),
                &format!("oci:{layout}:v1"),
            ],
        );
        let seen: Value =
            serde_json::from_str(&run("skopeo", &["inspect", &format!("oci:{layout}:v1")])).unwrap();
        assert_eq!(seen["Layers"].as_array().unwrap().len(), 5, "{seen}");
        run(
            "skopeo",
            &[
                "copy",
                "-q",
                "--insecure-policy",
                &format!("docker-archive:{archive}"),
                &format!("dir:{}", at(&format!("{compression}-dir"))),
            ],
        );
    }
    // Debian's umoci knows no zstd.
    let bundle = at("bundle");
    run("umoci", &["unpack", "--image", &format!("{}:v1", at("gzip")), &bundle]);
    let unpacked = Tree::read(&Path::new(&bundle).join("rootfs")).into_layer();
    let image = tree(&stage, "loom.test/gzip:v1");
    let paths = |tree: &Tree| tree.entries.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(&unpacked), paths(&image));
    stage.containerd.ctr(&["images", "rm", "loom.test/gzip:v1", "loom.test/zstd:v1"]);
    stage.end(&debian().name);
}

/// The layer that `loom portable` writes of an image.
fn layer(stage: &Stage, image: &str, compression: &str) -> String {
    let made = stage.loom_json(&["portable", image, "--compression", compression]);
    made["layer"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
}

fn twice_is_the_same(stage: Stage) {
    zoo(&stage);
    stage.loom_json(&["snapshot", "origin", "--name", "state"]);
    for compression in ["gzip", "zstd"] {
        for image in ["loom.test/a:1", "loom.test/b:1"] {
            stage.loom_json(&["commit", "snapshot:state", image]);
        }
        let first = layer(&stage, "loom.test/a:1", compression);
        // The blob is gone before it is written again.
        stage.containerd.ctr(&["images", "rm", "--sync", "loom.test/a:1"]);
        stage.containerd.collect();
        assert!(!stage.containerd.ctr(&["content", "ls", "-q"]).contains(&first));
        assert_eq!(layer(&stage, "loom.test/b:1", compression), first);
        // What is portable is left as it is.
        let again = stage.loom_json(&["portable", "loom.test/b:1"]);
        assert_eq!(again["layer"], Value::Null, "{again}");
        stage.containerd.ctr(&["images", "rm", "--sync", "loom.test/b:1"]);
    }
    stage.loom(&["rm", "state"]);
    stage.end(&debian().name);
}

fn several_layers_become_one(stage: Stage) {
    let image = stage.import(&small());
    let ctr = |args: &[&str]| stage.containerd.ctr(args);
    ctr(&["run", "-d", "--snapshotter", "loom", &image, "one", "sleep", "10000"]);
    stage.containerd.exec("one", &["sh", "-c", "echo 1 > /root/first; echo 1 > /root/both"]);
    stage.loom_json(&["commit", "one", "loom.test/one:1", "-m", "the first"]);
    ctr(&["run", "-d", "--snapshotter", "loom", "loom.test/one:1", "two", "sleep", "10000"]);
    stage.containerd.exec("two", &["sh", "-c", "rm /root/first; echo 2 > /root/both; echo 2 > /root/second"]);
    stage.loom_json(&["commit", "two", "loom.test/two:1", "-m", "the second"]);
    let was = tree(&stage, "loom.test/two:1");
    // Two names of one image are both moved.
    stage.loom_json(&["tag", "loom.test/two:1", "loom.test/also:1"]);
    stage.loom_json(&["portable", "loom.test/two:1"]);
    let history = stage.containerd.nerdctl(&["history", "--no-trunc", "loom.test/two:1"]);
    assert!(history.contains("the second"), "{history}");
    let archive = stage.scratch.path().join("two.tar");
    stage.loom(&["save", "loom.test/also:1", "-o", archive.to_str().unwrap()]);
    let seen = run("skopeo", &["inspect", &format!("oci-archive:{}", archive.display())]);
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen["Layers"].as_array().unwrap().len(), 2, "{seen}");
    let peer = Peer::start(&stage, "second", stage.containerd.version);
    peer.containerd.import("overlayfs", &archive);
    peer.tree(&stage, "loom.test/also:1").into_layer().assert_same(&was, "what was loaded");
    drop(peer);
    // A state on top of a portable one has that as its base, or at least the image's.
    ctr(&["run", "-d", "--snapshotter", "loom", "loom.test/two:1", "three", "sleep", "10000"]);
    stage.containerd.exec("three", &["sh", "-c", "rm /root/second; echo 3 > /root/third"]);
    stage.loom_json(&["commit", "three", "loom.test/three:1", "--portable"]);
    let was = tree(&stage, "loom.test/three:1");
    assert!(was.get("root/third").is_some() && was.get("root/second").is_none());
    let archive = stage.scratch.path().join("three.tar");
    stage.loom(&["save", "loom.test/three:1", "-o", archive.to_str().unwrap()]);
    let peer = Peer::start(&stage, "third", stage.containerd.version);
    peer.containerd.import("overlayfs", &archive);
    peer.tree(&stage, "loom.test/three:1").into_layer().assert_same(&was, "the third");
    drop(peer);
    let names = ["one", "two", "also", "three"].map(|name| format!("loom.test/{name}:1"));
    stage.containerd.remove(&["one", "two", "three"]);
    ctr(&[&["images", "rm", "--sync"], names.each_ref().map(String::as_str).as_slice()].concat());
    stage.end(&image);
}

fn a_killed_one_leaves_nothing(mut stage: Stage) {
    let image = stage.import(&small());
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", &image, "origin", "sleep", "10000"]);
    // Enough for it to take a while.
    let fill = "i=0; while [ $i -lt 40 ]; do dd if=/dev/urandom of=/root/$i bs=1M count=10 2>/dev/null; i=$((i+1)); done";
    stage.containerd.exec("origin", &["sh", "-c", fill]);
    stage.loom_json(&["commit", "origin", "loom.test/large:1"]);
    let (before, was) = (stage.inventory(), content_of(&stage));
    let mut writing = stage.loom_command(&["portable", "loom.test/large:1"]).spawn().unwrap();
    wait_until("a blob to grow", || ingested(&stage) > 1 << 20);
    stage.loomd.kill();
    assert!(!writing.wait().unwrap().success());
    stage.start_again();
    stage.wait_until_again(&before, "a portable that was killed");
    wait_until("the blob to go", || ingested(&stage) == 0 && content_of(&stage) == was);

    // And one that its client calls off.
    let mut writing = stage.loom_command(&["portable", "loom.test/large:1"]).spawn().unwrap();
    wait_until("a blob to grow", || ingested(&stage) > 1 << 20);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(writing.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert!(!writing.wait().unwrap().success());
    stage.wait_until_again(&before, "a portable that was called off");
    wait_until("the blob to go", || ingested(&stage) == 0 && content_of(&stage) == was);
    // The image is what it was, and can be made portable all the same.
    let made = stage.loom_json(&["portable", "loom.test/large:1"]);
    assert_eq!(made["image"]["portable"], true, "{made}");
    stage.containerd.ctr(&["images", "rm", "loom.test/large:1"]);
    stage.end(&image);
}

/// The blobs of the stage's containerd, in order.
fn content_of(stage: &Stage) -> Vec<String> {
    let digests = stage.containerd.ctr(&["content", "ls", "-q"]);
    let mut digests: Vec<String> = digests.lines().map(ToOwned::to_owned).collect();
    digests.sort();
    digests
}

/// The bytes that are on their way into the content store.
fn ingested(stage: &Stage) -> u64 {
    let ingest = stage.place.filesystem.join("containerd/io.containerd.content.v1.content/ingest");
    let parts = fs::read_dir(ingest).into_iter().flatten().filter_map(Result::ok);
    parts.filter_map(|part| fs::metadata(part.path().join("data")).ok()).map(|data| data.len()).sum()
}

on_stages! {
    the_same_everywhere_from_a_pool: the_same_everywhere(Ext4Pool, Current);
    the_same_everywhere_from_a_pool_of_1_6: the_same_everywhere(Ext4Pool, Debian);
    the_same_everywhere_from_xfs: the_same_everywhere(Xfs, Debian);
    other_tools_take_it_from_ext4: other_tools_take_it(Ext4, Debian);
    twice_is_the_same_on_a_pool: twice_is_the_same(Ext4Pool, Debian);
    twice_is_the_same_on_ext4: twice_is_the_same(Ext4, Current);
    several_layers_become_one_on_a_pool: several_layers_become_one(Ext4Pool, Current);
    several_layers_become_one_on_ext4: several_layers_become_one(Ext4, Debian);
    a_killed_one_leaves_nothing_on_a_pool: a_killed_one_leaves_nothing(Ext4Pool, Debian);
}
