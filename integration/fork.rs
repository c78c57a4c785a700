//! Containers are forked while they write: a fork is one moment of its source, and from then on a
//! container of its own.

mod support;

use serde_json::Value;

use support::containerd::tools;
use support::counter::{self, Counter, Moment};
use support::image::small;
use support::process::{run, succeed};
use support::stage::{Stage, on_every_stage};
use support::wait::wait_until_none;

on_every_stage!(consistent, generations, identity, elsewhere);

const FORKS: usize = 8;

/// What `loom fork` answers: the forks' names. Its cost goes to the output, for the documents.
fn forked(stage: &Stage, args: &[&str]) -> Vec<String> {
    let answer = stage.loom_json(&[&["fork"], args].concat());
    let cost = &answer["cost"];
    assert!(cost["paused_us"].as_u64().unwrap() > 0, "{answer}");
    assert!(cost["total_us"].as_u64() >= cost["paused_us"].as_u64(), "{answer}");
    let forks = answer["forks"].as_array().unwrap();
    println!(
        "fork | {} | {:?} | {} forks | paused {} us | total {} us",
        stage.loom_json(&["status"])["method"].as_str().unwrap(),
        stage.containerd.version,
        forks.len(),
        cost["paused_us"],
        cost["total_us"],
    );
    let names = forks.iter().map(|fork| {
        assert_eq!(fork["error"], Value::Null, "{answer}");
        fork["container"].as_str().unwrap().to_owned()
    });
    names.collect()
}

/// Each fork of a writing container is of one moment and whole; source and forks go on on their own.
fn consistent(stage: Stage) {
    let image = stage.import(&small());
    let source = counter::start(&stage, &image, "writer", &[]);
    let steady = source.steady();

    // Eight of one moment.
    let names = forked(&stage, &["writer", "--name", "one", "--count", &FORKS.to_string()]);
    assert_eq!(names, (1..=FORKS).map(|n| format!("one-{n}")).collect::<Vec<_>>());
    let mut forks: Vec<Counter> = names.iter().map(|name| Counter::of(&stage, name)).collect();
    let moments: Vec<Moment> = forks.iter().map(|fork| fork.found(2)).collect();
    assert!(moments.iter().all(|moment| *moment == moments[0]), "{moments:?}");

    // Eight of a moment each, looked at before they run.
    let mut last = moments[0];
    for n in 1..=FORKS {
        source.assert_advances();
        let name = format!("single-{n}");
        assert_eq!(forked(&stage, &["writer", "--name", &name, "--no-start"]), [name.as_str()]);
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
        forked(&stage, &[&before, "--name", &name]);
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

/// A fork is a container of its own: what it takes over from its source, what it does not, and how it
/// is shown.
fn identity(stage: Stage) {
    let image = stage.import(&small());
    // The current ctr: Debian's sets no hostname.
    let mut ctr = std::process::Command::new(tools().join("ctr"));
    ctr.arg("--address").arg(stage.containerd.socket());
    ctr.args(["run", "-d", "--snapshotter", "loom", "--hostname", "web", "--label", "app=shop"]);
    ctr.args(["--label", "containerd.io/restart.policy=no", "--env", "COLOR=blue"]);
    ctr.args([&image, "web", "sleep", "100000"]);
    succeed(&mut ctr);
    assert_eq!(forked(&stage, &["web", "--name", "try", "--count", "2"]), ["try-1", "try-2"]);
    let unnamed = forked(&stage, &["web"]).remove(0);
    let random = unnamed.strip_prefix("web-fork-").expect(&unnamed);
    assert!(random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_hexdigit()), "{unnamed}");

    let info = |name: &str| -> Value {
        serde_json::from_str(&stage.containerd.ctr(&["containers", "info", name])).unwrap()
    };
    let cgroups = |name: &str| {
        std::fs::read_to_string(format!("/proc/{}/cgroup", stage.containerd.pid_of(name))).unwrap()
    };
    let web = info("web");
    for name in ["try-1", "try-2", &unnamed] {
        let fork = info(name);
        assert_eq!(fork["ID"], name);
        assert_eq!(fork["SnapshotKey"], name);
        assert_eq!(fork["Image"], web["Image"]);
        assert_eq!(fork["Runtime"], web["Runtime"]);
        assert_eq!(fork["Snapshotter"], web["Snapshotter"]);
        assert_eq!(fork["Labels"]["app"], "shop");
        assert_eq!(fork["Labels"]["containerd.io/restart.policy"], Value::Null, "it is not the fork's own");
        assert_eq!(fork["Spec"]["linux"]["cgroupsPath"], format!("/default/{name}"));
        assert_eq!(fork["Spec"]["process"], web["Spec"]["process"]);
        assert_eq!(fork["Spec"]["mounts"], web["Spec"]["mounts"]);
        assert_eq!(stage.containerd.exec(name, &["hostname"]), name);
        assert_eq!(stage.containerd.exec(name, &["sh", "-c", "echo $COLOR"]), "blue");
        for (theirs, its) in cgroups("web").lines().zip(cgroups(name).lines()) {
            assert!(theirs == its || its.ends_with(&format!("/default/{name}")), "{theirs} and {its}");
        }
        assert!(cgroups(name).contains(&format!("/default/{name}")), "{}", cgroups(name));
    }
    assert_eq!(stage.containerd.exec("web", &["hostname"]), "web");

    shown(&stage, &["try-1", "try-2", &unnamed]);
    refused(&stage, &image);
    undone(&stage, &image);
    stage.end(&image);
}

/// How the forks of "web" are shown.
fn shown(stage: &Stage, forks: &[&str]) {
    let web = stage.loom_json(&["inspect", "web"]);
    assert_eq!(web["source"], Value::Null);
    let listed = stage.loom_json(&["ls"]);
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), forks.len() + 1, "{listed:?}");
    assert_eq!(listed[0], web, "oldest first");
    let (table, tree) = (stage.loom(&["ls"]), stage.loom(&["tree"]));
    let line_of = |text: &str, name: &str| -> String {
        let line = text.lines().find(|line| line.split_whitespace().any(|word| word == name));
        line.unwrap_or_else(|| panic!("{name} in\n{text}")).to_owned()
    };
    let indent = |name: &str| line_of(&tree, name).chars().position(|c| c.is_alphanumeric()).unwrap();
    for name in forks {
        let fork = stage.loom_json(&["inspect", name]);
        assert_eq!(fork["kind"], "active");
        assert_eq!(fork["source"], web["id"]);
        assert_eq!(fork["parent"], web["parent"]);
        assert_eq!(fork["home"], web["home"]);
        assert_eq!(fork["container"], *name);
        assert_eq!(fork["namespace"], "default");
        assert!(fork["key"].as_str().unwrap().ends_with(&format!("/{name}")), "{fork}");
        assert!(listed.contains(&fork), "{name} in {listed:?}");
        assert_eq!(stage.loom_json(&["inspect", fork["id"].as_str().unwrap()]), fork, "by its id");

        let row: Vec<String> = line_of(&table, name).split_whitespace().map(ToOwned::to_owned).collect();
        assert_eq!(row[1..5], [*name, "active", name, "web"], "{table}");
        assert!(indent(name) > indent("web"), "{tree}");

        let lineage = stage.loom_json(&["lineage", name]);
        assert_eq!(lineage[0], fork);
        assert_eq!(lineage[1], web);
        assert_eq!(lineage[2]["id"], web["parent"], "{lineage}");
        assert_eq!(lineage[2]["image_layer"], true, "{lineage}");
    }
}

