//! `loom diff` tells what an independent walk of the two mounted trees finds, of hundreds of random trees, in the
//! order of their paths, and soon where little differs between large trees.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use loom_snapshotter::protos::{admin, admin_ttrpc::AdminClient};
use protobuf::MessageField;
use ttrpc::context::Context;

use support::changes::{Changes, Random};
use support::containerd::Version;
use support::difference::{Told, expected};
use support::doors::{Answer, Doors, Refusal};
use support::image::small;
use support::layout::Layout;
use support::process::run;
use support::stage::{Stage, on_stages};
use support::tree::Tree;

const FORK_OF: &str = "containerd.io/snapshot/loom.fork-of";
/// Of how many trees the changes are told, plain ones and pool ones.
const TREES: usize = 200;

on_stages! {
    random_trees_on_ext4: random_trees(Ext4, Debian);
    random_trees_on_xfs: random_trees(Xfs, Debian);
    random_trees_with_a_pool: random_trees(Ext4Pool, Current);
    containers_on_xfs: containers(Xfs, Debian);
    containers_with_a_pool: containers(Ext4Pool, Current);
    live_on_xfs: live(Xfs, Debian);
    live_with_a_pool: live(Ext4Pool, Current);
    little_in_much_on_ext4: little_in_much(Ext4, Debian);
    little_in_much_with_a_pool: little_in_much(Ext4Pool, Current);
}

/// The way to loomd, and what the trees of its snapshots are.
struct House<'a> {
    stage: &'a Stage,
    doors: Doors,
    /// Each key has a number of its own.
    last: Cell<usize>,
}

/// A state that stays as it is, and the tree that a walk of its mount has found.
struct State {
    key: String,
    /// What an active snapshot on it has as its parent.
    parent: String,
    tree: Tree,
}

impl<'a> House<'a> {
    fn new(stage: &'a Stage) -> House<'a> {
        House { stage, doors: stage.doors(), last: Cell::new(0) }
    }

    fn key(&self, name: &str) -> String {
        self.last.set(self.last.get() + 1);
        format!("default/{}/{name}", self.last.get())
    }

    /// Mounts an active snapshot.
    fn mount(&self, key: &str) -> Mounted {
        let place = self.stage.scratch.dir("trees").join(key.replace('/', "-"));
        fs::create_dir_all(&place).unwrap();
        for mount in self.doors.mounts(key).unwrap() {
            let options = match mount.r#type.as_str() {
                "bind" => "bind".to_owned(),
                _ => mount.options.join(","),
            };
            run("mount", &["-t", &mount.r#type, &mount.source, place.to_str().unwrap(), "-o", &options]);
        }
        Mounted(place)
    }

    /// An image layer of random changes on a parent.
    fn image(&self, name: &str, parent: &str, changes: &mut Changes, count: usize) -> State {
        let (work, key) = (self.key(&format!("extract-{name}")), self.key(name));
        self.doors.prepare(&work, parent, &[]).unwrap();
        let mounted = self.mount(&work);
        changes.make(&mounted.0, count);
        let tree = Tree::read(&mounted.0);
        drop(mounted);
        self.doors.commit(&key, &work, &[]).unwrap();
        State { parent: key.clone(), key, tree }
    }

    /// What loom tells.
    fn diff(&self, from: &str, to: &str, patch: bool) -> Answer<Vec<admin::Change>> {
        let request = admin::DiffRequest {
            containerd: MessageField::some(admin::Containerd {
                namespace: self.stage.containerd.namespace.clone(),
                ..Default::default()
            }),
            from: from.to_owned(),
            to: to.to_owned(),
            patch,
            ..Default::default()
        };
        self.doors.run(async {
            let client = AdminClient::new(self.doors.ttrpc().await);
            let mut stream = client.diff(Context::default(), &request).await.map_err(Refusal::from)?;
            let mut told = Vec::new();
            while let Some(some) = stream.recv().await.map_err(Refusal::from)? {
                told.extend(some.changes);
            }
            Ok(told)
        })
    }

    /// # Panics
    /// Where it tells anything else than the walks have found.
    fn check(&self, what: &str, from: &str, to: &str, before: &Tree, after: &Tree, changes: &Changes) {
        let told = self.diff(from, to, false).unwrap_or_else(|refusal| {
            panic!("{what}: {from} to {to}: {}\n{}", refusal.message, changes.last.join("\n"))
        });
        let told: Vec<Told> = told.into_iter().map(Told::from).collect();
        let wanted = expected(before, after);
        if told == wanted {
            return;
        }
        let missing =
            wanted.iter().filter(|each| !told.contains(each)).map(|each| format!("missing {each:?}"));
        let more = told.iter().filter(|each| !wanted.contains(each)).map(|each| format!("more    {each:?}"));
        let mut wrong: Vec<String> = missing.chain(more).collect();
        if wrong.is_empty() {
            wrong.push(format!("the order is another one, or something is told twice:\n{told:#?}"));
        }
        panic!("{what}: {from} to {to}:\n{}\nafter:\n{}", wrong.join("\n"), changes.last.join("\n"));
    }
}

/// A mount that ends with it.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            run("umount", &[&self.0]);
        }
    }
}

