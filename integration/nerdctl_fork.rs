//! Forks of nerdctl's containers are nerdctl's containers: each with its own name, address, hostname, log and
//! volumes, and without a trace once it is removed.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::containerd::Version;
use support::image::small;
use support::layout::Layout;
use support::stage::Stage;
use support::wait::{wait_until, wait_until_none};

/// A web server that tells its count, and writes all the time.
const WORK: &str = "mkdir -p /www; httpd -p 80 -h /www
n=0; while :; do n=$((n+1)); echo $n >/www/n; echo line $n; sleep 0.05; done";

/// What nerdctl says of a container.
fn inspect(stage: &Stage, container: &str) -> Value {
    let all: Value = serde_json::from_str(&stage.containerd.nerdctl(&["inspect", container])).unwrap();
    all[0].clone()
}

/// What the web server at a container's address says; nothing where none answers.
fn get(seen: &Value, path: &str) -> String {
    let address = seen["NetworkSettings"]["IPAddress"].as_str().unwrap();
    answer(&format!("{address}:80"), path).unwrap_or_default()
}

fn answer(address: &str, path: &str) -> std::io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(5))?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(connection, "GET /{path} HTTP/1.0\r\n\r\n")?;
    let mut said = String::new();
    connection.read_to_string(&mut said)?;
    Ok(said.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.trim_end().to_owned()))
}

/// Imports the image. The bridge of another test's nerdctl has the addresses that this one's wants.
fn begin(stage: &Stage) {
    support::process::finish(Command::new("ip").args(["link", "delete", "nerdctl0"]));
    stage.import(&small());
}

/// Starts the source of most tests.
fn web(stage: &Stage, name: &str, more: &[&str]) {
    let image = small().name;
    let flags = ["run", "-d", "--name", name, "-e", "KEPT=1", "-e", "CHANGED=no", "--label", "app=shop"];
    stage.containerd.nerdctl(&[&flags, more, &[&image, "sh", "-c", WORK]].concat());
    wait_until("its work", || {
        stage.containerd.try_nerdctl(&["exec", name, "test", "-s", "/www/n"]).status.success()
    });
}

fn sh(stage: &Stage, container: &str, script: &str) -> String {
    stage.containerd.nerdctl(&["exec", container, "sh", "-c", script])
}

/// Waits until nothing of any container is left, anywhere.
fn wait_until_bare(stage: &Stage) {
    let data = stage.scratch.path().join("run/nerdctl");
    wait_until_none("files of nerdctl, CNI or loom", || {
        let mut left = Vec::new();
        for kind in ["containers", "etchosts", "names", "volumes"] {
            for store in fs::read_dir(&data).unwrap().filter_map(Result::ok) {
                left.extend(entries(&store.path().join(kind).join("default")));
            }
        }
        left.extend(entries(Path::new("/var/lib/cni/results")));
        let addresses = entries(Path::new("/var/lib/cni/networks/bridge"));
        left.extend(
            addresses
                .into_iter()
                .filter(|path| path.file_name().unwrap().to_string_lossy().contains("10.4.")),
        );
        left.extend(entries(&stage.place.root.join("nerdctl")));
        left.into_iter().map(|path| path.display().to_string()).collect()
    });
    for image in stage.containerd.images() {
        assert!(image.starts_with("loom.test/"), "{image} is left");
        stage.containerd.ctr(&["images", "rm", "--sync", &image]);
    }
    stage.wait_until_empty();
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let hidden = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with('.');
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).filter(|path| !hidden(path)).collect()
}

