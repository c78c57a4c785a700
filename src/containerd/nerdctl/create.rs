//! The flags that a fork is created with: what nerdctl makes files and records of. All else of the source is
//! taken over with its specification (`merge`).

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{OPERATION_LABEL, Order};
use crate::containerd::captured::Captured;
use crate::store::Id;

/// The runtime that nerdctl chooses by itself.
const RUNC: &str = "io.containerd.runc.v2";
/// Options of a log that name one container's own file.
const OWN_LOG: [&str; 1] = ["log-path"];

/// How a source's output is logged.
#[derive(Debug, Default, Deserialize)]
struct LogConfig {
    #[serde(default)]
    driver: String,
    #[serde(default)]
    opts: Option<HashMap<String, String>>,
}

/// How a source resolves names.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Dns {
    #[serde(rename = "DNSServers", default)]
    servers: Option<Vec<String>>,
    #[serde(rename = "DNSSearchDomains", default)]
    search: Option<Vec<String>>,
    #[serde(rename = "DNSResolvConfOptions", default)]
    options: Option<Vec<String>>,
}

/// How a source is reached.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Network {
    #[serde(default)]
    port_mappings: Option<Vec<Value>>,
}

/// Whom a source shares its memory segments with.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ipc {
    #[serde(default)]
    mode: String,
    #[serde(default)]
    victim_container_id: Option<String>,
    #[serde(default)]
    shm_size: String,
}

/// The call that makes the container `name` of an image, and writes its id to a file.
pub(super) fn args(order: Order<'_>, operation: Id, name: &str, image: &str, id_file: &Path) -> Vec<String> {
    let captured = order.captured;
    let mut args = vec!["create".to_owned(), "--pull=never".to_owned()];
    let mut flag = |name: &str, value: &str| args.push(format!("--{name}={value}"));
    flag("name", name);
    flag("cidfile", &id_file.to_string_lossy());
    flag("label", &format!("{OPERATION_LABEL}={operation}"));
    let label = |name: &str| captured.labels.get(name).map(String::as_str).filter(|value| !value.is_empty());
    if let Some(platform) = label("nerdctl/platform") {
        flag("platform", platform);
    }

    let networks = networks(captured);
    for network in &networks {
        flag("network", network);
    }
    for port in &order.changes.publish {
        flag("publish", port);
    }
    // A container in another's network has that one's hostname.
    if !networks.iter().any(|network| network.starts_with("container:")) {
        if let Some(hostname) = own_hostname(captured) {
            flag("hostname", hostname);
        }
        if let Some(domain) = label("nerdctl/domainname") {
            flag("domainname", domain);
        }
    }
    if !has_namespace(&captured.spec, "uts") {
        flag("uts", "host");
    }
    let dns: Dns = json(label("nerdctl/dns"));
    for (name, values) in [("dns", dns.servers), ("dns-search", dns.search), ("dns-option", dns.options)] {
        for value in values.unwrap_or_default() {
            flag(name, &value);
        }
    }
    let ipc: Ipc = json(label("nerdctl/ipc"));
    match (ipc.mode.as_str(), ipc.victim_container_id) {
        ("container", Some(other)) => flag("ipc", &format!("container:{other}")),
        (mode @ ("host" | "shareable"), _) => flag("ipc", mode),
        _ => {}
    }
    if !ipc.shm_size.is_empty() {
        flag("shm-size", &ipc.shm_size);
    }

    let log: LogConfig = json(label("nerdctl/log-config"));
    if !log.driver.is_empty() {
        flag("log-driver", &log.driver);
        let opts = log.opts.unwrap_or_default();
        for (name, value) in opts.iter().filter(|(name, _)| !OWN_LOG.contains(&name.as_str())) {
            flag("log-opt", &format!("{name}={value}"));
        }
    }
    if let Some(policy) = label("containerd.io/restart.policy") {
        flag("restart", policy);
    }
    match captured.runtime() {
        Some((RUNC, None)) | None => {}
        Some((RUNC, Some(binary))) => flag("runtime", &binary),
        Some((name, _)) => flag("runtime", name),
    }
    args.push(image.to_owned());
    // An empty image has no command of its own; the source's takes the place of this one.
    args.push("true".to_owned());
    args
}

/// True where ports of a source are published: nerdctl keeps them beside its other files, or in a label.
pub(super) fn publishes(captured: &Captured) -> bool {
    let ports: Vec<Value> = json(captured.labels.get("nerdctl/ports").map(String::as_str));
    let file = captured.labels.get(super::STATE_DIR).map(|dir| Path::new(dir).join("network-config.json"));
    let text = file.and_then(|file| std::fs::read_to_string(file).ok());
    let network: Network = json(text.as_deref());
    !ports.is_empty() || network.port_mappings.is_some_and(|ports| !ports.is_empty())
}

/// The networks that a container is on, as `--network` takes them.
fn networks(captured: &Captured) -> Vec<String> {
    json(captured.labels.get("nerdctl/networks").map(String::as_str))
}

/// The hostname that a source's user gave it: none where it is nerdctl's choice, the beginning of the id.
fn own_hostname(captured: &Captured) -> Option<&str> {
    let hostname = captured.spec.pointer("/hostname")?.as_str()?;
    (!hostname.is_empty() && !captured.id.starts_with(hostname)).then_some(hostname)
}

fn has_namespace(spec: &Value, kind: &str) -> bool {
    let namespaces = spec.pointer("/linux/namespaces").and_then(Value::as_array);
    namespaces.into_iter().flatten().any(|namespace| namespace["type"] == kind)
}

/// A label's JSON; nothing of what cannot be read, which another version has written.
fn json<T: Default + serde::de::DeserializeOwned>(label: Option<&str>) -> T {
    label.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}
