//! An image is made of a container in a moment, with nothing moved; containerd's and nerdctl's own verbs take it as
//! theirs, and it goes as theirs do.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::thread;

use serde_json::{Value, json};
use support::containerd::Version;
use support::image::small;
use support::layout::Layout;
use support::stage::{Stage, on_every_stage, on_stages};
use support::wait::{wait_until, wait_until_none};

on_every_stage!(moments);

on_stages! {
    described_for_nerdctl: described(Ext4Pool, Current);
    generations_on_ext4: generations(Ext4, Debian);
    generations_with_a_pool: generations(Ext4Pool, Current);
    orphans_on_ext4: orphans(Ext4, Debian);
    orphans_with_a_pool: orphans(Ext4Pool, Current);
    refused_with_a_reason: refused(Ext4Pool, Current);
    at_once_on_ext4: at_once(Ext4, Debian);
    at_once_with_a_pool: at_once(Ext4Pool, Current);
    interrupted_on_ext4: interrupted(Ext4, Debian);
    interrupted_with_a_pool: interrupted(Ext4Pool, Current);
}

/// Starts a container of ctr's that waits, and writes its state.
fn start(stage: &Stage, image: &str, name: &str) {
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", image, name, "sleep", "10000"]);
}

/// What a command in a container of ctr's prints.
fn sh(stage: &Stage, name: &str, script: &str) -> String {
    stage.containerd.exec(name, &["sh", "-c", script]).trim_end().to_owned()
}

/// What a command prints in a container of an image that goes when it ends, by ctr.
fn once(stage: &Stage, image: &str, script: &str) -> String {
    let image = format!("docker.io/library/{image}");
    stage.containerd.once(&image, &["sh", "-c", script]).trim_end().to_owned()
}

fn commit(stage: &Stage, reference: &str, image: &str, more: &[&str]) -> Value {
    stage.loom_json(&[&["commit", reference, image], more].concat())
}

/// The names of containerd's images, and the digests of its content.
fn store(stage: &Stage) -> Vec<String> {
    let mut all = stage.containerd.images();
    all.extend(stage.containerd.ctr(&["content", "ls", "-q"]).lines().map(str::to_owned));
    all.sort();
    all
}

/// Removes all containers and images, and waits until nothing is left.
fn end(stage: &Stage) {
    stage.containerd.remove_all();
    for image in stage.containerd.images() {
        stage.containerd.ctr(&["images", "rm", "--sync", &image]);
    }
    stage.wait_until_empty();
    wait_until_none("content", || {
        stage.containerd.collect();
        store(stage)
    });
}

/// Ten images of one running container, each of its own moment, which go in any order.
fn moments(stage: Stage) {
    let nerdctl = |args: &[&str]| stage.containerd.nerdctl(args);
    let base = stage.import(&small());
    nerdctl(&["run", "-d", "--net=none", "--name", "web", &base, "sleep", "10000"]);
    let exec = |script: &str| nerdctl(&["exec", "web", "sh", "-c", script]);
    let (image, name) = (|n: usize| format!("app:{n}"), |n: usize| format!("docker.io/library/app:{n}"));
    for n in 1..=10 {
        exec(&format!("echo {n} >>/root/all; echo {n} >/root/{n}; rm -f /root/{}", n - 1));
        let made = commit(&stage, "web", &image(n), &[]);
        assert_eq!((&made["image"]["name"], &made["image"]["portable"]), (&json!(name(n)), &json!(false)));
        assert!(made["cost"]["paused_us"].as_u64() > Some(0), "{made}");
        println!("commit | {:?} | {:?} | {}", stage.layout, stage.containerd.version, made["cost"]);
        if n % 3 == 0 {
            stage.collect();
        }
    }
    exec("echo more >>/root/all");
    let state = |image: &str| once(&stage, image, "cd /root; cat all; ls");
    let wanted = |n: usize| {
        let lines = (1..=n).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
        format!("{lines}\n{n}\nall")
    };
    for n in 1..=10 {
        assert_eq!(state(&image(n)), wanted(n));
    }
    let listed = nerdctl(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    for n in 1..=10 {
        assert!(listed.lines().any(|line| line == image(n)), "{listed}");
    }
    let seen = stage.loom_json(&["images"]);
    assert_eq!(
        seen.as_array().unwrap().iter().filter(|image| image["portable"] == false).count(),
        10,
        "{seen}"
    );

    // Containers on some; the source and its image go before them.
    for n in [3, 7] {
        nerdctl(&["run", "-d", "--net=none", "--name", &format!("on-{n}"), &image(n)]);
    }
    nerdctl(&["rm", "-f", "web"]);
    nerdctl(&["rmi", &base]);
    stage.collect();
    for n in [2, 10] {
        assert_eq!(state(&image(n)), wanted(n));
    }

    let refused = stage.containerd.try_nerdctl(&["rmi", &image(3)]);
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("running container")
    );
    for n in [5, 1, 10, 2] {
        nerdctl(&["rmi", &image(n)]);
        stage.collect();
        assert_eq!(nerdctl(&["exec", "on-3", "cat", "/root/all"]), "1\n2\n3");
        assert_eq!(state(&image(9)), wanted(9));
    }
    // By force it loses its name, and the container on it goes on.
    nerdctl(&["rmi", "-f", &image(7)]);
    stage.collect();
    nerdctl(&["restart", "-t", "1", "on-7"]);
    assert_eq!(nerdctl(&["exec", "on-7", "cat", "/root/7"]), "7");
    nerdctl(&["rm", "-f", "on-7", "on-3"]);
    nerdctl(&["rmi", &image(9), &image(3), &image(8), &image(4), &image(6)]);
    end(&stage);
}