/// Eight forks of a container with all that nerdctl gives one.
fn eight(stage: Stage) {
    let nerdctl = |args: &[&str]| stage.containerd.nerdctl(args);
    begin(&stage);
    web(&stage, "web", &["-p", "18080:80", "-v", "named:/named", "-v", "/anon", "--memory", "64m"]);
    sh(&stage, "web", "echo kept >/www/state; echo shared >/named/f; echo own >/anon/f");
    let source = inspect(&stage, "web");

    let forks = stage.fork(&["web", "--name", "try", "--count", "8"]);
    assert_eq!(forks.len(), 8);
    let ps = nerdctl(&["ps", "--format", "{{.Names}} {{.Status}} {{.Ports}}"]);
    let mut addresses = vec![source["NetworkSettings"]["IPAddress"].clone()];
    for (n, id) in forks.iter().enumerate() {
        let name = format!("try-{}", n + 1);
        let seen = inspect(&stage, &name);
        assert_eq!(seen["Id"], **id);
        assert!(ps.lines().any(|line| line.trim() == format!("{name} Up")), "{ps}");
        assert_eq!(
            sh(&stage, &name, "hostname; cat /etc/hostname; echo $HOSTNAME"),
            [&id[..12]; 3].join("\n")
        );
        assert_eq!(
            sh(&stage, &name, "echo $KEPT $CHANGED; cat /www/state /named/f /anon/f"),
            "1 no\nkept\nshared\nown"
        );
        wait_until("an answer", || get(&seen, "state") == "kept");
        assert!(!addresses.contains(&seen["NetworkSettings"]["IPAddress"]), "{addresses:?}");
        addresses.push(seen["NetworkSettings"]["IPAddress"].clone());
        assert_eq!(nerdctl(&["port", &name]), "");
        assert_eq!(seen["HostConfig"]["Memory"], source["HostConfig"]["Memory"]);
        assert_eq!(seen["Config"]["Labels"]["app"], "shop");
        assert_eq!(seen["Image"], source["Image"]);
        let mounts = |seen: &Value, at: &str| {
            seen["Mounts"].as_array().unwrap().iter().find(|mount| mount["Destination"] == at).unwrap()["Source"].clone()
        };
        assert_eq!(mounts(&seen, "/named"), mounts(&source, "/named"));
        assert_ne!(mounts(&seen, "/anon"), mounts(&source, "/anon"));
        assert!(nerdctl(&["logs", &name]).starts_with("line 1"));
    }
    let names = stage.loom(&["ls"]);
    for name in ["web", "try-1", "try-8"] {
        assert!(names.split_whitespace().any(|word| word == name), "{name} is not called so:\n{names}");
    }
    let operations = stage.loom_json(&["operations"]);
    assert!(operations[0]["warnings"].to_string().contains("published"), "{operations}");
    assert_eq!(nerdctl(&["port", "web"]), "80/tcp -> 0.0.0.0:18080");
    assert!(nerdctl(&["network", "inspect", "bridge"]).contains("bridge"));
    assert_eq!(inspect(&stage, "web")["State"]["Status"], "running");

    // What one writes no other sees, but in a shared volume.
    sh(&stage, "try-1", "echo mine >/www/state; echo mine >/anon/f; echo all >/named/f");
    for other in ["web", "try-2"] {
        assert_eq!(sh(&stage, other, "cat /www/state /anon/f /named/f"), "kept\nown\nall");
    }
    nerdctl(&["stop", "-t", "1", "try-1"]);
    nerdctl(&["start", "try-1"]);
    assert_eq!(sh(&stage, "try-1", "cat /www/state /anon/f"), "mine\nmine");
    wait_until("an answer", || get(&inspect(&stage, "try-1"), "state") == "mine");

    // One goes, and the source stays; the source goes, and the others stay.
    nerdctl(&["rm", "-f", "-v", "try-2"]);
    assert_eq!(get(&inspect(&stage, "web"), "state"), "kept");
    assert_eq!(sh(&stage, "web", "cat /anon/f"), "own");
    nerdctl(&["rm", "-f", "-v", "web"]);
    for name in ["try-3", "try-8"] {
        nerdctl(&["restart", "-t", "1", name]);
        assert_eq!(sh(&stage, name, "cat /www/state /anon/f"), "kept\nown");
        wait_until("an answer", || get(&inspect(&stage, name), "state") == "kept");
    }
    let rest: Vec<String> = [1, 3, 4, 5, 6, 7, 8].iter().map(|n| format!("try-{n}")).collect();
    nerdctl(&[vec!["rm", "-f", "-v"], rest.iter().map(String::as_str).collect()].concat());
    nerdctl(&["volume", "rm", "named"]);
    wait_until_bare(&stage);
}

