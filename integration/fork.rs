//! Containers are forked while they write: a fork is one moment of its source, and from then on a
//! container of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use support::counter::{self, Counter, Moment};
use support::image::small;
use support::process::run;
use support::stage::{Stage, on_every_stage};

on_every_stage!(consistent, generations, elsewhere);

const FORKS: usize = 8;

/// Each fork of a writing container is of one moment and whole; source and forks go on on their own.
fn consistent(stage: Stage) {
    let image = stage.import(&small());
    let source = counter::start(&stage, &image, "writer", &[]);
    let steady = source.steady();

    // Eight of one moment.
    let names = stage.fork(&["writer", "--name", "one", "--count", &FORKS.to_string()]);
    assert_eq!(names, (1..=FORKS).map(|n| format!("one-{n}")).collect::<Vec<_>>());
    let mut forks: Vec<Counter> = names.iter().map(|name| Counter::of(&stage, name)).collect();
    let moments: Vec<Moment> = forks.iter().map(|fork| fork.found(2)).collect();
    assert!(moments.iter().all(|moment| *moment == moments[0]), "{moments:?}");

    // Eight of a moment each, looked at before they run.
    let mut last = moments[0];
    for n in 1..=FORKS {
        source.assert_advances();
        let name = format!("single-{n}");
        assert_eq!(stage.fork(&["writer", "--name", &name, "--no-start"]), [name.as_str()]);
        assert_eq!(stage.containerd.status_of(&name), None, "it was not to start");
        let place = stage.scratch.dir(&name);
        stage.containerd.mount("loom", &name, &place);
        let (moment, files) = Moment::read(&place);
        steady.assert_same(&files, &name);
        run("umount", &[&place]);
        assert!(moment.b > last.b, "the source counted on: {last:?}, {moment:?}");
        last = moment;
        stage.loom_json(&["resume", &name]);
        let fork = Counter::of(&stage, &name);
        assert_eq!(fork.found(2), moment, "{name}");
        forks.push(fork);
    }

    // All count on, and nobody sees what another writes.
    let all: Vec<&Counter> = forks.iter().chain([&source]).collect();
    for counter in &all {
        counter.assert_advances();
    }
    for counter in &all {
        counter.assert_alone();
        steady.assert_same(&counter.steady(), &counter.name);
    }
    let first = source.lives();
    assert_eq!(first.len(), 1, "the source runs on, and sees nobody's start");
    let mut own: Vec<String> = Vec::new();
    for fork in &forks {
        let lives = fork.lives();
        assert_eq!(lives[..1], first[..], "{}", fork.name);
        own.push(lives[1].clone());
    }
    own.sort();
    own.dedup();
    assert_eq!(own.len(), forks.len(), "each fork is a process of its own");
    assert_eq!(source.pid, stage.containerd.pid_of("writer"));
    stage.end(&image);
}

/// A fork of a fork of a fork of a fork is one of them.
fn generations(stage: Stage) {
    const LAST: usize = 4;
    let image = stage.import(&small());
    let mut all = vec![counter::start(&stage, &image, "g0", &[])];
    let steady = all[0].steady();
    for generation in 1..=LAST {
        let (before, name) = (format!("g{}", generation - 1), format!("g{generation}"));
        stage.fork(&[&before, "--name", &name]);
        let fork = Counter::of(&stage, &name);
        let moment = fork.found(generation + 1);
        assert!(moment.a > 0, "{moment:?}");
        fork.assert_advances();
        all.push(fork);
    }
    for (generation, counter) in all.iter().enumerate() {
        counter.assert_advances();
        counter.assert_alone();
        steady.assert_same(&counter.steady(), &counter.name);
        assert_eq!(counter.lives().len(), generation + 1);
        assert_eq!(counter.lives()[..generation], all[generation.saturating_sub(1)].lives()[..generation]);
    }
    let ids: Vec<String> = all.iter().map(|counter| id_of(&stage, &counter.name)).collect();
    let way = |stage: &Stage| -> Vec<String> {
        let lineage = stage.loom_json(&["lineage", "g4"]);
        lineage.as_array().unwrap().iter().map(|each| each["id"].as_str().unwrap().to_owned()).collect()
    };
    let newest_first: Vec<String> = ids.iter().rev().cloned().collect();
    assert_eq!(way(&stage)[..=LAST], newest_first[..]);
    // Generations between can go; those before and after them stay, and so does the way.
    stage.containerd.remove(&["g1", "g3"]);
    assert_eq!(way(&stage)[..=LAST], newest_first[..]);
    for generation in [0, 2, 4] {
        all[generation].assert_advances();
        all[generation].assert_alone();
    }
    stage.end(&image);
}

fn id_of(stage: &Stage, reference: &str) -> String {
    stage.loom_json(&["inspect", reference])["id"].as_str().unwrap().to_owned()
}

/// A container of another namespace is forked there.
fn elsewhere(mut stage: Stage) {
    stage.containerd.namespace = "other".into();
    let image = stage.import(&small());
    let source = counter::start(&stage, &image, "writer", &[]);
    stage.fork(&["writer", "--name", "try"]);
    stage.containerd.namespace = "default".into();
    stage.loom_fails(3, &["fork", "writer"]);
    assert_eq!(stage.fork(&["container:other/writer", "--name", "far"]), ["far"]);
    assert_eq!(stage.containerd.containers(), Vec::<String>::new());
    assert_eq!(stage.containerd.snapshots("loom"), Vec::<String>::new());
    assert_eq!(stage.containerd.leases(), Vec::<String>::new());

    stage.containerd.namespace = "other".into();
    for name in ["try", "far"] {
        let fork = Counter::of(&stage, name);
        fork.found(2);
        fork.assert_advances();
        let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", fork.pid)).unwrap();
        assert!(groups.contains(&format!("/other/{name}")), "{groups}");
        assert_eq!(stage.loom_json(&["inspect", name])["namespace"], "other");
    }
    source.assert_advances();
    stage.end(&image);
}
