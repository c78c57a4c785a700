//! The rules of a fork's record, over what nerdctl 2.3 and 1.7 have written.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};

use containerd_client::services::v1::Container;
use serde_json::{Value, json};

use super::create::args;
use super::merge::merged;
use super::volume::Volume;
use super::*;
use crate::containerd::spec;
use crate::error::Kind;
use crate::store::Id;

const SOURCE: &str = "f98055e51ab4a446fbf80819702f5c828529b2759901289894f64fbe33d9850d";
const FORK: &str = "3235994f404aaf441619a4d3fe8de1e8be5a54d6c7fb3817385e4400bcb47a11";
const ANONYMOUS: &str = "6f007cc84992ad958dc9b0bbc7aa93834849e03a14c87739a140e96761aa74fd";

/// A container as nerdctl makes it.
fn container(id: &str, name: &str, labels: &[(&str, &str)], spec: &Value) -> Container {
    let state = format!("/data/1bd98e6d/containers/default/{id}");
    let mut all: HashMap<String, String> = [
        ("io.containerd.image.config.stop-signal", "SIGTERM"),
        ("nerdctl/auto-remove", "false"),
        ("nerdctl/host-config", "{\"BlkioWeight\":0,\"CidFile\":\"/ids/1\",\"Devices\":null}"),
        ("nerdctl/hostname", &id[..12]),
        ("nerdctl/ipc", "{\"mode\":\"private\"}"),
        ("nerdctl/log-uri", "binary:///bin/nerdctl?x"),
        ("nerdctl/name", name),
        ("nerdctl/namespace", "default"),
        ("nerdctl/networks", "[\"bridge\"]"),
        ("nerdctl/platform", "linux/amd64"),
        ("nerdctl/state-dir", &state),
    ]
    .into_iter()
    .chain(labels.iter().copied())
    .map(|(label, value)| (label.to_owned(), value.to_owned()))
    .collect();
    all.retain(|_, value| value != "-");
    Container {
        id: id.to_owned(),
        labels: all,
        image: "localhost/img:1".to_owned(),
        snapshotter: "loom".to_owned(),
        snapshot_key: id.to_owned(),
        spec: Some(spec::write(spec)),
        ..Container::default()
    }
}