/// What can be different in a fork, and what is refused.
fn changed(stage: Stage) {
    let nerdctl = |args: &[&str]| stage.containerd.nerdctl(args);
    begin(&stage);
    web(
        &stage,
        "web",
        &["-v", "named:/named", "--hostname", "shop", "--restart", "always", "-p", "18080:80"],
    );
    sh(&stage, "web", "echo then >/named/f; echo kept >/www/state");
    let image = inspect(&stage, "web")["Image"].clone();

    stage.fork(&[
        "web",
        "--name",
        "own",
        "--volumes",
        "clone",
        "--env",
        "CHANGED=yes",
        "--env",
        "KEPT",
        "--label",
        "app=",
        "--label",
        "tier=test",
        "-p",
        "18081:80",
        "--",
        "sh",
        "-c",
        "echo other command; httpd -f -p 80 -h /www",
    ]);
    sh(&stage, "web", "echo now >/named/f");
    assert_eq!(
        sh(&stage, "own", "cat /named/f; hostname; echo $CHANGED-$KEPT-$HOSTNAME"),
        "then\nshop\nyes--shop"
    );
    let seen = inspect(&stage, "own");
    let labels = &seen["Config"]["Labels"];
    assert_eq!((&labels["app"], &labels["tier"]), (&Value::Null, &json!("test")));
    assert_eq!(seen["Image"], image);
    assert_eq!(nerdctl(&["port", "own"]), "80/tcp -> 0.0.0.0:18081");
    wait_until("the published port", || answer("127.0.0.1:18081", "state").is_ok_and(|said| said == "kept"));
    assert_eq!(nerdctl(&["logs", "own"]), "other command");
    assert!(nerdctl(&["volume", "ls", "-q"]).contains("own_named"));

    // Refused, and nothing stays.
    let before = nerdctl(&["ps", "-aq"]);
    stage.loom_fails(4, &["fork", "web", "--name", "own"]);
    let said = stage.loom_fails(4, &["fork", "web", "--name", "port", "-p", "18081:80"]);
    assert!(said.contains("already allocated"), "{said}");
    assert_eq!(nerdctl(&["ps", "-aq"]), before);
    nerdctl(&["volume", "create", "late_named"]);
    let said = stage.loom_fails(4, &["fork", "web", "--name", "late", "--volumes", "clone"]);
    assert!(said.contains("late_named"), "{said}");
    nerdctl(&["volume", "rm", "late_named"]);

    // One that does not start is told in its place.
    let said = stage.loom_fails(4, &["fork", "web", "--name", "bad", "--", "/no/such"]);
    assert!(said.contains("/no/such"), "{said}");
    let stopped = stage.loom_json(&["fork", "web", "--name", "later", "--no-start"]);
    assert_eq!(stopped["forks"][0]["pid"], Value::Null);
    assert!(!nerdctl(&["ps", "--format", "{{.Names}}"]).contains("later"));
    nerdctl(&["start", "later"]);
    assert_eq!(sh(&stage, "later", "cat /www/state"), "kept");

    // What expires takes the copies along that were made for it, and nothing else.
    stage.fork(&["web", "--name", "brief", "--volumes", "clone", "--ttl", "1s"]);
    wait_until_none("a container that has expired, or its volume", || {
        let left =
            nerdctl(&["ps", "-a", "--format", "{{.Names}}"]) + "\n" + &nerdctl(&["volume", "ls", "-q"]);
        left.lines().filter(|name| name.starts_with("brief")).map(str::to_owned).collect()
    });
    assert_eq!(sh(&stage, "web", "cat /named/f"), "now");

    nerdctl(&["rm", "-f", "-v", "web", "own", "later"]);
    nerdctl(&["volume", "rm", "named", "own_named"]);
    wait_until_bare(&stage);
}

/// Ten generations, each of the one before, which goes then; at last without the image. A state is kept, and
/// cloned when all is gone.
fn generations(stage: Stage) {
    let nerdctl = |args: &[&str]| stage.containerd.nerdctl(args);
    begin(&stage);
    web(&stage, "g0", &["-v", "/anon", "--net", "none"]);
    for n in 1..=10 {
        let (before, name) = (format!("g{}", n - 1), format!("g{n}"));
        sh(&stage, &before, &format!("echo {n} >>/root/all; echo {n} >>/anon/all"));
        stage.fork(&[&before, "--name", &name]);
        nerdctl(&["rm", "-f", "-v", &before]);
        if n == 5 {
            stage.containerd.ctr(&["images", "rm", "--sync", &small().name]);
        }
    }
    let all = (1..=10).map(|n: i32| n.to_string()).collect::<Vec<_>>().join("\n");
    assert_eq!(sh(&stage, "g10", "cat /root/all"), all);
    assert_eq!(sh(&stage, "g10", "cat /anon/all"), all);
    stage.loom(&["snapshot", "g10", "--name", "kept"]);
    nerdctl(&["rm", "-f", "-v", "g10"]);
    stage.loom(&["clone", "kept", "--name", "again"]);
    assert_eq!(sh(&stage, "again", "cat /root/all; ls /anon"), all);
    nerdctl(&["restart", "-t", "1", "again"]);
    nerdctl(&["rm", "-f", "-v", "again"]);
    stage.loom(&["rm", "kept"]);
    wait_until_bare(&stage);
}

/// Without a nerdctl where the container's was, nothing is done.
fn without(stage: Stage) {
    begin(&stage);
    let moved = stage.scratch.path().join("nerdctl-here");
    fs::copy(support::containerd::tools().join("nerdctl"), &moved).unwrap();
    let command = stage.containerd.nerdctl_command(
        "loom",
        &["run", "-d", "--net=none", "--name", "web", &small().name, "sleep", "1000"],
    );
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let mut own = Command::new(&moved);
    own.args(args).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    support::process::succeed(&mut own);
    let away = moved.with_extension("away");
    fs::rename(&moved, &away).unwrap();
    let said = stage.loom_fails(4, &["fork", "web", "--name", "try"]);
    assert!(said.contains(moved.to_str().unwrap()), "{said}");
    fs::rename(&away, &moved).unwrap();
    stage.containerd.nerdctl(&["rm", "-f", "web"]);
    wait_until_bare(&stage);
}

