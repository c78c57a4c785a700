//! Operations as their clients see them: repeated, watched, called off, and cut off by the death of whoever has
//! a part in them. Whatever happens, nothing half made stays.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::sync::mpsc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use support::containerd::Version;
use support::counter;
use support::image::small;
use support::layout::Layout;
use support::process::said;
use support::stage::{Stage, on_stages};
use support::wait::{wait_for, wait_until, wait_until_none};

/// Forks enough that something can happen in their midst.
const MANY: &str = "30";

/// A container that does nothing.
fn idle(stage: &Stage, image: &str, name: &str) {
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", image, name, "sleep", "100000"]);
}

fn operations(stage: &Stage) -> Vec<Value> {
    stage.loom_json(&["operations"]).as_array().unwrap().clone()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// The names of the forks that an answer, or an operation's result, says are there.
fn made(answer: &Value) -> Vec<String> {
    let forks = answer["forks"].as_array().unwrap().iter().filter(|fork| fork["error"].is_null());
    forks.map(|fork| text(&fork["container"]).to_owned()).collect()
}

/// A `loom` that is at work.
struct Client(Child);

impl Client {
    fn start(stage: &Stage, args: &[&str]) -> Client {
        let mut command = stage.loom_command(args);
        Client(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }

    fn end(self) -> Output {
        self.0.wait_with_output().unwrap()
    }
}

/// Starts `loom` and answers once the first of its containers is there.
fn in_the_midst(stage: &Stage, args: &[&str]) -> Client {
    let before = stage.containerd.containers().len();
    let client = Client::start(stage, args);
    wait_until("the first fork", || stage.containerd.containers().len() > before);
    client
}

/// A repeated request under its key is answered once; another one under it is refused.
fn keys(mut stage: Stage) {
    let image = stage.import(&small());
    idle(&stage, &image, "web");

    let fork = ["fork", "web", "--idempotency-key", "a"];
    let first = stage.loom_json(&fork);
    assert_eq!(first, stage.loom_json(&fork), "no name was given, and it is the same fork");
    let snapshot = ["snapshot", "web", "--name", "state", "--idempotency-key", "b"];
    let kept = stage.loom_json(&snapshot);
    assert_eq!(kept, stage.loom_json(&snapshot));
    let before = stage.inventory();

    // Another request: another name, another verb, other changes.
    for other in [
        &["fork", "web", "--name", "other"][..],
        &["fork", "web", "--count", "2"],
        &["fork", "web", "--env", "A=b"],
        &["fork", "web", "--no-start"],
        &["snapshot", "web"],
        &["resume", "web"],
        &["rollback", "web", "state"],
    ] {
        let said = stage.loom_fails(4, &[other, &["--idempotency-key", "a"]].concat());
        assert!(said.contains("\"a\"") && said.contains(text(&first["operation"])), "{other:?}: {said}");
    }
    stage.wait_until_again(&before, "conflicts");

    // Eight clients at once.
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| stage.loom_json(&["fork", "web", "--count", "2", "--idempotency-key", "c"]))
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(stage.containerd.containers().len(), 4, "{:?}", stage.containerd.containers());

    // A key outlives loomd, and what its operation made.
    stage.loomd.stop();
    stage.start_again();
    assert_eq!(first, stage.loom_json(&fork));
    stage.containerd.remove(&[&made(&first)[0]]);
    assert_eq!(first, stage.loom_json(&fork), "the answer is kept, not the fork");
    assert_eq!(stage.containerd.containers().len(), 3);

    // A failed operation frees its key: one that found the name taken, and one that could not start.
    let taken = ["fork", "web", "--name", "later", "--idempotency-key", "d"];
    idle(&stage, &image, "later");
    stage.loom_fails(4, &taken);
    stage.containerd.remove(&["later"]);
    wait_until_none("the name's snapshot", || {
        stage.containerd.collect();
        stage.containerd.snapshots("loom").into_iter().filter(|key| key == "later").collect()
    });
    assert_eq!(made(&stage.loom_json(&taken)), ["later"]);
    let bound = stage.scratch.dir("bound");
    let mount = format!("type=bind,src={},dst=/mnt,options=rbind:rw", bound.display());
    let run = ["run", "-d", "--snapshotter", "loom", "--mount", &mount, &image, "bound", "sleep", "100000"];
    stage.containerd.ctr(&run);
    std::fs::remove_dir(&bound).unwrap();
    let before = stage.inventory();
    let request = ["fork", "bound", "--name", "try", "--idempotency-key", "e"];
    stage.loom_fails(1, &request);
    stage.wait_until_again(&before, "a fork that cannot start");
    let failed = operations(&stage).remove(0);
    assert_eq!((&failed["state"], &failed["idempotency_key"]), (&"failed".into(), &"e".into()), "{failed}");
    assert!(!text(&failed["error"]["code"]).is_empty() && !text(&failed["error"]["message"]).is_empty());
    std::fs::create_dir(&bound).unwrap();
    assert_eq!(made(&stage.loom_json(&request)), ["try"]);
    assert_eq!(operations(&stage)[0]["state"], "succeeded");

    stage.loom_json(&["rm", "state"]);
    stage.end(&image);
}

/// What operations tell, while they run, afterwards, and after a restart.
fn told(mut stage: Stage) {
    let image = stage.import(&small());
    idle(&stage, &image, "web");
    assert_eq!(stage.loom_json(&["operations"]), Value::Array(Vec::new()));

    // One client watches all, another makes them.
    let mut watch = Client::start(&stage, &["operations", "--watch", "--json"]);
    let (tell, changes) = mpsc::channel::<Value>();
    let lines = BufReader::new(watch.0.stdout.take().unwrap()).lines();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if tell.send(serde_json::from_str(&line).expect(&line)).is_err() {
                break;
            }
        }
    });
    let mut seen = Vec::new();
    // A watch tells nothing of its own beginning: a first operation is made until it shows.
    wait_until("the watch to begin", || {
        stage.loom_json(&["snapshot", "web", "--ttl", "1h"]);
        seen.extend(changes.try_iter());
        !seen.is_empty()
    });
    let answer = stage.loom_json(&["fork", "web", "--count", "3", "--name", "try"]);
    let id = text(&answer["operation"]).to_owned();
    let last = wait_for("the fork's end", || {
        seen.extend(changes.try_iter());
        seen.iter().find(|each| each["id"] == *id && each["state"] == "succeeded").cloned()
    });
    let states: Vec<&str> =
        seen.iter().filter(|each| each["id"] == *id).map(|each| text(&each["state"])).collect();
    assert!(states.contains(&"running"), "{states:?}");
    watch.signal(Signal::SIGKILL);
    watch.end();

    let shown = stage.loom_json(&["operation", &id]);
    assert_eq!(shown, last);
    assert_eq!(shown, stage.loom_json(&["operation", &id[..8]]), "by a prefix");
    assert_eq!((&shown["kind"], &shown["subject"]), (&"fork".into(), &"web".into()), "{shown}");
    assert_eq!((&shown["namespace"], &shown["error"]), (&"default".into(), &Value::Null), "{shown}");
    assert!(shown["ended"].as_str() >= shown["created"].as_str(), "{shown}");
    assert_eq!((&shown["done"], shown["total"].as_u64() > Some(0)), (&shown["total"], true), "{shown}");
    let steps = shown["steps"].as_array().unwrap();
    assert!(!steps.is_empty() && steps.iter().all(|step| !text(&step["name"]).is_empty()), "{shown}");
    let took: u64 = steps.iter().map(|step| step["took_us"].as_u64().unwrap()).sum();
    assert!(took > 0, "{shown}");
    assert_eq!(made(&shown["result"]), made(&answer), "{shown}");

    // For people.
    let table = stage.loom(&["operations", "--limit", "1"]);
    assert!(table.contains(&id[..8]) && table.contains("fork") && table.contains("succeeded"), "{table}");
    let page = stage.loom(&["operation", &id]);
    assert!(page.contains(&id) && page.contains("succeeded"), "{page}");
    assert_eq!(stage.loom_json(&["operations", "--limit", "2"]).as_array().unwrap().len(), 2);
    // A watch of one that has ended tells its end, and ends.
    assert_eq!(stage.loom_json(&["operation", &id, "--watch"]), shown);
    assert!(stage.loom_fails(4, &["cancel", &id]).contains(&id));

    // A watch of one ends with it; its watcher knows the id from the list.
    let fork = Client::start(&stage, &["fork", "web", "--count", MANY, "--name", "more", "--json"]);
    let running = wait_for("it to be listed", || {
        operations(&stage).into_iter().find(|each| each["id"] != *id && each["kind"] == "fork")
    });
    let lines = stage.loom(&["operation", text(&running["id"]), "--watch", "--json"]);
    let ended: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!((&ended["state"], &ended["id"]), (&"succeeded".into(), &running["id"]), "{lines}");
    assert!(fork.end().status.success());

    let before = operations(&stage);
    stage.loomd.stop();
    stage.start_again();
    assert_eq!(operations(&stage), before, "a restart changes nothing");
    stage.loomd.kill();
    stage.start_again();
    assert_eq!(operations(&stage), before, "a kill neither");
    stage.loom_fails(3, &["operation", "0000"]);
    stage.loom_json(&["prune", "--all"]);
    stage.end(&image);
}