fn spec_of(id: &str) -> Value {
    let state = format!("/data/1bd98e6d/containers/default/{id}");
    let bind = |to: &str, from: &str| json!({"destination": to, "type": "bind", "source": from, "options": ["bind"]});
    json!({
        "process": {"args": ["true"], "env": ["PATH=/bin", format!("HOSTNAME={}", &id[..12])], "terminal": false},
        "hostname": &id[..12],
        "mounts": [
            bind("/etc/resolv.conf", &format!("{state}/resolv.conf")),
            bind("/etc/hosts", &format!("/data/1bd98e6d/etchosts/default/{id}/hosts")),
            bind("/etc/hostname", &format!("{state}/hostname")),
        ],
        "hooks": {"createRuntime": [{
            "path": "/bin/sh",
            "args": ["/bin/sh", "--H=/c.sock", "--a=/c.sock", "--address=/c.sock", "--data-root=/data",
                "--debug-full=true", "--namespace=default", "--snapshotter=loom", "internal", "oci-hook", "createRuntime"],
            "env": ["PATH=/bin", "NERDCTL_TOML=/none", "SECRET=1", "=", "CNI_PATH=/cni"],
        }]},
        "linux": {
            "cgroupsPath": format!("/default/{id}"),
            "namespaces": [{"type": "pid"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network"}],
        },
        "annotations": {"nerdctl/name": "", "nerdctl/state-dir": state},
    })
}

/// A source with all that a user can give it, as nerdctl 2.3 writes it.
fn source() -> Container {
    let mut spec = spec_of(SOURCE);
    spec["process"]["args"] = json!(["sh", "-c", "work"]);
    spec["process"]["env"].as_array_mut().unwrap().push(json!("A=b"));
    spec["process"]["terminal"] = json!(true);
    spec["linux"]["resources"] = json!({"memory": {"limit": 67_108_864}});
    spec["annotations"]["user"] = json!("annotation");
    let volume = |name: &str| format!("/data/1bd98e6d/volumes/default/{name}/_data");
    let mounts = spec["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm"}));
    mounts
        .push(json!({"destination": "/bind", "type": "none", "source": "/srv", "options": ["rbind", "ro"]}));
    mounts.push(
        json!({"destination": "/named", "type": "none", "source": volume("named"), "options": ["rbind"]}),
    );
    mounts.push(
        json!({"destination": "/anon", "type": "none", "source": volume(ANONYMOUS), "options": ["rbind"]}),
    );
    let label = |kind: &str, name: &str, source: &str, at: &str| {
        json!({"Type": kind, "Name": name, "Source": source, "Destination": at, "Mode": ""}).to_string()
    };
    container(
        SOURCE,
        "web",
        &[
            ("app", "shop"),
            ("loom.operation", "77"),
            ("containerd.io/restart.policy", "always"),
            ("containerd.io/restart.count", "7"),
            ("nerdctl/error", "it failed once"),
            ("nerdctl/ip", "10.4.0.9"),
            ("nerdctl/mac-address", "02:00:00:00:00:01"),
            ("nerdctl/extraHosts", "[\"db:10.0.0.1\"]"),
            (
                "nerdctl/dns",
                "{\"DNSServers\":[\"1.2.3.4\"],\"DNSResolvConfOptions\":null,\"DNSSearchDomains\":null}",
            ),
            (
                "nerdctl/log-config",
                "{\"driver\":\"json-file\",\"opts\":{\"max-size\":\"1m\",\"log-path\":\"/own\"}}",
            ),
            ("nerdctl/anonymous-volumes", &json!([ANONYMOUS]).to_string()),
            ("nerdctl/mounts.0", &label("bind", "", "/srv", "/bind")),
            ("nerdctl/mounts.1", &label("volume", "named", &volume("named"), "/named")),
            ("nerdctl/mounts.2", &label("volume", ANONYMOUS, &volume(ANONYMOUS), "/anon")),
        ],
        &spec,
    )
}

fn captured(container: &Container) -> Captured {
    Captured::of("default", container).unwrap()
}

/// The source's fork, with a volume of its own in place of the anonymous one.
fn fork(asked: &[(&str, &str)], changes: &Changes) -> (Container, Value) {
    let made = container(FORK, "try", &[("loom.operation", "88"), ("nerdctl/ip", "-")], &spec_of(FORK));
    let volume = Volume {
        name: "own".into(),
        path: "/data/own".into(),
        of: ANONYMOUS.into(),
        of_path: format!("/data/1bd98e6d/volumes/default/{ANONYMOUS}/_data"),
        anonymous: true,
    };
    let asked: BTreeMap<_, _> = asked.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let fork = merged(&captured(&source()), &made, &[volume], &asked, changes).unwrap();
    let spec = spec::read(&fork).unwrap();
    (fork, spec)
}