/// Generations of random trees, each made of one before it, are compared with that, with what it was made of, and
/// with others; mounted and not, committed and live.
fn random_trees(stage: Stage) {
    let mut changes = Changes::new(Random::seeded(&format!("{:?}", stage.layout)));
    let house = House::new(&stage);
    let forks_live = stage.layout != Layout::Ext4; // There every byte of a live one would be copied.
    let mut states = Vec::new();
    for name in ["other", "one"] {
        let state = house.image(name, "", &mut changes, 150);
        house.check("a first layer", &state.key, "", &Tree::default(), &state.tree, &changes);
        states.push(state);
    }
    for name in ["two", "three"] {
        let below = states.last().unwrap();
        let state = house.image(name, &below.key, &mut changes, 60);
        house.check("an image", &state.key, "", &below.tree, &state.tree, &changes);
        states.push(state);
    }
    let trees = if stage.layout == Layout::Ext4Pool { TREES } else { TREES / 2 };
    let began = Instant::now();
    for number in 0..trees {
        // Rather a late one: so generations come to be.
        let from = states.len() - 1 - changes.random.below(states.len().min(6));
        let from = if changes.random.chance(80) { from } else { changes.random.below(states.len()) };
        let state = &states[from];
        let key = house.key(&format!("tree-{number}"));
        house.doors.prepare(&key, &state.parent, &[]).unwrap();
        let mounted = house.mount(&key);
        let count = 1 + changes.random.below(40);
        changes.make(&mounted.0, count);
        let tree = Tree::read(&mounted.0);
        let mounted = changes.random.chance(50).then_some(mounted);
        house.check("since its parent", &state.key, &key, &state.tree, &tree, &changes);
        match number % 3 {
            0 => house.check("since it was made", &key, "", &state.tree, &tree, &changes),
            1 => house.check("back", &key, &state.key, &tree, &state.tree, &changes),
            _ => {
                let any = &states[changes.random.below(states.len())];
                house.check("since any", &any.key, &key, &any.tree, &tree, &changes);
            }
        }
        if forks_live && changes.random.chance(30) {
            let fork = house.key(&format!("fork-{number}"));
            let name = key.splitn(3, '/').last().unwrap();
            house.doors.prepare(&fork, &state.parent, &[(FORK_OF, name)]).unwrap();
            let mounted = house.mount(&fork);
            changes.make(&mounted.0, 12);
            let forked = Tree::read(&mounted.0);
            house.check("since it was forked", &key, &fork, &tree, &forked, &changes);
            house.check("a fork since its image", &fork, "", &state.tree, &forked, &changes);
            drop(mounted);
            house.doors.remove(&fork).unwrap();
        }
        if changes.random.chance(25) {
            // A state is kept, and the tree goes on.
            let name = format!("kept-{number}");
            stage.loom(&["snapshot", &format!("snapshot:{key}"), "--name", &name]);
            let mounted = mounted.unwrap_or_else(|| house.mount(&key));
            changes.make(&mounted.0, 12);
            let now = Tree::read(&mounted.0);
            house.check("since it was kept", &name, &key, &tree, &now, &changes);
            house.check("a kept one", &name, "", &state.tree, &tree, &changes);
            house.check("on behind a kept one", &state.key, &key, &state.tree, &now, &changes);
            drop(mounted);
            house.doors.remove(&key).unwrap();
            house.check("a kept one alone", &name, &state.key, &tree, &state.tree, &changes);
            stage.loom(&["rm", &name]);
            continue;
        }
        drop(mounted);
        if changes.random.chance(50) {
            let committed = house.key(&format!("state-{number}"));
            house.doors.commit(&committed, &key, &[]).unwrap();
            house.check("committed", &state.key, &committed, &state.tree, &tree, &changes);
            states.push(State { parent: committed.clone(), key: committed, tree });
        } else {
            house.doors.remove(&key).unwrap();
        }
    }
    println!("diff | {:?} | {trees} random trees | {:?}", stage.layout, began.elapsed());
    changes.assert_all_done();
}

