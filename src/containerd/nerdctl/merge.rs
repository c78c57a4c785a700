//! What a fork has of its source, and what is its own.
//!
//! nerdctl has made the fork a container like any other; its specification and its labels are replaced by the
//! source's, but for what names this one container: its hooks, hostname, control group, network, restart
//! monitor, and every file of nerdctl's that is mounted into it. Its private volumes take the place of the
//! source's where they are mounted.

use std::collections::{BTreeMap, HashMap};

use containerd_client::services::v1::Container;
use serde_json::{Map, Value, json};

use super::volume::Volume;
use super::{NERDCTL, OPERATION_LABEL, is_nerdctls};
use crate::containerd::captured::Captured;
use crate::containerd::{Changes, spec};
use crate::error::{Error, Result};

/// Labels that say which container it is, or where its own files are: a fork has nerdctl's own. What ends in
/// `/` or `.` is the beginning of several.
const IDENTITY: [&str; 17] = [
    "nerdctl/namespace",
    "nerdctl/name",
    "nerdctl/hostname",
    "nerdctl/domainname",
    "nerdctl/state-dir",
    "nerdctl/networks",
    "nerdctl/ip",
    "nerdctl/ip6",
    "nerdctl/mac-address",
    "nerdctl/log-uri",
    "nerdctl/log-config",
    "nerdctl/ports",
    "nerdctl/pid-file",
    "nerdctl/ipc",
    "nerdctl/network-namespace",
    "containerd.io/restart.",
    OPERATION_LABEL,
];
/// Labels about a source's own life: a fork has none of them.
const OF_ONE_LIFE: [&str; 3] = ["containerd.io/gc.", "nerdctl/error", "nerdctl/healthstate"];
/// Where nerdctl keeps what is mounted: one of a list, or the list.
const MOUNTS: &str = "nerdctl/mounts";
/// Where it keeps which volumes go with their container.
pub(super) const ANONYMOUS: &str = "nerdctl/anonymous-volumes";
/// Where it keeps what the client was asked for, and a file with the container's id among it.
const HOST_CONFIG: &str = "nerdctl/host-config";
/// The files that nerdctl makes for each container.
const OWN_FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];

/// The record of the fork that nerdctl has made as `made`: as the source's, with its own identity, these
/// volumes in place of the source's of the same name, and what was asked to be different.
pub(super) fn merged(
    captured: &Captured,
    made: &Container,
    volumes: &[Volume],
    labels: &BTreeMap<String, String>,
    changes: &Changes,
) -> Result<Container> {
    let own_spec = spec::read(made)?;
    let labels = merged_labels(captured, &made.labels, volumes, labels);
    let mut merged = captured.spec.clone();
    identify(&mut merged, &own_spec, captured, &made.id);
    mount(&mut merged, &own_spec, captured, &made.id, volumes);
    annotate(&mut merged, &own_spec, &labels);
    if !spec::change(&mut merged, changes) {
        return Err(Error::precondition(
            format!("container {:?}", captured.called()),
            "it has no process whose environment or command could be changed",
        ));
    }
    Ok(Container { labels, image: captured.image.clone(), spec: Some(spec::write(&merged)), ..made.clone() })
}

/// True where a label has this name, or begins so.
fn is_one_of(label: &str, names: &[&str]) -> bool {
    let is = |name: &&str| label == *name || (name.ends_with(['/', '.']) && label.starts_with(name));
    names.iter().any(is)
}

/// What is mounted, as nerdctl keeps it.
pub(super) fn mounts(labels: &BTreeMap<String, String>) -> Vec<Value> {
    if let Some(list) = labels.get(MOUNTS).filter(|list| !list.is_empty()) {
        return serde_json::from_str(list).unwrap_or_default();
    }
    let each = (0..).map_while(|n| labels.get(&format!("{MOUNTS}.{n}")));
    each.filter_map(|mount| serde_json::from_str(mount).ok()).collect()
}

