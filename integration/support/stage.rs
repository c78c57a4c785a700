//! One test's world: a scratch directory, loom's place, loomd and containerd.

use std::process::Command;

use super::containerd::{self, Containerd, Version};
use super::doors::Doors;
use super::image::Image;
use super::layout::{Layout, Place};
use super::loomd::Loomd;
use super::scratch::{Scratch, mount_lines};
use super::wait::{wait_until, wait_until_none};

/// A loomd and a containerd that run on a layout. Dropped, nothing of it stays.
///
/// With `LOOM_TEST_STOCK` in the environment the tests run on containerd's own overlayfs, as far as
/// they can: a test that fails there too is itself wrong.
#[derive(Debug)]
pub struct Stage {
    /// What the filesystems are.
    pub layout: Layout,
    /// The containerd.
    pub containerd: Containerd,
    /// The loomd.
    pub loomd: Loomd,
    /// The filesystems.
    pub place: Place,
    /// The directory of all this: last, since it ends what the others left.
    pub scratch: Scratch,
}

impl Stage {
    /// Makes the filesystems and starts both daemons.
    pub fn new(layout: Layout, version: Version) -> Stage {
        let mut stage = Stage::prepared(layout, version);
        if std::env::var_os("LOOM_TEST_STOCK").is_some() {
            stage.containerd.snapshotter = "overlayfs".into();
        } else {
            stage.loomd.start();
        }
        stage.containerd.start();
        stage
    }

    /// Makes the filesystems and describes both daemons, which are not started yet.
    pub fn prepared(layout: Layout, version: Version) -> Stage {
        let scratch = Scratch::new();
        let place = layout.make(&scratch);
        let run = scratch.dir("run");
        let loomd = Loomd::new(&run, &place, &containerd::socket(&run));
        let root = place.filesystem.join("containerd");
        let containerd = Containerd::new(version, &run, &root, &loomd.socket());
        Stage { layout, containerd, loomd, place, scratch }
    }

    /// Imports an image for loom, and returns its name.
    pub fn import(&self, image: &Image) -> String {
        self.containerd.import(&self.containerd.snapshotter, &image.archive);
        image.name.clone()
    }

    /// Starts loomd again, and waits until containerd reaches it: after a call that found nobody,
    /// containerd's client dials again only when its backoff says so, up to 3 s later.
    pub fn start_again(&mut self) {
        self.loomd.start();
        wait_until("containerd to dial loomd again", || self.containerd.api().snapshots("loom").is_some());
    }

    /// Runs `loom … --json` against this loomd, in the namespace.
    pub fn loom_json(&self, args: &[&str]) -> serde_json::Value {
        let namespace = ["--namespace", &self.containerd.namespace];
        super::loom::loom_json(&self.loomd.ttrpc_socket(), &[&namespace, args].concat())
    }

    /// Runs `loom` against this loomd, in the namespace, and returns what it printed for people.
    pub fn loom(&self, args: &[&str]) -> String {
        let namespace = ["--namespace", &self.containerd.namespace];
        super::loom::loom(&self.loomd.ttrpc_socket(), &[&namespace, args].concat())
    }

    /// Runs `loom`, which must fail with this exit status, and returns what it says.
    ///
    /// # Panics
    /// Where it does not.
    pub fn loom_fails(&self, status: i32, args: &[&str]) -> String {
        let namespace = ["--namespace", &self.containerd.namespace];
        let output = super::loom::try_loom(&self.loomd.ttrpc_socket(), &[&namespace, args].concat());
        let said = super::process::said(&output);
        assert_eq!(output.status.code(), Some(status), "loom {args:?}: {said}");
        said
    }

    /// The command for `loom` against this loomd, in the namespace.
    pub fn loom_command(&self, args: &[&str]) -> Command {
        let namespace = ["--namespace", &self.containerd.namespace];
        super::loom::loom_command(&self.loomd.ttrpc_socket(), &[&namespace, args].concat())
    }

    /// Runs `loom fork` of a running container and returns the forks' names. What it cost goes to the
    /// output, for the documents.
    ///
    /// # Panics
    /// Where one of them fails, or the source did not stand still.
    pub fn fork(&self, args: &[&str]) -> Vec<String> {
        let answer = self.loom_json(&[&["fork"], args].concat());
        let cost = &answer["cost"];
        assert!(cost["paused_us"].as_u64().unwrap() > 0, "{answer}");
        assert!(cost["total_us"].as_u64() >= cost["paused_us"].as_u64(), "{answer}");
        let forks = answer["forks"].as_array().unwrap();
        println!(
            "fork | {:?} | {:?} | {} | {} forks | paused {} us | total {} us",
            self.layout,
            self.containerd.version,
            cost["method"].as_str().unwrap(),
            forks.len(),
            cost["paused_us"],
            cost["total_us"],
        );
        let names = forks.iter().map(|fork| {
            assert_eq!(fork["error"], serde_json::Value::Null, "{answer}");
            fork["container"].as_str().unwrap().to_owned()
        });
        names.collect()
    }