/// Forks of forks, a rollback and a promotion: what each is compared with, and that it is told rightly.
fn containers(stage: Stage) {
    let mut changes = Changes::new(Random::seeded(&format!("containers on {:?}", stage.layout)));
    let house = House::new(&stage);
    let (loom, ctr) = (|args: &[&str]| stage.loom_json(args), &stage.containerd);
    let image = stage.import(&small());
    ctr.ctr(&["containers", "create", "--snapshotter", "loom", &image, "web", "sleep", "100000"]);
    let changed = |name: &str, changes: &mut Changes, count| {
        let place = Mounted(stage.scratch.dir(name));
        ctr.mount("loom", name, &place.0);
        changes.make(&place.0, count);
        Tree::read(&place.0)
    };
    let began = changed("web", &mut changes, 0);
    let early = changed("web", &mut changes, 60);
    house.check("since its image", "web", "", &began, &early, &changes);
    house.check("its image and it", &format!("image:{image}"), "web", &began, &early, &changes);
    loom(&["snapshot", "web", "--name", "early"]);
    let web = changed("web", &mut changes, 30);
    house.check("still since its image", "web", "", &began, &web, &changes);
    house.check("since a snapshot of it", "early", "container:web", &early, &web, &changes);
    house.check("a snapshot since its image", "early", "", &began, &early, &changes);

    // Generations, each with what it has changed itself.
    loom(&["fork", "web", "--name", "one", "--no-start"]);
    let one = changed("one", &mut changes, 30);
    house.check("a fork and its source", "web", "one", &web, &one, &changes);
    house.check("a fork since the image", "one", "", &began, &one, &changes);
    loom(&["fork", "one", "--name", "two", "--no-start"]);
    let two = changed("two", &mut changes, 30);
    house.check("a fork of a fork", "one", "two", &one, &two, &changes);
    house.check("a fork of a fork and the first", "two", "early", &two, &early, &changes);
    loom(&["clone", "early", "--name", "copy", "--no-start"]);
    let copy = changed("copy", &mut changes, 30);
    house.check("a clone since its snapshot", "copy", "", &early, &copy, &changes);
    house.check("cousins", "two", "copy", &two, &copy, &changes);

    loom(&["promote", "two", "--name", "before"]);
    house.check("what was promoted", "two", "one", &two, &two, &changes);
    house.check("what was before it", "before", "one", &one, &two, &changes);
    loom(&["rollback", "web", "early", "--name", "away"]);
    house.check("rolled back", "web", "", &early, &early, &changes);
    let web_now = changed("web", &mut changes, 30);
    house.check("since it was rolled back", "web", "", &early, &web_now, &changes);
    house.check("and where it was away from", "away", "web", &web, &web_now, &changes);

    house.diff("web", "none", false).unwrap_err().assert(5, &["none"]);
    house.diff("none", "", false).unwrap_err().assert(5, &["none"]);
    for key in ["copy", "two", "one", "web"] {
        ctr.ctr(&["containers", "rm", key]);
    }
    for name in ["early", "before", "away"] {
        stage.loom(&["rm", name]);
    }
    stage.end(&image);
}

/// While a container goes on writing, what differs is told without an error, and what nobody touches never is.
fn live(stage: Stage) {
    let mut changes = Changes::new(Random::seeded(&format!("live on {:?}", stage.layout)));
    let house = House::new(&stage);
    let image = house.image("image", "", &mut changes, 100);
    let key = house.key("live");
    house.doors.prepare(&key, &image.key, &[]).unwrap();
    let mounted = house.mount(&key);
    for dir in ["busy", "still"] {
        fs::create_dir_all(mounted.0.join(dir)).unwrap();
        changes.make(&mounted.0.join(dir), 100);
    }
    stage.loom(&["snapshot", &format!("snapshot:{key}"), "--name", "kept"]);
    let kept = Tree::read(&mounted.0);
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                changes.make(&mounted.0.join("busy"), 10);
            }
        });
        let looks = || {
            for _ in 0..30 {
                let told = house.diff("kept", &key, true).map_err(|refusal| refusal.message)?;
                let paths: Vec<PathBuf> = told.iter().map(|change| change.path.clone().into()).collect();
                if let Some(other) = paths.iter().find(|path| !path.starts_with("busy")) {
                    return Err(format!("nobody has touched {}", other.display()));
                }
            }
            Ok(())
        };
        let looked = looks();
        end.store(true, Ordering::Relaxed);
        assert_eq!(looked, Ok::<_, String>(()));
    });
    let now = Tree::read(&mounted.0);
    house.check("at last", "kept", &key, &kept, &now, &changes);
}

