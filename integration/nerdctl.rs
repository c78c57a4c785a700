//! containerd and nerdctl on loom by configuration alone: images and containers come, work, look
//! exactly as on overlayfs, and go without a trace.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::containerd::{Containerd, Version};
use support::image::{debian, small};
use support::layout::Layout;
use support::stage::Stage;
use support::tree::{Tree, confused};
use support::wait::{wait_until, wait_until_none};

/// A container's work: changes of every kind, with fixed times, so that two runs can be compared.
const WORK: &str = r"
set -e
touch -d '1 second ago' /tmp/start
cd /srv
echo changed >>odd/first                    # one of three hard links of an image layer
rm odd/second
ln odd/third odd/fourth
chmod 4711 odd/setuid
chown 12:34 odd/xattr
mv many/0 many/moved 2>/dev/null || { cp -a many/0 many/moved && rm -r many/0; }
rm -r many/1 && mkdir many/1 && echo new >many/1/new      # opaque where there was a directory
rm many/2/2 && mkdir many/2/2                              # a directory where there was a file
rm -r many/3 && echo file >many/3                          # and the other way round
mkfifo odd/pipe
ln -s ../nowhere odd/link
dd if=/dev/zero of=odd/holes bs=1 count=1 seek=1048576 2>/dev/null
chown -h 5:6 odd/link
echo done >/root/made
mkdir -m 1777 /opt/sticky
apt-get --version >/dev/null
find / -xdev -depth -newer /tmp/start -not -regex '/\(dev\|proc\|run\|sys\)\(/.*\)?' \
    -exec touch -h -d @1500000000.987654321 {} +
rm /tmp/start
# overlayfs gives a new container's root the time of now, loom that of the image.
touch -d @1500000000 /tmp /
";

fn run_debian(containerd: &Containerd, snapshotter: &str, image: &str, name: &str) -> Tree {
    containerd.ctr(&["run", "-d", "--snapshotter", snapshotter, image, name, "sleep", "10000"]);
    containerd.exec(name, &["bash", "-c", WORK]);
    let root = PathBuf::from(format!("/proc/{}/root", containerd.pid_of(name)));
    assert_eq!(confused(&root), Vec::<String>::new(), "in {name}");
    Tree::read(&root)
}

fn remove(containerd: &Containerd, name: &str) {
    containerd.ctr(&["tasks", "rm", "-f", name]);
    containerd.ctr(&["containers", "rm", name]);
}

/// An image, and a container that changed it, are what they are on overlayfs: contents, owners,
/// modes, times, xattrs, links; live, and mounted again afterwards.
fn same_as_overlayfs(layout: Layout, version: Version) {
    let stage = Stage::new(layout, version);
    let containerd = &stage.containerd;
    let loom = containerd.snapshotter.clone();
    let image = stage.import(&debian());
    containerd.import("overlayfs", &debian().archive);

    let trees = [("left", "overlayfs"), ("right", &loom)].map(|(name, snapshotter)| {
        let target = stage.scratch.dir(name);
        let place = target.to_str().unwrap();
        containerd.ctr(&["images", "mount", "--snapshotter", snapshotter, &image, place]);
        let mut tree = Tree::read(&target);
        // containerd 2.x leaves the root directory with the time of unpacking.
        tree.entries.get_mut(Path::new("")).unwrap().modified = (0, 0);
        assert_eq!(confused(&target), Vec::<String>::new(), "in the image on {snapshotter}");
        containerd.ctr(&["images", "unmount", "--snapshotter", snapshotter, "--rm", place]);
        tree
    });
    assert!(trees[0].entries.len() > 5000, "a whole Debian");
    trees[0].assert_same(&trees[1], "the image on overlayfs and on loom");

    let theirs = run_debian(containerd, "overlayfs", &image, "theirs");
    let ours = run_debian(containerd, &loom, &image, "ours");
    assert!(theirs.get("root/made").is_some());
    theirs.assert_same(&ours, "a container on overlayfs and on loom");

    // Ended and mounted again, it is what it was.
    containerd.ctr(&["tasks", "rm", "-f", "ours"]);
    let again = stage.scratch.dir("again");
    containerd.mount(&loom, "ours", &again);
    let skipped = ["dev", "proc", "sys", "run"]; // Mounted over while it ran.
    ours.without(&skipped).assert_same(&Tree::read(&again).without(&skipped), "the container live and ended");
    support::process::run("umount", &[&again]);

    containerd.ctr(&["containers", "rm", "ours"]);
    remove(containerd, "theirs");
    containerd.ctr(&["images", "rm", "--sync", &image]);
    stage.wait_until_empty();
}