    /// All that a request can leave behind: containers, snapshots, leases, layers, subvolumes, and what is
    /// not reclaimed yet.
    pub fn inventory(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut add = |what: &str, each: Vec<String>| {
            found.extend(each.into_iter().map(|each| format!("{what}: {each}")));
        };
        let paths = |found: Vec<std::path::PathBuf>| {
            found.into_iter().map(|path| path.display().to_string()).collect()
        };
        add("container", self.containerd.containers());
        // A view in which nerdctl looks at an image goes whenever containerd collects it.
        let views = |key: &String| !key.starts_with("/tmp/initialC");
        add("snapshot", self.containerd.snapshots("loom").into_iter().filter(views).collect());
        let kept = self.loom_json(&["ls"]);
        add("kept", kept.as_array().unwrap().iter().map(|row| row["id"].to_string()).collect());
        add("lease", self.containerd.leases());
        add("layer", paths(self.place.layers()));
        add("trash", paths(self.place.trash()));
        add("subvolume", self.place.subvolumes());
        found.sort();
        found
    }

    /// Lets containerd's collector look at loom's snapshots: it looks where something was removed.
    pub fn collect(&self) {
        self.pass();
        self.containerd.collect();
    }

    fn pass(&self) {
        self.containerd.api().pass("loom", "passing", "").expect("a snapshot is made and removed");
    }

    /// Waits until there is what there was, and nothing else. What was removed goes a little later.
    ///
    /// # Panics
    /// With what is more or less.
    pub fn wait_until_again(&self, before: &[String], after: &str) {
        // Where loomd was away, containerd's collector has given up, and looks again after a removal.
        self.pass();
        wait_until_none(&format!("differences after {after}"), || {
            self.containerd.collect();
            let now = self.inventory();
            let more = now.iter().filter(|each| !before.contains(each)).map(|each| format!("more: {each}"));
            let less = before
                .iter()
                .filter(|each| !now.contains(each) && !each.starts_with("trash"))
                .map(|each| format!("less: {each}"));
            more.chain(less).collect()
        });
    }

    /// Removes all containers and the image, and waits until nothing is left.
    ///
    /// # Panics
    /// With what stays.
    pub fn end(&self, image: &str) {
        self.containerd.remove_all();
        self.containerd.ctr(&["images", "rm", "--sync", image]);
        self.wait_until_empty();
    }

    /// loomd's sockets.
    pub fn doors(&self) -> Doors {
        Doors::new(self.loomd.socket(), self.loomd.ttrpc_socket())
    }

    /// Waits until what `loom ls` shows and what lies on disk are the same, where nothing was branched.
    ///
    /// # Panics
    /// With what differs.
    pub fn wait_until_agreed(&self) {
        wait_until_none("differences", || {
            let rows = self.loom_json(&["ls", "--all"]);
            let standing = rows.as_array().unwrap().iter().filter(|row| !row["home"].is_null()).count();
            let (layers, status) = (self.place.layers(), self.loom_json(&["status"]));
            let mut found: Vec<_> =
                self.place.trash().iter().map(|path| path.display().to_string()).collect();
            if layers.len() != standing || status["layers"] != standing {
                found.push(format!("{standing} snapshots, {layers:?}, {status}"));
            }
            found
        });
    }

    /// Waits until neither loom nor containerd keeps anything: no snapshot, no layer, no subvolume,
    /// no trash, no lease, no mount of a layer.
    ///
    /// # Panics
    /// With what stays.
    pub fn wait_until_empty(&self) {
        wait_until_none("snapshots, layers, leases or mounts", || {
            self.containerd.collect();
            let mut left = Vec::new();
            let mut add = |what: &str, found: Vec<String>| {
                left.extend(found.into_iter().map(|each| format!("{what}: {each}")));
            };
            let paths = |found: Vec<std::path::PathBuf>| {
                found.into_iter().map(|path| path.display().to_string()).collect()
            };
            add("snapshot", self.containerd.snapshots(&self.containerd.snapshotter));
            add("layer", paths(self.place.layers()));
            add("trash", paths(self.place.trash()));
            add("subvolume", self.place.subvolumes());
            add("lease", self.containerd.leases());
            for dir in [Some(&self.place.root), self.place.pool.as_ref()].into_iter().flatten() {
                let mounts = mount_lines("self", &dir.join("layers"));
                add("mount", mounts.into_iter().map(|(_, line)| line).collect());
            }
            left
        });
    }
}

/// Makes tests of a function that takes a [`Stage`]: on every layout with Debian's containerd, and with
/// a pool also with the current one.
macro_rules! on_every_stage {
    ($($scenario:ident),+ $(,)?) => { $(
        mod $scenario {
            use super::support::{containerd::Version, layout::Layout, stage::Stage};

            #[test]
            fn on_ext4() {
                super::$scenario(Stage::new(Layout::Ext4, Version::Debian));
            }

            #[test]
            fn on_xfs() {
                super::$scenario(Stage::new(Layout::Xfs, Version::Debian));
            }

            #[test]
            fn on_btrfs() {
                super::$scenario(Stage::new(Layout::Btrfs, Version::Debian));
            }

            #[test]
            fn with_a_pool() {
                super::$scenario(Stage::new(Layout::Ext4Pool, Version::Debian));
            }

            #[test]
            fn with_a_pool_and_the_current_containerd() {
                super::$scenario(Stage::new(Layout::Ext4Pool, Version::Current));
            }
        }
    )+ };
}
pub(crate) use on_every_stage;

/// Makes tests of functions that take a [`Stage`], each on the stage that is named.
macro_rules! on_stages {
    ($($name:ident: $scenario:ident($layout:ident, $version:ident);)+) => { $(
        #[test]
        fn $name() {
            $scenario(Stage::new(Layout::$layout, Version::$version));
        }
    )+ };
}
pub(crate) use on_stages;