/// The names in a label that is a list of some.
pub(super) fn names(labels: &BTreeMap<String, String>, label: &str) -> Vec<String> {
    labels.get(label).and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default()
}

fn merged_labels(
    captured: &Captured,
    made: &HashMap<String, String>,
    volumes: &[Volume],
    asked: &BTreeMap<String, String>,
) -> HashMap<String, String> {
    let source = &captured.labels;
    let kept = source.iter().filter(|(label, _)| {
        !is_one_of(label, &IDENTITY) && !is_one_of(label, &OF_ONE_LIFE) && !label.starts_with(MOUNTS)
    });
    let mut merged: HashMap<String, String> =
        kept.map(|(label, value)| (label.clone(), value.clone())).collect();
    let own = made.iter().filter(|(label, _)| is_one_of(label, &IDENTITY));
    merged.extend(own.map(|(label, value)| (label.clone(), value.clone())));

    // In the form of the source: whoever wrote that reads it.
    let moved: Vec<Value> = mounts(source).into_iter().map(|mount| moved(mount, volumes)).collect();
    if source.contains_key(MOUNTS) {
        merged.insert(MOUNTS.to_owned(), Value::Array(moved).to_string());
    } else {
        let each = moved.iter().enumerate();
        merged.extend(each.map(|(n, mount)| (format!("{MOUNTS}.{n}"), mount.to_string())));
    }
    let anonymous: Vec<_> =
        volumes.iter().filter(|volume| volume.anonymous).map(|volume| &volume.name).collect();
    if anonymous.is_empty() {
        merged.remove(ANONYMOUS);
    } else {
        merged.insert(ANONYMOUS.to_owned(), json!(anonymous).to_string());
    }
    if let Some(Ok(Value::Object(mut config))) =
        merged.get(HOST_CONFIG).map(|config| serde_json::from_str::<Value>(config))
    {
        config.insert("CidFile".to_owned(), json!(""));
        merged.insert(HOST_CONFIG.to_owned(), Value::Object(config).to_string());
    }
    for (label, value) in asked.iter().filter(|(label, _)| !is_one_of(label, &[OPERATION_LABEL])) {
        match value.as_str() {
            "" => merged.remove(label),
            value => merged.insert(label.clone(), value.to_owned()),
        };
    }
    merged
}

/// A mount as nerdctl keeps it, of the fork's own volume where it has one in that place.
fn moved(mut mount: Value, volumes: &[Volume]) -> Value {
    if let Some(volume) = volumes.iter().find(|volume| mount["Name"] == volume.of) {
        mount["Name"] = json!(volume.name);
        mount["Source"] = json!(volume.path);
    }
    mount
}

/// Gives the source's specification the fork's identity.
fn identify(spec: &mut Value, own: &Value, captured: &Captured, id: &str) {
    let Value::Object(fields) = spec else { return };
    for field in ["hostname", "domainname"] {
        replace(fields, field, own.get(field));
    }
    let hooks = hooks(fields.get("hooks"), own.get("hooks"));
    replace(fields, "hooks", hooks.as_ref());
    if let Some(Value::Object(linux)) = fields.get_mut("linux") {
        let group = match linux.get("cgroupsPath").and_then(Value::as_str) {
            Some(path) if path.contains(&captured.id) => Some(json!(path.replace(&captured.id, id))),
            _ => own.pointer("/linux/cgroupsPath").cloned(),
        };
        replace(linux, "cgroupsPath", group.as_ref());
        let namespaces = |spec: Option<&Value>| -> Vec<Value> {
            spec.and_then(Value::as_array).cloned().unwrap_or_default()
        };
        // How it reaches the network and whom it shares memory segments with is by container; the others' are
        // set anew by nerdctl at every start, or shared with nobody.
        let is_own = |namespace: &Value| namespace["type"] == "network" || namespace["type"] == "ipc";
        let mut kept = namespaces(linux.get("namespaces"));
        kept.retain(|namespace| !is_own(namespace));
        kept.extend(namespaces(own.pointer("/linux/namespaces")).into_iter().filter(is_own));
        linux.insert("namespaces".to_owned(), Value::Array(kept));
    }
    let is_hostname = |variable: &&mut Value| variable.as_str().is_some_and(|v| v.starts_with("HOSTNAME="));
    let mut own_env = own.pointer("/process/env").and_then(Value::as_array).into_iter().flatten();
    let hostname = own_env.find(|variable| variable.as_str().is_some_and(|v| v.starts_with("HOSTNAME=")));
    let env = fields.get_mut("process").and_then(|process| process.pointer_mut("/env"));
    if let (Some(hostname), Some(Value::Array(env))) = (hostname, env)
        && let Some(place) = env.iter_mut().find(is_hostname)
    {
        *place = hostname.clone();
    }
}