/// Ten changes in a tree of 100,000 files.
fn little_in_much(stage: Stage) {
    const FILES: usize = 100_000;
    let house = House::new(&stage);
    let (work, much, few) = (house.key("work"), house.key("much"), house.key("few"));
    house.doors.prepare(&work, "", &[]).unwrap();
    let mounted = house.mount(&work);
    for number in 0..FILES {
        let dir = mounted.0.join(format!("dir-{}", number / 100));
        if number % 100 == 0 {
            fs::create_dir(&dir).unwrap();
        }
        fs::write(dir.join(format!("{number}")), format!("file {number}\n")).unwrap();
    }
    drop(mounted);
    house.doors.commit(&much, &work, &[]).unwrap();
    house.doors.prepare(&few, &much, &[]).unwrap();
    let mounted = house.mount(&few);
    let path = |number: usize| mounted.0.join(format!("dir-{}/{number}", number / 100));
    for number in (0..FILES).step_by(FILES / 10) {
        match number % 3 {
            0 => fs::write(path(number), "other\n").unwrap(),
            1 => fs::remove_file(path(number)).unwrap(),
            _ => fs::write(path(number).with_extension("new"), "new\n").unwrap(),
        }
    }
    let began = Instant::now();
    let told = house.diff(&much, &few, true).unwrap();
    let took = began.elapsed();
    println!("diff | {:?} | 10 changes in {FILES} files | {took:?}", stage.layout);
    assert_eq!(told.len(), 10, "{told:#?}");
    assert!(told.iter().all(|change| !change.patch.is_empty()), "{told:#?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_patch_makes_one_tree_of_the_other() {
    let stage = Stage::new(Layout::Ext4Pool, Version::Current);
    let house = House::new(&stage);
    let mut changes = Changes::new(Random::seeded("patches"));
    let image = house.image("texts", "", &mut changes, 0);
    let key = house.key("tree");
    house.doors.prepare(&key, &image.key, &[]).unwrap();
    let mounted = house.mount(&key);
    let at = |name: &str| mounted.0.join(name);
    fs::create_dir(at("dir")).unwrap();
    let lines = |words: &[&str]| words.iter().map(|word| format!("{word}\n")).collect::<String>();
    fs::write(at("dir/changed"), lines(&["a", "b", "c"])).unwrap();
    fs::write(at("gone with space"), lines(&["a"])).unwrap();
    fs::write(at("mode"), lines(&["a"])).unwrap();
    fs::write(at("large"), "a\n".repeat(600_000)).unwrap();
    fs::write(at("binary"), [0, 1]).unwrap();
    fs::write(at("file"), "no end").unwrap();
    drop(mounted);
    let before = house.key("before");
    house.doors.commit(&before, &key, &[]).unwrap();
    let after = house.key("after");
    house.doors.prepare(&after, &before, &[]).unwrap();
    let mounted = house.mount(&after);
    let at = |name: &str| mounted.0.join(name);
    fs::write(at("dir/changed"), lines(&["a", "x", "c"])).unwrap();
    fs::write(at("dir/new\nline"), lines(&["a"])).unwrap();
    fs::remove_file(at("gone with space")).unwrap();
    fs::set_permissions(at("mode"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(at("large"), "b\n".repeat(600_000)).unwrap();
    fs::write(at("binary"), [0, 2]).unwrap();
    fs::remove_file(at("file")).unwrap();
    std::os::unix::fs::symlink("dir", at("file")).unwrap();
    let told = house.diff(&before, &after, true).unwrap();
    let patches: Vec<(&str, &str)> =
        told.iter().map(|change| (change.path.as_str(), change.patch.as_str())).collect();
    let wanted = [
        ("binary", ""),
        ("dir/changed", "--- a/dir/changed\n+++ b/dir/changed\n@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n"),
        ("dir/new\nline", "--- /dev/null\n+++ \"b/dir/new\\nline\"\n@@ -0,0 +1 @@\n+a\n"),
        ("file", "--- a/file\n+++ /dev/null\n@@ -1 +0,0 @@\n-no end\n\\ No newline at end of file\n"),
        ("gone with space", "--- a/gone with space\t\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n"),
        ("large", ""),
        ("mode", ""),
    ];
    assert_eq!(patches, wanted);
    let none = house.diff(&before, &after, false).unwrap();
    assert!(none.len() == wanted.len() && none.iter().all(|change| change.patch.is_empty()));
    let view = house.key("view");
    house.doors.view(&view, &before).unwrap();
    house.diff(&view, "", false).unwrap_err().assert(9, &["a view", "compare its parent"]);
}
