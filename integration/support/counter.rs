//! A container that writes all the time, so that a state of it can be told from a mixture of two.
//!
//! It adds one to a number every few milliseconds, and writes it first to `a`, then to the end of `log`,
//! then to `b`. Each is one write(2) of a whole line, so at any one moment the files show the same number,
//! or the later ones one less. A process that starts on the files of another goes on from there.

use std::fs;
use std::path::{Path, PathBuf};

use super::stage::Stage;
use super::tree::{Tree, digest};
use super::wait::{wait_for, wait_until};

const SCRIPT: &str = r"
set -e
cd /root
if [ ! -e log ]; then
    mkdir steady
    dd if=/dev/urandom of=steady/random bs=1M count=8
    dd if=/dev/urandom of=steady/sparse bs=1M count=1 seek=8
    ln steady/random steady/link
    ln -s /nowhere steady/dangling
    for i in $(seq 100); do echo file $i >steady/$i; done
    chmod 4711 steady/1
    sha256sum steady/random steady/sparse steady/[0-9]* >sums
    mkfifo tick
    echo 0 >a
    echo 0 >b
    : >log
fi
n=$(wc -l <log)
{ cat a; echo $n; cat b; } >new
mv new found
cat /proc/sys/kernel/random/uuid >>lives
exec 9<>tick
while :; do
    n=$((n+1))
    printf '%020d\n' $n 1<>a
    printf '%d\n' $n >>log
    printf '%020d\n' $n 1<>b
    read -t 0.003 -u 9 nothing || :
done
";

/// What a counter changes, or what is mounted over.
const CHANGING: [&str; 11] = [
    "root/a",
    "root/b",
    "root/log",
    "root/new",
    "root/found",
    "root/lives",
    "root/tick",
    "proc",
    "sys",
    "dev",
    "run",
];

/// Starts a counter, and waits until it counts.
pub fn start(stage: &Stage, image: &str, name: &str, options: &[&str]) -> Counter {
    let run = [&["run", "-d", "--snapshotter", "loom"], options, &[image, name, "sh", "-c", SCRIPT]].concat();
    stage.containerd.ctr(&run);
    let counter = Counter::of(stage, name);
    counter.assert_advances();
    counter
}

/// A running counter, seen from outside.
#[derive(Clone, Debug)]
pub struct Counter {
    pub name: String,
    pub pid: u32,
}

impl Counter {
    /// A container that runs a counter.
    pub fn of(stage: &Stage, name: &str) -> Counter {
        Counter { name: name.to_owned(), pid: stage.containerd.pid_of(name) }
    }

    /// Its root.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.pid))
    }

    /// How far it is.
    pub fn count(&self) -> usize {
        fs::read_to_string(self.root().join("root/log")).map_or(0, |log| log.lines().count())
    }

    /// # Panics
    /// Where it does not count on.
    pub fn assert_advances(&self) {
        // Where it just started, the log may still be what its predecessor left.
        let begun = |lives: usize| lives_of(&self.root()).len() >= lives;
        wait_until("a counter to begin", || begun(1) && self.root().join("root/found").exists());
        let before = self.count();
        wait_until(&format!("{} to count on from {before}", self.name), || self.count() > before + 1);
    }

    /// What its process found when it started, where that is life number `lives`.
    ///
    /// # Panics
    /// Where that was not of one moment.
    pub fn found(&self, lives: usize) -> Moment {
        let life = || Some(lives_of(&self.root())).filter(|known| known.len() >= lives);
        let known = wait_for(&format!("{} to start", self.name), life);
        assert_eq!(known.len(), lives, "{} sees others' writes: {known:?}", self.name);
        let text = fs::read_to_string(self.root().join("root/found")).unwrap();
        let numbers: Vec<usize> = text.lines().map(|line| line.parse().expect(line)).collect();
        let [a, log, b] = numbers[..] else { panic!("{}: {text:?}", self.name) };
        let moment = Moment { a, log, b };
        moment.check(&self.name);
        moment
    }

    /// The ids of all processes that wrote to its files: its predecessors', then its own.
    pub fn lives(&self) -> Vec<String> {
        lives_of(&self.root())
    }

    /// All of its files that do not change.
    pub fn steady(&self) -> Tree {
        steady(&self.root())
    }

    /// # Panics
    /// Where a number is missing from its log, or twice in it: then somebody else wrote to it.
    pub fn assert_alone(&self) {
        numbers(&self.root());
    }
}

/// The numbers in a counter's three files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub a: usize,
    pub log: usize,
    pub b: usize,
}

impl Moment {
    /// Reads it where nothing runs, and all files that do not change with it.
    ///
    /// # Panics
    /// Where it is not one moment, or a file is cut off or not what its checksum says.
    pub fn read(root: &Path) -> (Moment, Tree) {
        let number = |name: &str| {
            let text = fs::read_to_string(root.join("root").join(name)).unwrap();
            assert!(text.ends_with('\n'), "{name} is cut off: {text:?}");
            text.trim().parse().expect(name)
        };
        let moment = Moment { a: number("a"), log: numbers(root), b: number("b") };
        moment.check(root.to_str().unwrap());
        let tree = steady(root);
        let sums = fs::read_to_string(root.join("root/sums")).unwrap();
        assert_eq!(sums.lines().count(), 102);
        for line in sums.lines() {
            let (sum, path) = line.split_once("  ").unwrap();
            assert_eq!(digest(&root.join("root").join(path)), sum, "{path} in {}", root.display());
        }
        (moment, tree)
    }

    fn check(self, whose: &str) {
        let Moment { a, log, b } = self;
        assert!(a >= log && log >= b && a - b <= 1, "{whose} is of several moments: {self:?}");
    }
}

/// The files below `root` that a counter does not change.
fn steady(root: &Path) -> Tree {
    let mut tree = Tree::read(root).without(&CHANGING);
    // The times of directories change with what is made in them: here by a counter, and in the root
    // by the runtime.
    for dir in ["", "root"] {
        tree.entries.get_mut(Path::new(dir)).unwrap().modified = (0, 0);
    }
    tree
}

fn lives_of(root: &Path) -> Vec<String> {
    let text = fs::read_to_string(root.join("root/lives")).unwrap_or_default();
    text.lines().map(ToOwned::to_owned).collect()
}

/// The last number in a log, which has all before it once.
fn numbers(root: &Path) -> usize {
    let log = fs::read_to_string(root.join("root/log")).unwrap();
    assert!(log.is_empty() || log.ends_with('\n'), "the log is cut off in {}", root.display());
    for (at, line) in log.lines().enumerate() {
        assert_eq!(line.parse(), Ok(at + 1), "in the log of {}", root.display());
    }
    log.lines().count()
}
