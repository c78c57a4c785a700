//! An agent's session, from its first build to the end: ten continuations of one container are tried, built
//! and tested, the best becomes the container's own, and all goes again. Beside it, the same with what there is
//! without loom: `nerdctl commit` and `nerdctl run`, on overlayfs.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::time::{Duration, Instant};

use serde_json::Value;

use support::containerd::Version;
use support::image::workshop;
use support::layout::Layout;
use support::process::{finish, succeed};
use support::stage::{Stage, on_stages};
use support::wait::wait_until_none;

/// A checkout and a first build: a hash that is to be made better, and parts that are to be compiled once.
const SETUP: &str = r#"
set -e
mkdir /work && cd /work
for i in $(seq 60); do echo "int part_$i(int x) { return x * $i + 1; }" >part_$i.c; done
cat >hash.c <<'C'
unsigned hash(const char *text) {
    unsigned h = 0;
    while (*text) h = h * 2 + (unsigned char)*text++;
    return h;
}
C
cat >test.c <<'C'
#include <stdio.h>
unsigned hash(const char *);
int main(void) {
    static unsigned char taken[4096];
    char key[32];
    int clashes = 0;
    for (int i = 0; i < 2000; i++) {
        sprintf(key, "key-%d", i * 7919);
        unsigned at = hash(key) % 4096;
        clashes += taken[at];
        taken[at] = 1;
    }
    printf("%d\n", clashes);
    return clashes > 1900;
}
C
cat >Makefile <<'M'
objects = $(patsubst %.c,%.o,$(wildcard *.c))
program: $(objects)
	gcc -o $@ $^
%.o: %.c
	gcc -O2 -Wall -Werror -c $<
.PHONY: test
test: program
	@./program
M
echo '*.o
program' >.gitignore
git init -q
git config user.name agent
git config user.email agent@localhost
git add .
git commit -qm start
make -s -j2 program
"#;

/// What is put in the place of the factor 2. The last two are what an agent tries too: one does not compile,
/// the other fails its test.
const EDITS: [&str; 10] = ["3", "5", "17", "31", "33", "65", "257", "65599", "*2", "0"];

/// Edits, builds and tests; prints the number of clashes.
fn attempt(edit: &str) -> String {
    format!(
        "cd /work && sed -i 's/h \\* 2 /h * {edit} /' hash.c && make -s test && git commit -qam 'h * {edit}'"
    )
}

/// A way to branch.
struct Way<'a> {
    stage: &'a Stage,
    snapshotter: &'a str,
}

impl Way<'_> {
    fn nerdctl(&self, args: &[&str]) -> String {
        succeed(&mut self.stage.containerd.nerdctl_command(self.snapshotter, args))
    }

    /// Runs what heeds a stop, as an agent's container would.
    fn run(&self, name: &str, image: &str) {
        let idle = "trap exit TERM; sleep 100000 & wait";
        self.nerdctl(&["run", "-d", "--net=none", "--name", name, image, "bash", "-c", idle]);
    }

    /// Tries each edit in a container of its own; how many clashes each came to, where it built and passed.
    fn attempts(&self) -> Vec<Option<u32>> {
        let tries = EDITS.iter().enumerate().map(|(at, edit)| {
            let name = format!("try-{}", at + 1);
            let exec = ["exec", &name, "bash", "-c", &attempt(edit)];
            let output = finish(&mut self.stage.containerd.nerdctl_command(self.snapshotter, &exec));
            let passed = output.status.success().then(|| String::from_utf8(output.stdout).unwrap());
            passed.map(|clashes| clashes.trim().parse().expect(&clashes))
        });
        tries.collect()
    }

    fn log(&self, container: &str) -> String {
        self.nerdctl(&["exec", container, "git", "-C", "/work", "log", "--format=%s"])
    }

    fn remove_all(&self) {
        let ids = self.nerdctl(&["ps", "-aq"]);
        self.nerdctl(&[&["rm", "-f"], &ids.lines().collect::<Vec<_>>()[..]].concat());
    }
}

/// The best attempt: its number and its clashes.
fn best(clashes: &[Option<u32>]) -> (usize, u32) {
    let passed = clashes.iter().enumerate().filter_map(|(at, clashes)| Some((at + 1, (*clashes)?)));
    passed.min_by_key(|(_, clashes)| *clashes).unwrap()
}

/// How long a session took, and what it found.
struct Session {
    all: Duration,
    branching: Duration,
    clashes: Vec<Option<u32>>,
}