/// Ctrl-C, `loom cancel`, and a client that is gone.
fn called_off(stage: Stage) {
    let image = stage.import(&small());
    let source = counter::start(&stage, &image, "web", &[]);
    let before = stage.inventory();
    let fork = ["fork", "web", "--count", MANY, "--name", "many"];

    // Ctrl-C.
    let client = in_the_midst(&stage, &fork);
    client.signal(Signal::SIGINT);
    let output = client.end();
    let message = said(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("cancelled"), "{message}");
    stage.wait_until_again(&before, "Ctrl-C");
    let cancelled = operations(&stage).remove(0);
    assert_eq!(
        (&cancelled["state"], &cancelled["result"]),
        (&"cancelled".into(), &Value::Null),
        "{cancelled}"
    );
    assert!(message.contains(text(&cancelled["id"])), "{message}");

    // loom cancel: it answers when it was heard, and the client when all is undone.
    let client = in_the_midst(&stage, &[&fork[..], &["--idempotency-key", "again"]].concat());
    let running = operations(&stage).remove(0);
    assert_eq!(running["state"], "running", "{running}");
    stage.loom(&["cancel", text(&running["id"])]);
    let output = client.end();
    let message = said(&output);
    assert_eq!(output.status.code(), Some(4), "{message}");
    assert!(message.contains("cancelled"), "{message}");
    stage.wait_until_again(&before, "loom cancel");
    assert_eq!(stage.loom_json(&["operation", text(&running["id"])])["state"], "cancelled");
    source.assert_advances();

    // The client is gone: it runs to its end, under the key that the cancelled one had.
    let client = in_the_midst(&stage, &[&fork[..], &["--idempotency-key", "again"]].concat());
    client.signal(Signal::SIGKILL);
    client.end();
    let running = operations(&stage).remove(0);
    let ended = wait_for("it to end", || {
        let now = stage.loom_json(&["operation", text(&running["id"])]);
        (now["state"] != "running").then_some(now)
    });
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let all = made(&ended["result"]);
    assert_eq!(all.len().to_string(), MANY);
    for name in &all {
        stage.containerd.pid_of(name);
    }
    // Whoever asks again learns of it.
    let answer = stage.loom_json(&[&fork[..], &["--idempotency-key", "again"]].concat());
    assert_eq!((&answer["operation"], made(&answer)), (&ended["id"], all));
    source.assert_advances();
    source.assert_alone();
    stage.end(&image);
}