/// Forks that there cannot be.
fn refused(stage: &Stage, image: &str) {
    stage.containerd.ctr(&[
        "run",
        "-d",
        "--snapshotter",
        "loom",
        "--label",
        "nerdctl/name=shop",
        image,
        "nerd",
        "sleep",
        "100000",
    ]);
    for name in ["nerd", "shop"] {
        let said = stage.loom_fails(4, &["fork", name]);
        assert!(said.contains("nerdctl") && said.contains("loom snapshot"), "{said}");
    }
    let said = stage.loom_fails(4, &["fork", "web", "--name", "try", "--count", "3"]);
    assert!(said.contains("try-1"), "{said}");
    assert_eq!(stage.containerd.status_of("try-3"), None, "none is made where one cannot be");
    stage.loom_fails(3, &["fork", "nobody"]);
    for wrong in [&["web", "--name", "a b"][..], &["web", "--name", "../x"], &["web", "--count", "0"]] {
        stage.loom_fails(2, &[&["fork"], wrong].concat());
    }
    stage.containerd.ctr(&["containers", "create", "--rootfs", "/", "stranger", "true"]);
    let said = stage.loom_fails(4, &["fork", "stranger"]);
    assert!(said.contains("stranger"), "{said}");
}

/// Nothing stays of forks that cannot start.
fn undone(stage: &Stage, image: &str) {
    let bound = stage.scratch.dir("bound");
    let mount = format!("type=bind,src={},dst=/mnt,options=rbind:rw", bound.display());
    stage.containerd.ctr(&[
        "run",
        "-d",
        "--snapshotter",
        "loom",
        "--mount",
        &mount,
        image,
        "bound",
        "sleep",
        "100000",
    ]);
    let left = |stage: &Stage| {
        let mut found = stage.containerd.snapshots("loom");
        found.extend(stage.containerd.ctr(&["containers", "ls", "-q"]).lines().map(ToOwned::to_owned));
        found.extend(stage.containerd.leases());
        found.extend(stage.place.layers().iter().map(|path| path.display().to_string()));
        found.extend(stage.place.trash().iter().map(|path| path.display().to_string()));
        found.extend(stage.place.subvolumes());
        found
    };
    // Of what was there before, the trash may still be emptied.
    wait_until_none("files in the trash", || {
        stage.place.trash().iter().map(|path| path.display().to_string()).collect()
    });
    let before = left(stage);
    std::fs::remove_dir(&bound).unwrap();
    for count in ["1", "3"] {
        let said = stage.loom_fails(1, &["fork", "bound", "--count", count]);
        assert!(said.contains("bound-fork-"), "{said}");
        wait_until_none("more than before", || {
            let now = left(stage);
            now.into_iter().filter(|each| !before.contains(each)).collect()
        });
    }
    assert_eq!(stage.containerd.status_of("bound").as_deref(), Some("RUNNING"));
}

/// A container of another namespace is forked there.
fn elsewhere(mut stage: Stage) {
    stage.containerd.namespace = "other".into();
    let image = stage.import(&small());
    let source = counter::start(&stage, &image, "writer", &[]);
    forked(&stage, &["writer", "--name", "try"]);
    stage.containerd.namespace = "default".into();
    stage.loom_fails(3, &["fork", "writer"]);
    assert_eq!(forked(&stage, &["container:other/writer", "--name", "far"]), ["far"]);
    assert_eq!(stage.containerd.ctr(&["containers", "ls", "-q"]), "", "none is here");
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