/// The fork's hooks: nerdctl's are each container's own, all others its source's, such as those of a GPU.
fn hooks(source: Option<&Value>, own: Option<&Value>) -> Option<Value> {
    let mut hooks = own.and_then(Value::as_object).cloned().unwrap_or_default();
    for (kind, all) in source.and_then(Value::as_object).into_iter().flatten() {
        let others: Vec<_> =
            all.as_array().into_iter().flatten().filter(|hook| !is_nerdctls(hook)).cloned().collect();
        match hooks.get_mut(kind) {
            _ if others.is_empty() => {}
            Some(Value::Array(same)) => same.extend(others),
            _ => drop(hooks.insert(kind.clone(), Value::Array(others))),
        }
    }
    (!hooks.is_empty()).then_some(Value::Object(hooks))
}

/// Mounts the fork's own files and volumes in place of the source's.
fn mount(spec: &mut Value, own: &Value, captured: &Captured, id: &str, volumes: &[Volume]) {
    let Some(Value::Array(mounts)) = spec.get_mut("mounts") else { return };
    let source_of = |mount: &Value| mount["source"].as_str().unwrap_or_default().to_owned();
    // nerdctl's own files lie in directories that are called by the id.
    let own_files: Vec<&Value> = own["mounts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|mount| {
            source_of(mount).contains(id) || OWN_FILES.iter().any(|file| mount["destination"] == *file)
        })
        .collect();
    mounts.retain(|mount| {
        !source_of(mount).contains(&captured.id)
            && !own_files.iter().any(|own| own["destination"] == mount["destination"])
    });
    for mount in mounts.iter_mut() {
        if let Some(volume) = volumes.iter().find(|volume| mount["source"] == *volume.of_path) {
            mount["source"] = json!(volume.path);
        }
    }
    mounts.extend(own_files.into_iter().cloned());
}

/// nerdctl reads its labels in annotations too.
fn annotate(spec: &mut Value, own: &Value, labels: &HashMap<String, String>) {
    let Value::Object(fields) = spec else { return };
    let annotations = |spec: Option<&Value>, nerdctls: bool| -> Map<String, Value> {
        let all = spec.and_then(Value::as_object).cloned().unwrap_or_default();
        all.into_iter().filter(|(name, _)| name.starts_with(NERDCTL) == nerdctls).collect()
    };
    let mut merged = annotations(fields.get("annotations"), false);
    merged.extend(
        annotations(own.get("annotations"), true).into_iter().filter(|(name, _)| is_one_of(name, &IDENTITY)),
    );
    let nerdctls = labels.iter().filter(|(label, _)| label.starts_with(NERDCTL));
    merged.extend(nerdctls.map(|(label, value)| (label.clone(), json!(value))));
    fields.insert("annotations".to_owned(), Value::Object(merged));
}

fn replace(fields: &mut Map<String, Value>, name: &str, value: Option<&Value>) {
    match value {
        Some(value) => fields.insert(name.to_owned(), value.clone()),
        None => fields.remove(name),
    };
}