/// What an image says of itself is what its container was started with, and what it was told; nerdctl shows it.
fn described(stage: Stage) {
    let nerdctl = |args: &[&str]| stage.containerd.nerdctl(args);
    let base = stage.import(&small());
    let run =
        ["run", "-d", "--net=none", "--name", "web", "--hostname", "shop", "-e", "KEPT=1", "-w", "/srv"];
    let user = ["--user", "12:34", "--entrypoint", "sh", &base, "-c", "sleep 10000", "arg"];
    nerdctl(&[&run[..], &user].concat());
    let changes = [
        "ENV PATH=/opt/bin:$PATH TOLD=\"two words\"",
        "EXPOSE 80 8000-8001/udp",
        "LABEL org.example.a=b",
        "VOLUME /data",
        "STOPSIGNAL SIGINT",
        "HEALTHCHECK --interval=30s CMD true",
        "WORKDIR sub",
    ];
    let changes: Vec<&str> = changes.iter().flat_map(|change| ["--change", change]).collect();
    let said = ["--author", "A. Uthor", "--message", "as it was"];
    commit(&stage, "web", "localhost:5000/shop/app:v1", &[&changes[..], &said].concat());
    let native = nerdctl(&["image", "inspect", "--mode", "native", "localhost:5000/shop/app:v1"]);
    let mut native: Value = serde_json::from_str(&native).unwrap();
    let config = &mut native[0]["ImageConfig"];
    // nerdctl makes a label of it.
    let labels = config["config"]["Labels"].as_object_mut().unwrap();
    assert!(labels.remove("nerdctl/healthcheck").unwrap().to_string().contains("CMD-SHELL"));
    assert_eq!(
        config["config"],
        json!({
            "User": "12:34",
            "ExposedPorts": {"80/tcp": {}, "8000/udp": {}, "8001/udp": {}},
            "Env": ["PATH=/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "KEPT=1",
                    "TOLD=two words"],
            "Cmd": ["sh", "-c", "sleep 10000", "arg"],
            "Volumes": {"/data": {}},
            "WorkingDir": "/srv/sub",
            "Labels": {"org.example.a": "b"},
            "StopSignal": "SIGINT",
        })
    );
    assert_eq!(config["author"], "A. Uthor");
    assert_eq!(config["history"].as_array().unwrap().len(), 2);
    let seen: Value = serde_json::from_str(&nerdctl(&["inspect", "localhost:5000/shop/app:v1"])).unwrap();
    assert_eq!((&seen[0]["Comment"], &seen[0]["Author"]), (&json!("as it was"), &json!("A. Uthor")));
    let history = nerdctl(&["history", "localhost:5000/shop/app:v1"]);
    assert_eq!(history.lines().count(), 3, "{history}");
    assert!(history.contains("sh -c sleep 10000 arg") && history.contains("as it was"), "{history}");

    // Its process starts as it says, and a container of it can be committed by either.
    nerdctl(&["run", "-d", "--net=none", "--name", "next", "localhost:5000/shop/app:v1"]);
    let told = nerdctl(&["exec", "next", "sh", "-c", "id -u; id -g; pwd; echo $KEPT $TOLD"]);
    assert_eq!(told, "12\n34\n/srv/sub\n1 two words");
    commit(&stage, "next", "shop/app:v2", &["--change", "CMD [\"echo\", \"hello\"]"]);
    assert_eq!(nerdctl(&["run", "--rm", "--net=none", "shop/app:v2"]), "hello");
    nerdctl(&["commit", "next", "shop/app:v3"]);
    assert_eq!(nerdctl(&["run", "--rm", "--net=none", "shop/app:v3", "pwd"]), "/srv/sub");
    let seen = stage.loom_json(&["images"]);
    let names: Vec<_> =
        seen.as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap()).collect();
    assert!(
        names.contains(&"docker.io/shop/app:v2") && names.contains(&"docker.io/shop/app:v3"),
        "{names:?}"
    );

    // Only a portable one can be given another name by nerdctl.
    assert!(!stage.containerd.try_nerdctl(&["tag", "shop/app:v2", "other"]).status.success());
    stage.loom(&["tag", "shop/app:v2", "other"]);
    nerdctl(&["rmi", "shop/app:v2"]);
    assert_eq!(nerdctl(&["run", "--rm", "--net=none", "other"]), "hello");
    nerdctl(&["rm", "-f", "web", "next"]);
    end(&stage);
}