/// loomd is killed while it forks: at its next start the operation is finished or undone, and says so; the
/// same request under the same key is answered.
fn loomd_dies(mut stage: Stage) {
    let image = stage.import(&small());
    let source = counter::start(&stage, &image, "web", &[]);
    let before = stage.inventory();
    for (turn, running) in [0, 1, 8].into_iter().enumerate() {
        let (key, name) = (format!("key-{turn}"), format!("try-{turn}"));
        let fork = ["fork", "web", "--count", "16", "--name", &name, "--idempotency-key", &key];
        let client = in_the_midst(&stage, &fork);
        let started = |stage: &Stage| {
            stage.containerd.tasks().iter().filter(|task| task.name.starts_with(&name)).count()
        };
        wait_until("some of them to run", || started(&stage) >= running);
        stage.loomd.kill();
        assert_eq!(client.end().status.code(), Some(5), "loomd is gone");
        stage.start_again();
        let operation = settled(&stage, &key);
        if operation["state"] == "failed" {
            stage.wait_until_again(&before, &format!("the death of loomd with {running} started"));
        }
        source.assert_advances();
        let answer = stage.loom_json(&fork);
        assert_eq!(made(&answer).len(), 16, "{answer}");
        assert_eq!(operation["state"] == "succeeded", answer["operation"] == operation["id"], "{answer}");
        let names = made(&answer);
        for name in &names {
            counter::Counter::of(&stage, name).found(2);
        }
        stage.containerd.remove(&names.iter().map(String::as_str).collect::<Vec<_>>());
        stage.wait_until_again(&before, "the forks");
    }
    source.assert_alone();
    stage.end(&image);
}

