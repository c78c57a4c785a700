//! What differs between two chains, beside a walk of both as the kernel mounts them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::fs::{AtFlags, FileType, RenameFlags, XattrFlags};

use super::*;

/// What a walk finds at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Thing {
    node: Node,
    device: u64,
    content: Vec<u8>,
    attributes: BTreeMap<OsString, Vec<u8>>,
    pub(super) modified: (i64, i64),
}

impl Thing {
    fn at(path: &Path) -> Option<Self> {
        let found = match std::fs::symlink_metadata(path) {
            // Overlay lists whiteouts of a directory that only one layer has.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
            found => found.unwrap(),
        };
        let kind = FileType::from_raw_mode(found.mode());
        let file = found.is_file();
        Some(Self {
            device: if found.file_type().is_char_device() || found.file_type().is_block_device() {
                found.rdev()
            } else {
                0
            },
            node: Node {
                kind,
                mode: found.mode() & 0o7777,
                uid: found.uid(),
                gid: found.gid(),
                size: if file { found.len() } else { 0 },
                target: found.is_symlink().then(|| std::fs::read_link(path).unwrap().into_os_string()),
            },
            content: if file { std::fs::read(path).unwrap() } else { Vec::new() },
            attributes: xattr::list(path)
                .unwrap()
                .map(|name| (name.clone(), xattr::get(path, name).unwrap().unwrap()))
                .collect(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }

    fn differs(&self, other: &Self) -> Vec<Aspect> {
        let (one, two) = (&self.node, &other.node);
        if one.kind != two.kind {
            return vec![Aspect::Type];
        }
        [
            (self.content != other.content, Aspect::Content),
            (one.mode != two.mode, Aspect::Mode),
            ((one.uid, one.gid) != (two.uid, two.gid), Aspect::Owner),
            (self.attributes != other.attributes, Aspect::Xattrs),
            (one.target != two.target, Aspect::Target),
            (self.device != other.device, Aspect::Device),
        ]
        .into_iter()
        .filter_map(|(differs, aspect)| differs.then_some(aspect))
        .collect()
    }
}

fn walk(root: &Path, path: &Path, things: &mut BTreeMap<PathBuf, Thing>) {
    let Some(thing) = Thing::at(&root.join(path)) else { return };
    let directory = thing.node.kind == FileType::Directory;
    things.insert(path.to_path_buf(), thing);
    if directory {
        for entry in std::fs::read_dir(root.join(path)).unwrap() {
            walk(root, &path.join(entry.unwrap().file_name()), things);
        }
    }
}

/// What the kernel shows of a chain.
pub(super) fn mounted(place: &Place, chain: &[Layer]) -> BTreeMap<PathBuf, Thing> {
    let mut things = BTreeMap::new();
    if chain.is_empty() {
        return things;
    }
    // With something empty below, a single layer is an overlay too.
    let (at, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let lowers = chain.iter().map(|layer| place.fs(layer)).chain([empty.path().to_path_buf()]);
    let lowers: Vec<_> = lowers.map(|lower| lower.to_string_lossy().into_owned()).collect();
    let options = format!("index=off,redirect_dir=off,metacopy=off,lowerdir={}", lowers.join(":"));
    sh(at.path(), &format!("mount -t overlay -o {options} overlay ."));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        walk(at.path(), Path::new(""), &mut things);
    }));
    // Lazily: a process that another test starts has our descriptors for a moment.
    sh(Path::new("/"), &format!("umount -l {}", at.path().display()));
    result.unwrap();
    things
}

fn wanted(before: &BTreeMap<PathBuf, Thing>, after: &BTreeMap<PathBuf, Thing>) -> Vec<Change> {
    let paths: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let mut changes = Vec::new();
    for path in paths {
        let (one, other) = (before.get(path), after.get(path));
        let (kind, differs) = match (one, other) {
            // An empty chain has no root.
            (None, _) | (_, None) if path.as_os_str().is_empty() => continue,
            (None, _) => (ChangeKind::Added, Vec::new()),
            (_, None) => (ChangeKind::Deleted, Vec::new()),
            (Some(one), Some(other)) => (ChangeKind::Modified, one.differs(other)),
        };
        if kind != ChangeKind::Modified || !differs.is_empty() {
            let node = |thing: Option<&Thing>| thing.map(|thing| thing.node.clone());
            changes.push(Change { path: path.clone(), kind, before: node(one), after: node(other), differs });
        }
    }
    changes
}

pub(super) fn told(place: &Place, before: &[Layer], after: &[Layer]) -> Vec<Change> {
    let mut changes = Vec::new();
    place
        .layers
        .compare(before, after, &mut |change| {
            changes.push(change);
            Ok(())
        })
        .unwrap();
    changes
}

/// In a line each: what became of a path, and in what it differs.
pub(super) fn lines(changes: &[Change]) -> Vec<String> {
    let line = |change: &Change| {
        let differs: Vec<_> = change.differs.iter().map(|aspect| format!("{aspect:?}")).collect();
        let line = format!("{:?} {} {}", change.kind, change.path.display(), differs.join(","));
        line.trim_end().to_owned()
    };
    changes.iter().map(line).collect()
}

/// That every two of the chains differ as they are mounted.
pub(super) fn check(place: &Place, chains: &[Vec<Layer>]) {
    let views: Vec<_> = chains.iter().map(|chain| mounted(place, chain)).collect();
    for (before, one) in chains.iter().zip(&views) {
        for (after, other) in chains.iter().zip(&views) {
            let (told, wanted) = (told(place, before, after), wanted(one, other));
            assert_eq!(lines(&told), lines(&wanted));
            assert_eq!(told, wanted);
        }
    }
}

/// A change of a tree.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Write(PathBuf, u8, usize),
    Directory(PathBuf),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
    Swap(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Symlink(PathBuf, u8),
    Node(PathBuf, FileType, u32),
    Mode(PathBuf, u32),
    Owner(PathBuf, u32),
    Attribute(PathBuf, u8),
    Old(PathBuf),
    /// What overlay writes.
    Whiteout(PathBuf),
    Opaque(PathBuf),
    Marked(PathBuf),
}

impl Step {
    /// Does it, where the tree lets it.
    fn run(&self, fs: &Path) -> Option<()> {
        let place = |path: &PathBuf| {
            std::fs::create_dir_all(fs.join(path.parent()?)).ok()?;
            std::fs::symlink_metadata(fs.join(path)).is_err().then(|| fs.join(path))
        };
        let there = |path: &PathBuf| {
            let path = fs.join(path);
            std::fs::symlink_metadata(&path).ok().map(|found| (path, found))
        };
        match self {
            Self::Write(path, byte, len) => {
                let path = match there(path) {
                    Some((path, found)) => found.is_file().then_some(path)?,
                    None => place(path)?,
                };
                std::fs::write(path, vec![*byte; *len]).ok()
            }
            Self::Directory(path) => std::fs::create_dir(place(path)?).ok(),
            Self::Remove(path) => {
                let (path, found) = there(path)?;
                if found.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.ok()
            }
            Self::Rename(from, to) => std::fs::rename(there(from)?.0, place(to)?).ok(),
            Self::Swap(one, other) => {
                let (one, other) = (there(one)?.0, there(other)?.0);
                rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).ok()
            }
            Self::Link(from, to) => std::fs::hard_link(there(from)?.0, place(to)?).ok(),
            Self::Symlink(path, to) => {
                std::os::unix::fs::symlink(format!("{}", char::from(*to)), place(path)?).ok()
            }
            Self::Node(path, kind, device) => {
                let device = rustix::fs::makedev(1, *device);
                rustix::fs::mknodat(CWD, place(path)?, *kind, Mode::from_raw_mode(0o600), device).ok()
            }
            Self::Mode(path, mode) => {
                let (path, found) = there(path)?;
                let mode = Mode::from_raw_mode(*mode);
                (!found.is_symlink()).then(|| rustix::fs::chmod(path, mode).ok())?
            }
            Self::Owner(path, id) => std::os::unix::fs::lchown(there(path)?.0, Some(*id), Some(7)).ok(),
            Self::Attribute(path, byte) => {
                xattr::set(there(path)?.0, format!("trusted.{}", byte % 3), &[*byte]).ok()
            }
            Self::Old(path) => {
                let old = rustix::fs::Timespec { tv_sec: 1, tv_nsec: 1 };
                let times = rustix::fs::Timestamps { last_access: old, last_modification: old };
                rustix::fs::utimensat(CWD, there(path)?.0, &times, AtFlags::SYMLINK_NOFOLLOW).ok()
            }
            Self::Whiteout(path) => {
                rustix::fs::mknodat(CWD, place(path)?, FileType::CharacterDevice, Mode::empty(), 0).ok()
            }
            Self::Opaque(path) => {
                let (path, found) = there(path)?;
                let value = if found.is_dir() { &b"y"[..] } else { return None };
                rustix::fs::lsetxattr(path, c"trusted.overlay.opaque", value, XattrFlags::empty()).ok()
            }
            Self::Marked(path) => {
                // Root, directory and file have to say so.
                let path = place(path)?;
                for marked in [fs, path.parent()?] {
                    let (name, flags) = (c"trusted.overlay.opaque", XattrFlags::CREATE);
                    rustix::fs::lsetxattr(marked, name, b"x", flags).ok();
                }
                std::fs::write(&path, "").ok()?;
                let name = c"trusted.overlay.whiteout";
                rustix::fs::lsetxattr(&path, name, b"y", XattrFlags::empty()).ok()
            }
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    // Few names, so that they meet; and such as sort differently as names and as bytes of a path.
    let name = prop::sample::select(vec!["a", "b", "a!", "c"]);
    let path =
        || prop::collection::vec(name.clone(), 1..4).prop_map(|names| names.iter().collect::<PathBuf>());
    let two = || (path(), path());
    let kinds = vec![FileType::CharacterDevice, FileType::BlockDevice, FileType::Fifo, FileType::Socket];
    let kind = prop::sample::select(kinds);
    prop_oneof![
        6 => (path(), 0..3_u8, prop::sample::select(vec![0, 1, 5, 5000, 300_000]))
            .prop_map(|(path, byte, len)| Step::Write(path, byte, len)),
        4 => path().prop_map(Step::Directory),
        4 => path().prop_map(Step::Remove),
        4 => two().prop_map(|(from, to)| Step::Rename(from, to)),
        2 => two().prop_map(|(one, other)| Step::Swap(one, other)),
        3 => two().prop_map(|(from, to)| Step::Link(from, to)),
        1 => (path(), b'a'..b'c').prop_map(|(path, to)| Step::Symlink(path, to)),
        1 => (path(), kind, 3..6_u32).prop_map(|(path, kind, n)| Step::Node(path, kind, n)),
        1 => (path(), prop::sample::select(vec![0o600, 0o755, 0o4711]))
            .prop_map(|(path, mode)| Step::Mode(path, mode)),
        1 => (path(), 0..3_u32).prop_map(|(path, id)| Step::Owner(path, id)),
        1 => (path(), any::<u8>()).prop_map(|(path, byte)| Step::Attribute(path, byte)),
        1 => path().prop_map(Step::Old),
        2 => path().prop_map(Step::Whiteout),
        2 => path().prop_map(Step::Opaque),
        1 => path().prop_map(Step::Marked),
    ]
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..25)
}

/// Does what the tree lets it do.
pub(super) fn change(place: &Place, layer: &Layer, steps: &[Step]) {
    for step in steps {
        let _ = step.run(&place.fs(layer));
    }
}

fn cases(cases: u32) -> TestRunner {
    let times = std::env::var("LOOM_TEST_CASES").map_or(1, |times| times.parse().unwrap());
    let cases = cases * times;
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

impl Place {
    /// Runs on a place that has been emptied again behind every case.
    /// `LOOM_TEST_CASES` times as many.
    pub(super) fn cases<S: Strategy>(&self, count: u32, strategy: &S, run: impl Fn(S::Value)) {
        let result = cases(count).run(strategy, |value| {
            run(value);
            for found in self.layers.found().unwrap() {
                self.layers.discard(found.home, found.id).unwrap();
            }
            // A mount namespace made meanwhile may have one of them still.
            self.layers.reclaim().unwrap();
            Ok(())
        });
        if let Err(e) = result {
            panic!("{e}");
        }
    }
}

#[test]
fn random_plain_chains_differ_as_their_mounts_do() {
    let place = Place::new("xfs", false);
    let layers = prop::collection::vec(steps(), 5);
    place.cases(24, &layers, |layers| {
        let all: Vec<Layer> = layers
            .iter()
            .map(|steps| {
                let layer = place.create(Home::Plain);
                change(&place, &layer, steps);
                layer
            })
            .collect();
        let chain = |which: &[usize]| which.iter().map(|n| all[*n].clone()).collect::<Vec<_>>();
        let chains = [&[][..], &[0], &[1, 0], &[2, 1, 0], &[3, 1, 0], &[3, 2, 0], &[4, 3, 2, 1, 0]];
        check(&place, &chains.map(chain));
    });
}

#[test]
fn random_generations_of_pool_layers_differ_as_their_mounts_do() {
    let place = Place::new("xfs", true);
    let base = (steps(), steps());
    // Each generation is a clone of one of those before, and may be sealed.
    let generations = prop::collection::vec((any::<usize>(), steps(), any::<bool>()), 5);
    place.cases(16, &(base, generations), |(base, generations)| {
        let made = |home, steps: &[Step]| {
            let layer = place.create(home);
            change(&place, &layer, steps);
            layer
        };
        let (base, other) = (made(Home::Plain, &base.0), made(Home::Plain, &base.1));
        let mut all: Vec<Layer> = Vec::new();
        for (source, steps, seal) in &generations {
            let new = match all.len() {
                0 => place.create(Home::Pool),
                n => place.clone_of(&all[source % n]),
            };
            change(&place, &new, steps);
            if *seal {
                place.layers.seal(&new, &manifest(new.id)).unwrap();
            }
            all.push(new);
        }
        // Not of one origin.
        all.push(made(Home::Pool, &generations[0].1));
        let mut chains: Vec<_> = all.iter().map(|top| vec![top.clone(), base.clone()]).collect();
        chains.push(vec![base.clone()]);
        chains.push(vec![all[1].clone(), other, base.clone()]);
        chains.push(vec![all[2].clone()]);
        chains.push(vec![all[3].clone()]);
        check(&place, &chains);
    });
}