/// Images of containers of images of containers, of what has stopped, and of snapshots; in a namespace in which
/// nobody may fork by label.
fn generations(mut stage: Stage) {
    stage.containerd.namespace = "k8s.io".into();
    let base = stage.import(&small());
    start(&stage, &base, "g0");
    for n in 1..=4 {
        let (before, name, image) = (format!("g{}", n - 1), format!("g{n}"), format!("gen:{n}"));
        sh(&stage, &before, &format!("echo {n} >>/root/all"));
        commit(&stage, &before, &image, &[]);
        start(&stage, &format!("docker.io/library/{image}"), &name);
    }
    assert_eq!(sh(&stage, "g4", "cat /root/all"), "1\n2\n3\n4");
    let seen = stage.loom_json(&["images"]);
    assert_eq!(seen.as_array().unwrap().len(), 5, "{seen}");
    assert!(seen.as_array().unwrap().iter().all(|image| image["namespace"] == "k8s.io"), "{seen}");

    // What has stopped is as it was, and was not paused.
    stage.containerd.ctr(&["tasks", "kill", "-s", "KILL", "g4"]);
    wait_until("its end", || stage.containerd.status_of("g4").as_deref() != Some("RUNNING"));
    stage.containerd.ctr(&["tasks", "rm", "g4"]);
    let made = commit(&stage, "g4", "stopped", &[]);
    assert_eq!(made["cost"]["paused_us"], 0, "{made}");
    assert_eq!(once(&stage, "stopped:latest", "cat /root/all"), "1\n2\n3\n4");

    // A snapshot is an image twice, and both are one layer.
    stage.loom(&["snapshot", "g2", "--name", "kept"]);
    sh(&stage, "g2", "echo later >>/root/all");
    let first = commit(&stage, "kept", "kept:1", &[]);
    let second = commit(&stage, "snapshot:kept", "kept:2", &["--message", "again"]);
    assert_eq!(first["image"]["chain_id"], second["image"]["chain_id"]);
    assert_ne!(first["image"]["digest"], second["image"]["digest"]);
    stage.containerd.ctr(&["images", "rm", "--sync", "docker.io/library/kept:1"]);
    stage.loom(&["rm", "kept"]);
    stage.collect();
    assert_eq!(once(&stage, "kept:2", "cat /root/all"), "1\n2\n3");

    // An image can be branched as the state that it was made of.
    stage.loom(&["clone", "image:kept:2", "--name", "cloned"]);
    assert_eq!(sh(&stage, "cloned", "cat /root/all"), "1\n2\n3");
    let said = stage.loom_fails(4, &["clone", &format!("image:{base}"), "--name", "none"]);
    assert!(said.contains("no state of a container"), "{said}");
    end(&stage);
}

/// A fork is committed when all that it came of is gone.
fn orphans(stage: Stage) {
    let base = stage.import(&small());
    start(&stage, &base, "source");
    sh(&stage, "source", "echo state >/root/state");
    stage.fork(&["source", "--name", "fork"]);
    stage.containerd.remove(&["source"]);
    stage.containerd.ctr(&["images", "rm", "--sync", &base]);
    stage.collect();
    commit(&stage, "fork", "whole", &["--change", "CMD cat /root/state"]);
    let told = stage.loom_json(&["operations"]);
    assert!(told[0]["warnings"].to_string().contains("is gone"), "{told}");
    stage.containerd.remove(&["fork"]);
    stage.collect();
    assert_eq!(once(&stage, "whole:latest", "cat /root/state; ls /bin/sh"), "state\n/bin/sh");
    // One that runs on it is committed in its turn.
    start(&stage, "docker.io/library/whole:latest", "next");
    sh(&stage, "next", "echo more >>/root/state");
    commit(&stage, "next", "next", &[]);
    assert_eq!(once(&stage, "next:latest", "cat /root/state"), "state\nmore");
    end(&stage);
}

