//! No two files of a mount that loom hands out show one `st_dev` and `st_ino`, unless they are hard
//! links: what `cp`, `diff`, `tar` and `mv` rely on. In images, containers, and forks of forks.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.

mod support;

use std::path::PathBuf;

use support::containerd::{Containerd, Version};
use support::image::debian;
use support::layout::Layout;
use support::stage::Stage;
use support::tree::{Tree, confused};

/// Files of one generation: their numbers are the same in each, their contents are of one length.
const WRITE: &str = r"
set -e
mkdir -p /srv/x/$1
for n in $(seq 40); do printf '%s of %s\n' $n $1 >/srv/x/$1/$n; done
echo changed in $1 >>/etc/hostname
touch /srv/many/$2/*
ln /srv/x/$1/1 /srv/x/$1/link
";

/// What mixes up when inodes do, over all generations so far.
const USE: &str = r#"
set -e
cd /srv
fail() { echo $*; exit 1; }
for a in x/*; do for b in x/* many/19; do
    [ $a = $b ] && continue
    cmp -s $a/19 $b/19 && fail $a/19 and $b/19 are taken for one
    diff -q $a/19 $b/19 >/dev/null && fail diff takes $a/19 and $b/19 for one
    cp $a/19 /tmp/copy && cp -f $b/19 /tmp/copy && cmp -s $b/19 /tmp/copy || fail cp of $b/19
    [ $a/19 -ef $b/19 ] && fail $a/19 and $b/19 are one file
done; done
sum() { (cd $1 && find . -type f | sort | xargs sha256sum | sha256sum); }
rm -rf /tmp/t /tmp/c && mkdir /tmp/t
tar c x many odd | tar x -C /tmp/t
cp -a x /tmp/c
[ "$(sum x)" = "$(sum /tmp/t/x)" ] || fail tar
[ "$(sum many)" = "$(sum /tmp/t/many)" ] || fail tar of many
[ "$(sum x)" = "$(sum /tmp/c)" ] || fail cp -a
diff -r x /tmp/t/x || fail diff after tar
diff -r x /tmp/c || fail diff after cp
for g in x/*; do
    before=$(sha256sum <$g/20)
    mv $g/20 /tmp/moved && mv /tmp/moved $g/20
    [ "$(sha256sum <$g/20)" = "$before" ] || fail mv of $g/20
done
cat x/*/* >/dev/null
echo right
"#;

fn check(containerd: &Containerd, name: &str) {
    let root = PathBuf::from(format!("/proc/{}/root", containerd.pid_of(name)));
    assert_eq!(confused(&root), Vec::<String>::new(), "in {name}");
    assert_eq!(containerd.exec(name, &["bash", "-c", USE]), "right");
    assert_eq!(confused(&root), Vec::<String>::new(), "in {name}, after its use");
}

fn inodes(layout: Layout) {
    let stage = Stage::new(layout, Version::Current);
    let containerd = &stage.containerd;
    let image = stage.import(&debian());
    containerd.ctr(&["run", "-d", "--snapshotter", "loom", &image, "g0", "sleep", "10000"]);
    // Each generation is a fork of the one before, and writes before and after it is forked.
    for generation in 0..4 {
        let name = format!("g{generation}");
        if generation > 0 {
            let parent = format!("g{}", generation - 1);
            let forked = stage.loom_json(&["fork", &parent, "--name", &name]);
            assert_eq!(forked["forks"][0]["error"], serde_json::Value::Null, "{forked}");
        }
        let number = generation.to_string();
        containerd.exec(&name, &["bash", "-c", WRITE, "bash", &name, &number]);
        check(containerd, &name);
    }
    // The older ones are still what they were, and can go on.
    for generation in 0..4 {
        check(containerd, &format!("g{generation}"));
    }
    let own = containerd.exec("g3", &["bash", "-c", "ls /srv/x | tr '\\n' ' '"]);
    assert_eq!(own.trim(), "g0 g1 g2 g3");

    // A snapshot, and a clone of it.
    stage.loom_json(&["snapshot", "g3", "--name", "kept"]);
    let cloned = stage.loom_json(&["clone", "kept", "--name", "g4"]);
    assert_eq!(cloned["clone"]["error"], serde_json::Value::Null, "{cloned}");
    containerd.exec("g4", &["bash", "-c", WRITE, "bash", "g4", "4"]);
    check(containerd, "g4");

    // Views of every committed snapshot that containerd knows.
    for (number, key) in containerd.snapshots("loom").iter().enumerate() {
        if !key.starts_with("sha256:") {
            continue;
        }
        let view = format!("view-{number}");
        containerd.ctr(&["snapshots", "--snapshotter", "loom", "view", &view, key]);
        let place = stage.scratch.dir(&view);
        containerd.mount("loom", &view, &place);
        assert_eq!(confused(&place), Vec::<String>::new(), "in a view of {key}");
        assert!(!Tree::read(&place).entries.is_empty());
        support::process::run("umount", &[&place]);
    }
}

#[test]
fn on_ext4() {
    inodes(Layout::Ext4);
}

#[test]
fn on_xfs() {
    inodes(Layout::Xfs);
}

#[test]
fn on_btrfs() {
    inodes(Layout::Btrfs);
}

#[test]
fn with_a_pool() {
    inodes(Layout::Ext4Pool);
}