/// Whatever step fails, and wherever loomd dies, nothing stays of the fork, and it can be asked for again.
fn interrupted(mut stage: Stage) {
    begin(&stage);
    web(&stage, "web", &["-v", "/anon", "--net", "none"]);
    sh(&stage, "web", "echo own >/anon/f");
    let source = inspect(&stage, "web")["Id"].as_str().unwrap().to_owned();
    for point in [
        "containerd.nerdctl.trail",
        "containerd.nerdctl.volume",
        "containerd.nerdctl.fill",
        "containerd.image.create",
        "containerd.nerdctl.create",
        "containerd.nerdctl.place",
        "containerd.branch.prepare",
        "containerd.container.update",
        "containerd.nerdctl.start",
        "operation.end",
    ] {
        for action in ["error", "abort"] {
            stage.loomd.stop();
            stage.loomd.env("LOOM_FAULT", format!("{point}:{action}"));
            stage.start_again();
            let socket = stage.loomd.ttrpc_socket();
            let args = ["fork", "web", "--name", "try", "--count", "2"];
            let output = support::loom::try_loom(&socket, &args);
            let told = support::process::said(&output);
            stage.loomd.stop();
            stage.loomd.env_remove("LOOM_FAULT");
            stage.start_again();
            assert!(!output.status.success(), "{point}:{action}: {told}");
            // What fails for one of two leaves the other; what dies leaves none.
            let expected = usize::from(action == "error" && told.contains("loom: try-"));
            wait_until(&format!("{point}:{action} to be undone ({told})"), || {
                let ids = stage.containerd.nerdctl(&["ps", "-aq", "--no-trunc"]);
                let volumes = stage.containerd.nerdctl(&["volume", "ls", "-q"]);
                ids.contains(&source) && [ids, volumes].iter().all(|all| all.lines().count() == 1 + expected)
            });
            if expected == 1 {
                let names = ["try-1", "try-2"].iter();
                names.for_each(|name| drop(stage.containerd.try_nerdctl(&["rm", "-f", "-v", name])));
            }
            assert_eq!(sh(&stage, "web", "cat /anon/f"), "own");
        }
    }
    stage.fork(&["web", "--name", "try", "--count", "2"]);
    stage.containerd.nerdctl(&["rm", "-f", "-v", "try-1", "try-2", "web"]);
    wait_until_bare(&stage);
}

/// A containerd that goes away in the middle: nothing stays of the fork once it is back.
fn away(mut stage: Stage) {
    begin(&stage);
    web(&stage, "web", &["-v", "/anon", "-v", "named:/named", "--net", "none"]);
    let source = inspect(&stage, "web")["Id"].as_str().unwrap().to_owned();
    let socket = stage.loomd.ttrpc_socket();
    let fork = std::thread::spawn(move || {
        support::loom::try_loom(
            &socket,
            &["fork", "web", "--name", "try", "--count", "3", "--volumes", "clone"],
        )
    });
    wait_until("its volumes", || {
        stage.containerd.try_nerdctl(&["volume", "inspect", "try-2_named"]).status.success()
    });
    stage.containerd.stop();
    let output = fork.join().unwrap();
    assert!(!output.status.success());
    stage.containerd.start();
    wait_until("the fork to be undone", || {
        let ids = stage.containerd.nerdctl(&["ps", "-aq", "--no-trunc"]);
        let volumes = stage.containerd.nerdctl(&["volume", "ls", "-q"]);
        ids == source && volumes.lines().count() == 2
    });
    wait_until("the operation to end", || stage.loom_json(&["operations"])[0]["state"] == "failed");
    stage.containerd.nerdctl(&["rm", "-f", "-v", "web"]);
    stage.containerd.nerdctl(&["volume", "rm", "named"]);
    wait_until_bare(&stage);
}

macro_rules! on {
    ($($scenario:ident),+) => { $(
        mod $scenario {
            use super::{Layout, Stage, Version};

            #[test]
            fn on_ext4_with_debians_containerd() {
                super::$scenario(Stage::new(Layout::Ext4, Version::Debian));
            }

            #[test]
            fn with_a_pool_and_the_current_containerd() {
                super::$scenario(Stage::new(Layout::Ext4Pool, Version::Current));
            }
        }
    )+ };
}
on!(eight, changed, generations, without, interrupted, away);