/// The operation under a key once it has ended, after a death of loomd. What became of it goes to the output.
fn settled(stage: &Stage, key: &str) -> Value {
    let operation = wait_for("the operation to be settled", || {
        let mut found = operations(stage).into_iter().filter(|each| each["idempotency_key"] == *key);
        found.next().filter(|each| !["accepted", "running"].contains(&text(&each["state"])))
    });
    println!("cut off: {} {} {}", operation["kind"], operation["state"], operation["error"]);
    match text(&operation["state"]) {
        "succeeded" => assert!(operation["result"].is_object(), "{operation}"),
        "failed" => assert!(!text(&operation["error"]["message"]).is_empty(), "{operation}"),
        other => panic!("{other} after a death: {operation}"),
    }
    operation
}

/// What nerdctl keeps of containers outside of containerd: their directories, names and volumes.
fn kept_by_nerdctl(stage: &Stage) -> Vec<String> {
    let root = stage.scratch.path().join("run/nerdctl");
    let mut found = Vec::new();
    for place in ["containers/default", "names/default", "etchosts/default", "volumes/default"] {
        // Below the hash of containerd's address, or at the top.
        for dir in [root.join(place)].into_iter().chain(entries(&root).into_iter().map(|dir| dir.join(place)))
        {
            found.extend(entries(&dir).iter().map(|path| path.display().to_string()));
        }
    }
    found.sort();
    found
}