#[test]
fn a_fork_is_its_source_but_for_its_identity() {
    let (fork, spec) = fork(&[], &Changes::default());
    assert_eq!((fork.id.as_str(), fork.snapshot_key.as_str()), (FORK, FORK));
    assert_eq!(fork.image, "localhost/img:1");
    assert_eq!(spec["process"]["args"], json!(["sh", "-c", "work"]));
    assert_eq!(spec["process"]["env"], json!(["PATH=/bin", format!("HOSTNAME={}", &FORK[..12]), "A=b"]));
    assert_eq!(spec["process"]["terminal"], true);
    assert_eq!(spec["hostname"], FORK[..12]);
    assert_eq!(spec["linux"]["cgroupsPath"], format!("/default/{FORK}"));
    assert_eq!(spec["linux"]["resources"]["memory"]["limit"], 67_108_864);
    assert_eq!(spec["hooks"], spec_of(FORK)["hooks"]);
    assert_eq!(spec["annotations"]["user"], "annotation");
    assert_eq!(spec["annotations"]["nerdctl/name"], "try");
    assert_eq!(spec["annotations"]["nerdctl/extraHosts"], "[\"db:10.0.0.1\"]");
    assert!(!spec.to_string().contains(SOURCE), "{spec}");
    assert!(!format!("{:?}", fork.labels).contains(SOURCE), "{:?}", fork.labels);
    for (label, want) in [
        ("app", Some("shop")),
        ("loom.operation", Some("88")),
        ("containerd.io/restart.policy", None),
        ("containerd.io/restart.count", None),
        ("nerdctl/error", None),
        ("nerdctl/ip", None),
        ("nerdctl/mac-address", None),
        ("nerdctl/host-config", Some("{\"BlkioWeight\":0,\"CidFile\":\"\",\"Devices\":null}")),
        ("nerdctl/anonymous-volumes", Some("[\"own\"]")),
    ] {
        assert_eq!(fork.labels.get(label).map(String::as_str), want, "{label}");
    }
}

#[test]
fn hooks_that_are_not_nerdctls_are_taken_over() {
    let gpu = json!({"path": "/usr/bin/gpu", "args": ["gpu", "hook"]});
    let mut spec = spec_of(SOURCE);
    spec["hooks"]["createRuntime"].as_array_mut().unwrap().push(gpu.clone());
    spec["hooks"]["createContainer"] = json!([gpu]);
    spec["hooks"]["poststop"] = json!([spec_of(SOURCE)["hooks"]["createRuntime"][0]]);
    let source = container(SOURCE, "web", &[], &spec);
    let made = container(FORK, "try", &[], &spec_of(FORK));
    let fork = merged(&captured(&source), &made, &[], &BTreeMap::new(), &Changes::default()).unwrap();
    let own = spec_of(FORK)["hooks"]["createRuntime"][0].clone();
    let want = json!({"createRuntime": [own, gpu], "createContainer": [gpu]});
    assert_eq!(spec::read(&fork).unwrap()["hooks"], want);
}

#[test]
fn its_own_volumes_and_files_are_where_the_sources_were() {
    let (fork, spec) = fork(&[], &Changes::default());
    let mounts = spec["mounts"].as_array().unwrap();
    let source = |at: &str| mounts.iter().find(|mount| mount["destination"] == at).unwrap()["source"].clone();
    assert_eq!(mounts.len(), 7);
    assert_eq!(source("/anon"), "/data/own");
    assert_eq!(source("/named"), "/data/1bd98e6d/volumes/default/named/_data");
    assert_eq!((source("/bind"), source("/dev/shm")), (json!("/srv"), json!("shm")));
    assert_eq!(source("/etc/hosts"), format!("/data/1bd98e6d/etchosts/default/{FORK}/hosts"));
    let labels: BTreeMap<_, _> = fork.labels.into_iter().collect();
    let told = merge::mounts(&labels);
    assert_eq!(told.iter().map(|mount| &mount["Name"]).collect::<Vec<_>>(), ["", "named", "own"]);
    assert_eq!(told[2]["Source"], "/data/own");
}

#[test]
fn what_was_asked_for_takes_the_sources_place() {
    let changes = Changes { env: vec!["A=c".into()], command: vec!["top".into()], ..Changes::default() };
    let (fork, spec) = fork(&[("app", ""), ("tier", "test"), ("loom.operation", "mine")], &changes);
    assert_eq!(spec["process"]["args"], json!(["top"]));
    assert_eq!(spec["process"]["env"][2], "A=c");
    assert_eq!((fork.labels.get("app"), fork.labels["tier"].as_str()), (None, "test"));
    assert_eq!(fork.labels["loom.operation"], "88");
}