#[test]
fn same_as_overlayfs_on_ext4_with_debians_containerd() {
    same_as_overlayfs(Layout::Ext4, Version::Debian);
}

#[test]
fn same_as_overlayfs_on_ext4_with_the_current_containerd() {
    same_as_overlayfs(Layout::Ext4, Version::Current);
}

#[test]
fn same_as_overlayfs_with_a_pool_and_debians_containerd() {
    same_as_overlayfs(Layout::Ext4Pool, Version::Debian);
}

#[test]
fn same_as_overlayfs_with_a_pool_and_the_current_containerd() {
    same_as_overlayfs(Layout::Ext4Pool, Version::Current);
}

/// What people do with nerdctl.
fn nerdctl(layout: Layout, version: Version) {
    let stage = Stage::new(layout, version);
    let containerd = &stage.containerd;
    let nerdctl = |args: &[&str]| containerd.nerdctl(args);
    let image = stage.import(&debian());
    stage.import(&small());

    // run, exec, logs. The host's network here is the test's own.
    let command = "echo started; exec sleep 10000";
    nerdctl(&["run", "-d", "--net=host", "--name", "web", &image, "bash", "-c", command]);
    wait_until("the log", || nerdctl(&["logs", "web"]).contains("started"));
    assert_eq!(nerdctl(&["exec", "web", "cat", "/etc/motd"]), "changed in the second layer");
    nerdctl(&["exec", "web", "bash", "-c", "echo kept >/root/state; rm /etc/motd; sync"]);

    // cp, both ways.
    let local = stage.scratch.path().join("local");
    fs::write(&local, "copied in\n").unwrap();
    nerdctl(&["cp", local.to_str().unwrap(), "web:/root/in"]);
    assert_eq!(nerdctl(&["exec", "web", "cat", "/root/in"]), "copied in");
    let out = stage.scratch.path().join("out");
    nerdctl(&["cp", "web:/root/state", out.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&out).unwrap(), "kept\n");

    // diff.
    let changes = nerdctl(&["diff", "web"]);
    for wanted in ["A /root/state", "A /root/in", "D /etc/motd"] {
        assert!(changes.lines().any(|line| line == wanted), "{wanted} is not in\n{changes}");
    }

    // restart.
    nerdctl(&["restart", "-t", "0", "web"]);
    assert_eq!(nerdctl(&["exec", "web", "cat", "/root/state"]), "kept");

    // commit, and a container of what was committed.
    nerdctl(&["commit", "web", "loom.test/committed:1"]);
    let seen = nerdctl(&[
        "run",
        "--rm",
        "--net=host",
        "loom.test/committed:1",
        "bash",
        "-c",
        "cat /root/state /root/in; test -e /etc/motd || echo no motd",
    ]);
    assert_eq!(seen, "kept\ncopied in\nno motd");

    // The small image has one layer; it runs too, and stops.
    nerdctl(&["run", "-d", "--net=host", "--name", "tiny", &small().name, "sleep", "10000"]);
    nerdctl(&["stop", "-t", "0", "tiny"]);
    nerdctl(&["start", "tiny"]);
    let names = nerdctl(&["ps", "--format", "{{.Names}}"]);
    assert!(names.contains("web") && names.contains("tiny"), "{names}");

    // rm, rmi, prune. rm ends with 0 whatever happens: what counts is what is left.
    nerdctl(&["rm", "-f", "web", "tiny"]);
    wait_until_none("containers", || nerdctl(&["ps", "-aq"]).lines().map(ToOwned::to_owned).collect());
    nerdctl(&["rmi", "loom.test/committed:1"]);
    nerdctl(&["system", "prune", "--all", "--force"]);
    wait_until_none("images", || nerdctl(&["images", "-q"]).lines().map(ToOwned::to_owned).collect());
    stage.wait_until_empty();
}

#[test]
fn nerdctl_on_ext4_with_debians_containerd() {
    nerdctl(Layout::Ext4, Version::Debian);
}

#[test]
fn nerdctl_on_ext4_with_the_current_containerd() {
    nerdctl(Layout::Ext4, Version::Current);
}

#[test]
fn nerdctl_with_a_pool_and_debians_containerd() {
    nerdctl(Layout::Ext4Pool, Version::Debian);
}

#[test]
fn nerdctl_with_a_pool_and_the_current_containerd() {
    nerdctl(Layout::Ext4Pool, Version::Current);
}
