//! 2,000 generations, each forked from the last with one file changed: every file of every hundredth is right, and the
//! last costs no more than one of the first. containerd adds nothing to that, so that loomd is asked itself; writes and
//! reads go through mounts as containerd makes them.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use support::doors::Doors;
use support::layout::{Layout, Place};
use support::loomd::Loomd;
use support::scratch::Scratch;

const GENERATIONS: usize = 2_000;
/// Files of the first.
const FILES: usize = 100;
/// Of which every file is looked at.
const CHECKED: usize = 100;
/// A label on Prepare, and its value: what it continues from.
const FORK: &str = "containerd.io/snapshot/loom.fork-of";
/// How often what is compared is measured.
const ROUNDS: usize = 21;
/// A machine that others use is not judged by less.
const NOISE: Duration = Duration::from_millis(1);

/// The generations, and where they are.
struct Line {
    place: Place,
    doors: Doors,
    at: PathBuf,
    _loomd: Loomd,
    _scratch: Scratch,
}

impl Line {
    fn new(layout: Layout) -> Line {
        let scratch = Scratch::new();
        let place = layout.make(&scratch);
        let run = scratch.dir("run");
        let mut loomd = Loomd::new(&run, &place, &run.join("none.sock"));
        loomd.start();
        let doors = Doors::new(loomd.socket(), loomd.ttrpc_socket());
        let at = scratch.dir("at");
        Line { place, doors, at, _loomd: loomd, _scratch: scratch }
    }

    /// Shows `work` what a snapshot is.
    fn mounted<T: Send>(&self, key: &str, work: impl FnOnce(&Path) -> T + Send) -> T {
        let mount = self.doors.mounts(key).unwrap().remove(0);
        let layers = self.place.root.join("layers");
        let named = format!("{}/", layers.display());
        let cut = |option: &String| match option.strip_prefix("lowerdir=") {
            Some(lowers) => format!("lowerdir={}", lowers.replace(&named, "")),
            None => option.clone(),
        };
        let options: Vec<String> = mount.options.iter().map(cut).collect();
        // On a thread of its own, whose directory is not the others'.
        std::thread::scope(|scope| {
            let shown = scope.spawn(|| {
                unshare(CloneFlags::CLONE_FS).unwrap();
                std::env::set_current_dir(&layers).unwrap();
                let none = None::<&str>;
                if mount.r#type == "bind" {
                    nix::mount::mount(Some(mount.source.as_str()), &self.at, none, MsFlags::MS_BIND, none)
                } else {
                    let (kind, options) = (Some("overlay"), options.join(","));
                    assert!(options.len() < 4096, "{options}");
                    nix::mount::mount(kind, &self.at, kind, MsFlags::empty(), Some(options.as_str()))
                }
                .unwrap();
                let shown = work(&self.at);
                umount2(&self.at, MntFlags::empty()).unwrap();
                shown
            });
            shown.join().unwrap()
        })
    }

    /// Makes the first, and the base below it.
    fn begin(&self) -> BTreeMap<String, String> {
        // A key as an image's layer has it when it is unpacked.
        self.doors.prepare("extract-base", "", &[]).unwrap();
        let files: BTreeMap<_, _> =
            (0..FILES).map(|n| (format!("{}/{n}", n % 10), "of the base".to_owned())).collect();
        self.mounted("extract-base", |root| {
            for (name, text) in &files {
                fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
                fs::write(root.join(name), text).unwrap();
            }
        });
        self.doors.commit("base", "extract-base", &[]).unwrap();
        files
    }

    /// Makes a generation of the one before.
    fn generation(&self, n: usize, files: &mut BTreeMap<String, String>) {
        match n.checked_sub(1).map(key) {
            Some(last) => self.fork(&key(n), &last),
            None => self.doors.prepare(&key(n), "base", &[]).unwrap(),
        }
        // Another file each time, and now and then one goes.
        let name = format!("{}/{}", n * 7 % 10, n * 7 % FILES);
        let gone = n % 9 == 8 && files.remove(&name).is_some();
        self.mounted(&key(n), |root| {
            if gone { fs::remove_file(root.join(&name)) } else { fs::write(root.join(&name), key(n)) }
                .unwrap();
        });
        if !gone {
            files.insert(name, key(n));
        }
    }

    fn fork(&self, key: &str, of: &str) {
        self.doors.prepare(key, "base", &[(FORK, of)]).unwrap();
    }

    /// Every file of a generation.
    fn files(&self, n: usize) -> BTreeMap<String, String> {
        self.mounted(&key(n), |root| {
            let mut files = BTreeMap::new();
            for directory in fs::read_dir(root).unwrap().map(Result::unwrap) {
                for file in fs::read_dir(directory.path()).unwrap().map(Result::unwrap) {
                    let name = file.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                    files.insert(name, fs::read_to_string(file.path()).unwrap());
                }
            }
            files
        })
    }

    /// How long another fork of a generation takes, and the reading of a file that was there from the beginning.
    fn cost(&self, n: usize) -> [Duration; 2] {
        let begun = Instant::now();
        self.fork("next", &key(n));
        let fork = begun.elapsed();
        let read = self.mounted("next", |root| {
            let begun = Instant::now();
            let count =
                (0..10).map(|n| fs::read_dir(root.join(n.to_string())).unwrap().count()).sum::<usize>();
            assert!(count > FILES / 2);
            let read = fs::read_to_string(root.join("0/0")).map_or(0, |text| text.len());
            assert!(read < 100);
            begun.elapsed()
        });
        self.doors.remove("next").unwrap();
        [fork, read]
    }
}

fn key(n: usize) -> String {
    format!("g{n}")
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn generations(layout: Layout) {
    let line = Line::new(layout);
    let mut files = line.begin();
    let mut wanted = BTreeMap::new();
    let begun = Instant::now();
    for n in 0..=GENERATIONS {
        line.generation(n, &mut files);
        if n % CHECKED == 0 || n == 10 {
            wanted.insert(n, files.clone());
        }
    }
    println!("generations | {layout:?} | {GENERATIONS} made in {:.1} s", begun.elapsed().as_secs_f64());
    for (n, wanted) in &wanted {
        assert_eq!(line.files(*n), *wanted, "generation {n}");
    }
    let mut costs = [10, GENERATIONS].map(|n| (n, [Vec::new(), Vec::new()]));
    for _ in 0..ROUNDS {
        for (n, times) in &mut costs {
            for (times, time) in times.iter_mut().zip(line.cost(*n)) {
                times.push(time);
            }
        }
    }
    let [(_, early), (_, late)] = costs;
    for (what, (early, late)) in ["a fork", "reading"].iter().zip(early.into_iter().zip(late)) {
        let (early, late) = (median(early), median(late));
        println!("generations | {layout:?} | {what} of the 10th {early:?}, of the {GENERATIONS}th {late:?}");
        assert!(late <= early * 2 + NOISE, "{what}: {early:?}, {late:?}");
    }
}

#[test]
fn two_thousand_forks_with_a_pool() {
    generations(Layout::Ext4Pool);
}

#[test]
fn two_thousand_forks_without_a_pool() {
    generations(Layout::Ext4);
}
