//! A rollback among others, and one that is cut off: whoever dies in its midst, the container goes on with the one
//! content or the other.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.

mod support;

use std::path::PathBuf;
use std::process::{Child, Stdio};

use serde_json::Value;

use support::containerd::Version;
use support::image::small;
use support::layout::Layout;
use support::process::said;
use support::stage::Stage;
use support::wait::{wait_for, wait_until};

/// Ends two seconds behind the signal that tells it to, and says that it was told.
const SLOW: [&str; 3] =
    ["sh", "-c", "trap 'touch /root/told; sleep 2; exit 0' TERM; while :; do sleep 0.1; done"];

/// A container that says `one` in a state of that name, and `two` by now.
fn web(stage: &Stage, command: &[&str]) -> String {
    let image = stage.import(&small());
    let run = ["run", "-d", "--snapshotter", "loom", &image, "web"];
    stage.containerd.ctr(&[&run, command].concat());
    say(stage, "one");
    stage.loom_json(&["snapshot", "web", "--name", "one"]);
    say(stage, "two");
    image
}

fn say(stage: &Stage, what: &str) {
    stage.containerd.exec("web", &["sh", "-ec", &format!("echo {what} >/root/says")]);
}

fn says(stage: &Stage) -> String {
    stage.containerd.exec("web", &["cat", "/root/says"]).trim().to_owned()
}

fn start(stage: &Stage, args: &[&str]) -> Child {
    let mut command = stage.loom_command(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The newest operation, once it has ended.
fn ended(stage: &Stage) -> Value {
    let operation = wait_for("the operation to end", || {
        let newest = stage.loom_json(&["operations", "--limit", "1"])[0].clone();
        let ended = !["accepted", "running"].contains(&newest["state"].as_str().unwrap());
        ended.then_some(newest)
    });
    println!("{} {} {}", operation["kind"], operation["state"], operation["error"]);
    operation
}

fn runs(stage: &Stage) -> bool {
    stage.containerd.status_of("web").as_deref() == Some("RUNNING")
}

/// Of what loom keeps.
fn names(stage: &Stage) -> Vec<String> {
    let answer = stage.loom_json(&["ls"]);
    let found = answer.as_array().unwrap().iter().filter_map(|row| row["name"].as_str());
    let mut names: Vec<_> = found.filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect();
    names.sort();
    names
}

fn end(stage: &Stage, image: &str) {
    for name in names(stage) {
        stage.loom_json(&["rm", &name]);
    }
    stage.end(image);
}

/// containerd dies once the container was told to end, and is back only when it has ended and the request was
/// refused: the container runs again as it was.
#[test]
fn containerd_is_away_until_it_has_failed() {
    let mut stage = Stage::new(Layout::Ext4Pool, Version::Debian);
    let image = web(&stage, &SLOW);
    let before = stage.inventory();
    let root = PathBuf::from(format!("/proc/{}/root/root", stage.containerd.pid_of("web")));
    let client = start(&stage, &["rollback", "web", "one", "--name", "kept"]);
    wait_until("the container to be told", || root.join("told").exists());
    stage.containerd.kill();
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    wait_until("the container to end", || !root.exists());
    stage.containerd.start();
    let operation = ended(&stage);
    assert_eq!((&operation["state"], &operation["error"]["code"]), (&"failed".into(), &"CONTAINERD".into()));
    assert!(runs(&stage));
    assert_eq!(says(&stage), "two");
    stage.wait_until_again(&before, "a rollback that failed");
    end(&stage, &image);
}

/// loomd dies between a swap and a start that would fail: the container gets back what it had, also where that was
/// to be discarded.
#[test]
fn loomd_dies_before_it_would_not_start() {
    let mut stage = Stage::new(Layout::Ext4Pool, Version::Debian);
    let image = web(&stage, &["sleep", "100000"]);
    stage.containerd.ctr(&["containers", "label", "web", "io.containerd.image.config.stop-signal=SIGKILL"]);
    stage.containerd.exec("web", &["sh", "-ec", "rm /bin/sleep"]);
    stage.loom_json(&["snapshot", "web", "--name", "broken"]);
    stage.containerd.exec("web", &["sh", "-ec", "ln -s busybox /bin/sleep"]);
    let before = names(&stage);
    for args in [&["--name", "kept"][..], &["--discard"]] {
        stage.loomd.stop();
        stage.loomd.fail_at("containerd.task.create:abort");
        stage.start_again();
        let client = start(&stage, &[&["rollback", "web", "broken"], args].concat());
        let output = client.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(5), "{}", said(&output));
        stage.loomd.fail_nowhere();
        stage.loomd.kill();
        stage.start_again();
        let operation = ended(&stage);
        assert_eq!((&operation["state"], &operation["error"]["code"]), (&"failed".into(), &"CUT_OFF".into()));
        assert!(runs(&stage));
        assert_eq!(says(&stage), "two");
        assert_eq!(names(&stage), before);
        assert_eq!(stage.containerd.leases(), Vec::<String>::new());
    }
    end(&stage, &image);
}

/// Of several rollbacks at once each is done or refused, and one that is refused stops nothing.
#[test]
fn several_at_once() {
    let stage = Stage::new(Layout::Ext4Pool, Version::Debian);
    let image = web(&stage, &SLOW);
    let kept: Vec<_> = (0..4).map(|n| format!("kept{n}")).collect();
    let clients: Vec<_> = kept
        .iter()
        .map(|name| start(&stage, &["rollback", "web", "one", "--name", name, "--json"]))
        .collect();
    let outputs: Vec<_> = clients.into_iter().map(|client| client.wait_with_output().unwrap()).collect();
    let (done, refused): (Vec<_>, Vec<_>) = outputs.iter().partition(|output| output.status.success());
    assert!(!done.is_empty(), "{}", said(&outputs[0]));
    for output in &refused {
        assert!(said(output).contains("is being changed by another request"), "{}", said(output));
    }
    let pid = Value::from(stage.containerd.pid_of("web"));
    let answers = done.iter().map(|output| serde_json::from_slice::<Value>(&output.stdout).unwrap());
    assert!(
        answers.into_iter().any(|answer| answer["container"]["pid"] == pid),
        "stopped by one that was refused"
    );
    assert_eq!(says(&stage), "one");
    let left = names(&stage);
    assert_eq!(left.iter().filter(|name| kept.contains(name)).count(), done.len());
    end(&stage, &image);
}