fn entries(dir: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

/// As [`loomd_dies`], of a container of nerdctl's.
fn loomd_dies_by_nerdctl(mut stage: Stage) {
    let image = stage.import(&small());
    let write = "while :; do date >>/root/log; sleep 0.01; done";
    let run = ["run", "-d", "--net=host", "--name", "web", "-v", "/data", &image, "sh", "-c", write];
    stage.containerd.nerdctl(&run);
    let before = (stage.inventory(), kept_by_nerdctl(&stage));
    for (turn, running) in [0, 1, 2].into_iter().enumerate() {
        let (key, name) = (format!("key-{turn}"), format!("try-{turn}"));
        let fork = ["fork", "web", "--count", "4", "--name", &name, "--idempotency-key", &key];
        let client = in_the_midst(&stage, &fork);
        wait_until("some of them to run", || stage.containerd.tasks().len() > running);
        stage.loomd.kill();
        assert_eq!(client.end().status.code(), Some(5), "loomd is gone");
        stage.start_again();
        let operation = settled(&stage, &key);
        if operation["state"] == "failed" {
            stage.wait_until_again(&before.0, &format!("the death of loomd with {running} started"));
            assert_eq!(kept_by_nerdctl(&stage), before.1);
        }
        let answer = stage.loom_json(&fork);
        assert_eq!(made(&answer).len(), 4, "{answer}");
        let names: Vec<String> = (1..=4).map(|n| format!("{name}-{n}")).collect();
        let shown = stage.containerd.nerdctl(&["ps", "--format", "{{.Names}}"]);
        assert!(names.iter().all(|name| shown.lines().any(|line| line == name)), "{shown}");
        let mut rm = vec!["rm", "-f", "-v"];
        rm.extend(names.iter().map(String::as_str));
        stage.containerd.nerdctl(&rm);
        stage.wait_until_again(&before.0, "the forks");
        assert_eq!(kept_by_nerdctl(&stage), before.1);
    }
    stage.containerd.nerdctl(&["exec", "web", "true"]);
    stage.containerd.nerdctl(&["rm", "-f", "-v", "web"]);
    assert_eq!(kept_by_nerdctl(&stage), Vec::<String>::new());
    stage.end(&image);
}

/// containerd is restarted while loom forks: what the answer says is there is there, and nothing else.
fn containerd_dies(mut stage: Stage) {
    let image = stage.import(&small());
    let source = counter::start(&stage, &image, "web", &[]);
    let before = stage.inventory();
    for (turn, graceful) in [false, true].into_iter().enumerate() {
        let (key, name) = (format!("key-{turn}"), format!("try-{turn}"));
        let fork = ["fork", "web", "--count", "16", "--name", &name, "--idempotency-key", &key];
        let client = in_the_midst(&stage, &fork);
        if graceful {
            stage.containerd.stop();
        } else {
            stage.containerd.kill();
        }
        stage.containerd.start();
        let output = client.end();
        let said = said(&output);
        let operation = settled(&stage, &key);
        let there = if operation["result"].is_object() { made(&operation["result"]) } else { Vec::new() };
        println!("containerd restarted: {} forks of 16 | {:?} | {said}", there.len(), output.status.code());
        if there.len() < 16 {
            assert!(matches!(output.status.code(), Some(1 | 5)), "{said}");
            assert!(said.contains("containerd"), "{said}");
        }
        assert_eq!(stage.containerd.status_of("web").as_deref(), Some("RUNNING"));
        source.assert_advances();
        for name in &there {
            counter::Counter::of(&stage, name).assert_advances();
        }
        stage.containerd.remove(&there.iter().map(String::as_str).collect::<Vec<_>>());
        stage.wait_until_again(&before, "the restart of containerd");
    }
    source.assert_alone();
    stage.end(&image);
}

on_stages! {
    keys_on_xfs: keys(Xfs, Debian);
    keys_with_a_pool: keys(Ext4Pool, Debian);
    keys_with_a_pool_and_the_current_containerd: keys(Ext4Pool, Current);
    told_on_btrfs: told(Btrfs, Debian);
    told_with_a_pool_and_the_current_containerd: told(Ext4Pool, Current);
    called_off_on_ext4: called_off(Ext4, Debian);
    called_off_with_a_pool: called_off(Ext4Pool, Debian);
    called_off_with_a_pool_and_the_current_containerd: called_off(Ext4Pool, Current);
    loomd_dies_on_xfs: loomd_dies(Xfs, Debian);
    loomd_dies_with_a_pool: loomd_dies(Ext4Pool, Debian);
    loomd_dies_with_a_pool_and_the_current_containerd: loomd_dies(Ext4Pool, Current);
    loomd_dies_by_nerdctl_on_ext4: loomd_dies_by_nerdctl(Ext4, Debian);
    loomd_dies_by_nerdctl_with_a_pool: loomd_dies_by_nerdctl(Ext4Pool, Debian);
    loomd_dies_by_nerdctl_with_a_pool_and_the_current_containerd: loomd_dies_by_nerdctl(Ext4Pool, Current);
    containerd_dies_on_ext4: containerd_dies(Ext4, Debian);
    containerd_dies_with_a_pool: containerd_dies(Ext4Pool, Debian);
    containerd_dies_with_a_pool_and_the_current_containerd: containerd_dies(Ext4Pool, Current);
}