fn with_loom(stage: &Stage, image: &str) -> Session {
    let way = Way { stage, snapshotter: "loom" };
    way.run("agent", image);
    way.nerdctl(&["exec", "agent", "bash", "-c", SETUP]);

    let begun = Instant::now();
    let count = EDITS.len().to_string();
    let answer = stage.loom_json(&["fork", "agent", "--name", "try", "--count", &count]);
    let forked = begun.elapsed();
    let forks = answer["forks"].as_array().unwrap();
    assert!(forks.len() == EDITS.len() && forks.iter().all(|fork| fork["error"].is_null()), "{answer}");
    let clashes = way.attempts();
    let (number, least) = best(&clashes);
    let name = format!("try-{number}");
    assert_eq!(way.log("agent"), "start", "nobody wrote to the source");
    let promoting = Instant::now();
    let promoted = stage.loom_json(&["promote", &name, "--if-unchanged", "--name", "before"]);
    let branching = forked + promoting.elapsed();
    let tree = stage.loom(&["tree"]);
    let all = begun.elapsed();

    println!("{tree}");
    let names = forks.iter().chain([&promoted["container"]]).map(|each| each["name"].as_str().unwrap());
    for wanted in names.chain(["before"]) {
        assert!(tree.contains(wanted), "{wanted} is not in\n{tree}");
    }
    assert_eq!(promoted["container"]["name"], "agent", "{promoted}");
    assert_eq!(promoted["container"]["kept_name"], "before", "{promoted}");
    assert_eq!(way.log("agent"), format!("h * {}\nstart", EDITS[number - 1]));
    assert_eq!(way.log(&name), way.log("agent"), "the fork stays");
    let tested = way.nerdctl(&["exec", "agent", "make", "-s", "-C", "/work", "test"]);
    assert_eq!(tested, least.to_string(), "it is built, and passes");
    let work = |name: &str| way.nerdctl(&["exec", name, "git", "-C", "/work", "status", "--porcelain"]);
    assert_eq!((work("agent"), work(&name)), (String::new(), String::new()));

    way.remove_all();
    stage.loom_json(&["prune", "--all"]);
    Session { all, branching, clashes }
}

/// The same, where a state is an image.
fn with_commits(stage: &Stage, image: &str) -> (Session, Duration) {
    let way = Way { stage, snapshotter: "overlayfs" };
    way.run("agent", image);
    way.nerdctl(&["exec", "agent", "bash", "-c", SETUP]);

    let begun = Instant::now();
    let mut spent = Duration::ZERO;
    for number in 1..=EDITS.len() {
        let saved = format!("loom.test/state:{number}");
        let commit = Instant::now();
        way.nerdctl(&["commit", "agent", &saved]);
        spent += commit.elapsed();
        way.run(&format!("try-{number}"), &saved);
    }
    let ran = begun.elapsed();
    let clashes = way.attempts();
    let (number, least) = best(&clashes);
    let promoting = Instant::now();
    way.nerdctl(&["commit", &format!("try-{number}"), "loom.test/state:best"]);
    way.nerdctl(&["rm", "-f", "agent"]);
    way.run("agent", "loom.test/state:best");
    let branching = ran + promoting.elapsed();
    let all = begun.elapsed();
    let tested = way.nerdctl(&["exec", "agent", "make", "-s", "-C", "/work", "test"]);
    assert_eq!(tested, least.to_string());

    way.remove_all();
    for state in (1..=EDITS.len()).map(|number| number.to_string()).chain(["best".into()]) {
        way.nerdctl(&["rmi", "-f", &format!("loom.test/state:{state}")]);
    }
    (Session { all, branching, clashes }, spent)
}

fn session(stage: Stage) {
    let image = stage.import(&workshop());
    stage.containerd.import("overlayfs", &workshop().archive);
    let loom = with_loom(&stage, &image);
    let (stock, spent) = with_commits(&stage, &image);
    assert_eq!(loom.clashes, stock.clashes, "the same edits come to the same");
    let failed = loom.clashes.iter().filter(|clashes| clashes.is_none()).count();
    assert_eq!(failed, 2, "{:?}", loom.clashes);

    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    println!(
        "agent | {:?} | {:?} | loom {} (branching {}) | nerdctl commit and run {} (branching {}, of it {} commits {})",
        stage.layout,
        stage.containerd.version,
        seconds(loom.all),
        seconds(loom.branching),
        seconds(stock.all),
        seconds(stock.branching),
        EDITS.len(),
        seconds(spent),
    );
    stage.end(&image);
    assert_eq!(stage.loom_json(&["ls", "--all"]), Value::Array(Vec::new()));
    wait_until_none("snapshots on overlayfs", || {
        stage.containerd.collect();
        stage.containerd.snapshots("overlayfs")
    });
}

on_stages! {
    session_on_xfs: session(Xfs, Debian);
    session_with_a_pool_and_the_current_containerd: session(Ext4Pool, Current);
}