/// What cannot be done is refused with a reason, and leaves nothing.
fn refused(stage: Stage) {
    let base = stage.import(&small());
    start(&stage, &base, "web");
    stage.loom(&["snapshot", "web", "--name", "kept"]);
    commit(&stage, "web", "taken", &[]);
    let before = (stage.inventory(), store(&stage));
    for (status, args, part) in [
        (4, &["commit", "web", "taken"][..], "already exists"),
        (2, &["commit", "web", "Upper"], "Upper"),
        (2, &["commit", "web", "a@sha256:0"], "digest"),
        (2, &["commit", "web", "new", "--change", "EXPOSE no"], "EXPOSE PORT"),
        (2, &["commit", "web", "new", "--change", "HEALTHCHECK maybe"], "HEALTHCHECK"),
        (3, &["commit", "nobody", "new"], "nobody"),
        (3, &["commit", "image:nobody", "new"], "nobody"),
        (4, &["commit", &format!("image:{base}"), "new"], "no state of a container"),
        (3, &["tag", "nobody", "new"], "nobody"),
        (2, &["tag", "taken", "Upper"], "Upper"),
    ] {
        let output = support::loom::try_loom(&stage.loomd.ttrpc_socket(), args);
        let said = support::process::said(&output);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {said}");
    }
    stage.wait_until_again(&before.0, "what was refused");
    assert_eq!(store(&stage), before.1);

    // A name is taken over only where that is asked for; what had it goes.
    let made = commit(&stage, "web", "taken", &["--replace"]);
    assert_eq!(once(&stage, "taken:latest", "echo runs"), "runs");
    let images = stage.containerd.ctr(&["images", "ls"]);
    assert!(images.contains(made["image"]["digest"].as_str().unwrap()), "{images}");
    wait_until("the old one to go", || {
        stage.collect();
        stage.inventory().len() == before.0.len() && store(&stage).len() == before.1.len()
    });
    stage.loom(&["rm", "kept"]);
    end(&stage);
}

/// Several at once do not disturb each other.
fn at_once(stage: Stage) {
    let base = stage.import(&small());
    start(&stage, &base, "web");
    sh(&stage, "web", "echo state >/root/state");
    let outcomes: Vec<bool> = thread::scope(|scope| {
        let names = ["a", "b", "c", "same", "same"];
        let running = names.map(|name| {
            let stage = &stage;
            scope.spawn(move || {
                let args = ["commit", "web", name];
                support::loom::try_loom(&stage.loomd.ttrpc_socket(), &args).status.success()
            })
        });
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes[..3], [true, true, true]);
    assert!(outcomes[3] != outcomes[4], "one of them has the name: {outcomes:?}");
    // One snapshot in several images at once is one layer.
    stage.loom(&["snapshot", "web", "--name", "kept"]);
    thread::scope(|scope| {
        for n in 1..=4 {
            let stage = &stage;
            scope.spawn(move || commit(stage, "kept", &format!("kept:{n}"), &[]));
        }
    });
    stage.loom(&["rm", "kept"]);
    stage.collect();
    for image in ["a:latest", "b:latest", "c:latest", "same:latest", "kept:1", "kept:2", "kept:3", "kept:4"] {
        assert_eq!(once(&stage, image, "cat /root/state"), "state", "{image}");
    }
    assert_eq!(stage.containerd.leases(), Vec::<String>::new());
    end(&stage);
}

/// Wherever it fails, and wherever loomd dies, nothing of it stays, what it was to replace is there, and it can be
/// asked for again.
fn interrupted(mut stage: Stage) {
    let base = stage.import(&small());
    start(&stage, &base, "web");
    sh(&stage, "web", "echo old >/root/state");
    commit(&stage, "web", "app", &[]);
    sh(&stage, "web", "echo new >/root/state");
    // What the collector has not come to is no part of it.
    stage.containerd.collect();
    let before = (stage.inventory(), store(&stage));
    for point in [
        "snapshot.state.insert",
        "containerd.lease.create",
        "containerd.commit.publish",
        "snapshot.publish",
        "containerd.content.write",
        "containerd.commit.name",
        "operation.end",
    ] {
        for action in ["error", "abort"] {
            let when = format!("{point}:{action}");
            stage.loomd.stop();
            stage.loomd.env("LOOM_FAULT", when.clone());
            stage.start_again();
            let args = ["commit", "web", "app", "--replace", "--idempotency-key", &when];
            let output = support::loom::try_loom(&stage.loomd.ttrpc_socket(), &args);
            let told = support::process::said(&output);
            assert!(!output.status.success(), "{when}: {told}");
            stage.loomd.stop();
            stage.loomd.env_remove("LOOM_FAULT");
            stage.start_again();
            stage.wait_until_again(&before.0, &when);
            wait_until(&format!("the content there was, after {when}"), || {
                stage.containerd.collect();
                store(&stage) == before.1
            });
            assert_eq!(once(&stage, "app:latest", "cat /root/state"), "old", "{when}");
        }
    }
    commit(&stage, "web", "app", &["--replace", "--idempotency-key", "operation.end:abort"]);
    assert_eq!(once(&stage, "app:latest", "cat /root/state"), "new");
    end(&stage);
}