#[test]
fn older_labels_are_read_and_written_in_their_own_form() {
    let list =
        json!([{"Type": "volume", "Name": ANONYMOUS, "Source": "/old", "Destination": "/a"}]).to_string();
    let source = container(SOURCE, "web", &[("nerdctl/mounts", &list)], &spec_of(SOURCE));
    let made = container(FORK, "try", &[], &spec_of(FORK));
    let volume = Volume {
        name: "own".into(),
        path: "/new".into(),
        of: ANONYMOUS.into(),
        of_path: "/old".into(),
        anonymous: false,
    };
    let fork = merged(&captured(&source), &made, &[volume], &BTreeMap::new(), &Changes::default()).unwrap();
    assert!(fork.labels["nerdctl/mounts"].contains("\"Source\":\"/new\""), "{:?}", fork.labels);
    assert!(!fork.labels.contains_key("nerdctl/mounts.0"));
}

#[test]
fn the_way_is_in_the_hook() {
    let way = Way::of(&captured(&source())).unwrap().unwrap();
    assert_eq!(way.binary, "/bin/sh");
    assert_eq!(way.flags, ["--address=/c.sock", "--data-root=/data", "--snapshotter=loom"]);
    assert_eq!(way.env, ["PATH=/bin", "NERDCTL_TOML=/none", "CNI_PATH=/cni"]);
    assert_eq!(way.store.as_deref(), Some(Path::new("/data/1bd98e6d")));

    let other = Container { labels: HashMap::new(), ..source() };
    assert!(Way::of(&captured(&other)).unwrap().is_none());
    let mut spec = spec_of(SOURCE);
    spec["hooks"]["createRuntime"][0]["path"] = json!("/no/nerdctl");
    let moved = Way::of(&captured(&container(SOURCE, "web", &[], &spec))).unwrap_err();
    assert_eq!(moved.kind(), Kind::FailedPrecondition);
    assert!(moved.to_string().contains("/no/nerdctl"), "{moved}");
    for hooks in [json!(null), json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh"]}]}), json!([3])] {
        spec["hooks"] = hooks;
        let error = Way::of(&captured(&container(SOURCE, "web", &[], &spec))).unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition);
    }
    spec = spec_of(SOURCE);
    spec["hooks"]["prestart"] = spec["hooks"]["createRuntime"].take();
    assert!(Way::of(&captured(&container(SOURCE, "web", &[], &spec))).unwrap().is_some());
}

#[tokio::test]
async fn a_fork_is_created_with_what_nerdctl_makes_files_of() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("c.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let target = crate::containerd::Target {
        address: socket.to_str().unwrap().to_owned(),
        namespace: "default".to_owned(),
    };
    let client = Client::connect(&target).await.unwrap();
    let captured = captured(&source());
    let way = Way::of(&captured).unwrap().unwrap();
    let changes = Changes { publish: vec!["81:80".to_owned()], ..Changes::default() };
    let (names, options) = (["try".to_owned()], Options::default());
    let order = Order {
        client: &client,
        way: &way,
        captured: &captured,
        names: &names,
        options: &options,
        changes: &changes,
    };
    let operation: Id = "f".repeat(32).parse().unwrap();
    let args = args(order, operation, "try", "empty:1", Path::new("/ids/0"));
    for wanted in [
        "--name=try",
        "--cidfile=/ids/0",
        "--network=bridge",
        "--publish=81:80",
        "--dns=1.2.3.4",
        "--log-driver=json-file",
        "--log-opt=max-size=1m",
        "--restart=always",
        "--platform=linux/amd64",
    ] {
        assert!(args.iter().any(|arg| arg == wanted), "{wanted} is not in {args:?}");
    }
    for unwanted in ["--ip", "--mac-address", "--hostname", "--log-opt=log-path", "--runtime", "--ipc"] {
        assert!(!args.iter().any(|arg| arg.starts_with(unwanted)), "{unwanted} is in {args:?}");
    }
    assert_eq!(args[args.len() - 2..], ["empty:1", "true"]);
}
