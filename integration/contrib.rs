//! What `contrib/` promises: the quickstart shows a fork and leaves nothing, and every file in there
//! is one that the program it is for takes.
//!
//! Needs root, and the programs that the quickstart would otherwise install.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The repository.
fn repo() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where cargo put the programs.
fn bin_dir() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_loomd")).parent().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Every path below a directory with its inode and the time of its last change.
fn listing(dir: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let mut seen = BTreeMap::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        seen.insert(path, (meta.ino(), meta.ctime(), meta.ctime_nsec()));
    }
    seen
}

/// The lines between a command of the quickstart's and the next one.
fn answer<'a>(output: &'a str, command: &str) -> &'a str {
    let shown = format!("$ {command}\n");
    let start = output.rfind(&shown).unwrap_or_else(|| panic!("{command:?} is not shown in:\n{output}"));
    let rest = &output[start + shown.len()..];
    rest.split_once("\n$ ").map_or(rest, |(answer, _)| answer)
}

/// The quickstart beside a containerd that is already there: its `/run` is bound over the real one.
#[test]
fn quickstart_shows_a_fork_and_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let run = temp.path().join("run");
    fs::create_dir_all(run.join("containerd/s")).unwrap();
    fs::write(run.join("containerd/s/of-a-shim"), "").unwrap();
    let theirs = UnixListener::bind(run.join("containerd/containerd.sock")).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let before = listing(&run);

    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount -n --bind \"$1\" /run && shift && exec \"$@\"", "sh"])
        .arg(&run)
        .arg(repo().join("contrib/quickstart"))
        .args(["--debug", "--bin-dir"])
        .arg(bin_dir())
        .output()
        .unwrap();
    let shown = text(&output);
    assert!(output.status.success(), "{}:\n{shown}", output.status);

    let tasks = answer(&shown, "ctr task ls");
    for container in ["counter", "counter-fork"] {
        let running = |line: &str| line.starts_with(&format!("{container} ")) && line.contains("RUNNING");
        assert!(tasks.lines().any(running), "{container} does not run:\n{tasks}");
    }
    let count = |container| -> u64 {
        answer(&shown, &format!("ctr task exec {container} cat /count"))
            .lines()
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    assert_ne!(count("counter"), 0);
    assert_ne!(count("counter-fork"), 0);
    assert!(answer(&shown, "loom fork counter --name counter-fork").contains("counter-fork"), "{shown}");
    assert!(answer(&shown, "loom tree").contains("counter-fork"), "{shown}");
    assert!(answer(&shown, "loom ls").contains("counter-fork"), "{shown}");

    assert_eq!(listing(&run), before, "the /run of the containerd that was there has changed");
    let connected = theirs.accept().map(|_| ()).map_err(|error| error.kind());
    assert_eq!(connected, Err(io::ErrorKind::WouldBlock), "the containerd that was there was called");

    let (_, rest) = shown.split_once("/var/tmp/loom-quickstart.").expect("no directory is shown");
    let name = format!("loom-quickstart.{}", rest.split(['/', '"', '\n']).next().unwrap());
    assert_nothing_left(&name);
}

/// Nothing on this machine bears the name of a quickstart's directory.
fn assert_nothing_left(name: &str) {
    assert!(!Path::new("/var/tmp").join(name).exists(), "/var/tmp/{name} is left");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(name), "a mount is left:\n{mounts}");

    for process in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let path = process.path();
        // A process may end while it is looked at.
        let cwd = fs::read_link(path.join("cwd")).unwrap_or_default();
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        assert!(
            !cwd.to_string_lossy().contains(name) && !line.contains(name),
            "process {} is left: {line}",
            path.display()
        );
    }
    for device in fs::read_dir("/sys/block").unwrap().filter_map(Result::ok) {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        assert!(!file.contains(name), "{} is left on {file}", device.path().display());
    }
    let cgroups =
        Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", name]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&cgroups.stdout), "", "cgroups are left");
}

#[test]
fn quickstart_refuses_what_it_does_not_know() {
    let output = Command::new(repo().join("contrib/quickstart")).arg("--what").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("Usage: contrib/quickstart"));
}

/// What a containerd makes of one of our files.
fn dump(containerd: &Path, config: &str) -> String {
    let output = Command::new(containerd)
        .arg("--config")
        .arg(repo().join("contrib/containerd").join(config))
        .args(["config", "dump"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{config}: {}", text(&output));
    // 1.x and 2.x quote differently.
    String::from_utf8_lossy(&output.stdout).replace('\'', "\"")
}

/// Debian's containerd is 1.6; `integration/tools/fetch` puts a 2.x beside the programs.
#[test]
fn containerd_takes_its_configurations() {
    let tools = repo().join("target/tools/containerd");
    let mut tried = 0;
    for containerd in [Path::new("containerd"), &tools] {
        let Ok(version) = Command::new(containerd).arg("--version").output() else { continue };
        let version = if text(&version).contains(" v2.") { "v3" } else { "v2" };
        tried += 1;
        for kind in ["config", "cri"] {
            let config = format!("{kind}-{version}.toml");
            let dumped = dump(containerd, &config);
            assert!(dumped.contains("[proxy_plugins.loom]"), "{config}:\n{dumped}");
            assert!(dumped.contains("address = \"/run/loom/loom.sock\""), "{config}:\n{dumped}");
            let ours = dumped.matches("snapshotter = \"loom\"").count();
            let expected = usize::from(kind == "cri") + usize::from(version == "v3");
            assert_eq!(ours, expected, "{config}:\n{dumped}");
        }
    }
    assert_ne!(tried, 0, "no containerd is installed");
}

#[test]
fn systemd_takes_the_units() {
    let temp = tempfile::tempdir().unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify");
    for unit in ["loomd.service", "loomd.socket", "loomd-ttrpc.socket"] {
        let ours = fs::read_to_string(repo().join("contrib").join(unit)).unwrap();
        let path = temp.path().join(unit);
        fs::write(&path, ours.replace("/usr/local/bin/loomd", env!("CARGO_BIN_EXE_loomd"))).unwrap();
        verify.arg(path);
    }
    let Ok(output) = verify.output() else {
        eprintln!("systemd-analyze is not installed: not checked");
        return;
    };
    let said = text(&output);
    assert!(output.status.success() && !said.contains("loomd"), "{said}");
}

#[test]
fn loomd_takes_its_configuration() {
    let dump = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_loomd")).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", text(&output));
        text(&output)
    };
    let ours = repo().join("contrib/loom/config.toml");
    assert_eq!(dump(&["config", "default"]), fs::read_to_string(&ours).unwrap());
    let dumped = dump(&["--config", ours.to_str().unwrap(), "config", "dump"]);
    assert!(dumped.contains("address = \"/run/containerd/containerd.sock\""), "{dumped}");
}
