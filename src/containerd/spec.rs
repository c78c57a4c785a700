//! The OCI specification of a container, and what of it a branch changes.
//!
//! It is kept as plain JSON: what we do not know of it, we pass on.

use containerd_client::services::v1::Container;
use prost_types::Any;
use serde_json::Value;

use super::Changes;
use crate::error::{Error, Result};

/// How containerd calls the type of a specification.
const TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
/// How it calls that of a process.
const PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
/// The longest hostname that Linux takes, in bytes.
const LONGEST_HOSTNAME: usize = 64;

/// A container's specification.
pub(super) fn read(container: &Container) -> Result<Value> {
    let broken = |why: String| Error::precondition(format!("container {:?}", container.id), why);
    let any = container
        .spec
        .as_ref()
        .ok_or_else(|| broken("it has no specification; make it anew with containerd's own tools".into()))?;
    serde_json::from_slice(&any.value).map_err(|e| broken(format!("its specification is not JSON: {e}")))
}

/// A specification as containerd keeps it.
pub(super) fn write(spec: &Value) -> Any {
    Any { type_url: TYPE.to_owned(), value: spec.to_string().into_bytes() }
}

/// True where its process has a terminal.
pub(super) fn has_terminal(spec: &Value) -> bool {
    spec.pointer("/process/terminal") == Some(&Value::Bool(true))
}

/// The `SELinux` label of its root.
pub(super) fn mount_label(spec: &Value) -> Option<&str> {
    spec.pointer("/linux/mountLabel").and_then(Value::as_str).filter(|label| !label.is_empty())
}

/// A container's place in containerd.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// containerd's namespace.
    pub(super) namespace: &'a str,
    /// The container's id.
    pub(super) id: &'a str,
}

/// Makes the specification of `source` that of its branch: its own control group, its own hostname
/// where the source was called by its id, and no terminal, since nobody is attached.
pub(super) fn rename(spec: &mut Value, source: Place<'_>, branch: Place<'_>) {
    if let Some(Value::String(path)) = spec.pointer_mut("/linux/cgroupsPath")
        && !path.is_empty()
    {
        *path = cgroup(path, source, branch);
    }
    if let Some(Value::String(hostname)) = spec.pointer_mut("/hostname") {
        let cut = |id: &str, length: usize| id[..id.len().min(length)].to_owned();
        if hostname == source.id {
            *hostname = cut(branch.id, LONGEST_HOSTNAME);
        } else if *hostname == cut(source.id, 12) {
            *hostname = cut(branch.id, 12);
        }
    }
    if let Some(terminal) = spec.pointer_mut("/process/terminal") {
        *terminal = Value::Bool(false);
    }
}

/// Changes its process as a branch was asked to: a variable takes the place of that of its name, or drops it
/// where it has no value; a command takes the place of the whole one. False where it has no process.
#[must_use]
pub(super) fn change(spec: &mut Value, changes: &Changes) -> bool {
    if changes.env.is_empty() && changes.command.is_empty() {
        return true;
    }
    let Some(Value::Object(process)) = spec.pointer_mut("/process") else { return false };
    if !changes.command.is_empty() {
        process.insert("args".to_owned(), changes.command.as_slice().into());
        // Windows' way to say the same.
        process.remove("commandLine");
    }
    let mut env = match process.remove("env") {
        Some(Value::Array(env)) => env,
        _ => Vec::new(),
    };
    for variable in &changes.env {
        let name = variable.split_once('=').map_or(variable.as_str(), |(name, _)| name);
        let same = |old: &Value| old.as_str().and_then(|old| old.split('=').next()) == Some(name);
        let at = env.iter().position(same).unwrap_or(env.len());
        env.retain(|old| !same(old));
        if variable.contains('=') {
            env.insert(at.min(env.len()), Value::String(variable.clone()));
        }
    }
    process.insert("env".to_owned(), Value::Array(env));
    true
}

/// A process beside that of the container, like it but for its command: as its user, with its environment and
/// capabilities, and without a terminal. None where the container has none.
pub(super) fn beside(spec: &Value, command: &[String]) -> Option<Any> {
    let mut process = spec.pointer("/process")?.as_object()?.clone();
    process.insert("args".to_owned(), command.into());
    process.insert("terminal".to_owned(), Value::Bool(false));
    process.remove("consoleSize");
    Some(Any { type_url: PROCESS.to_owned(), value: Value::Object(process).to_string().into_bytes() })
}

/// A branch's control group: two containers in one would be paused and killed together.
fn cgroup(path: &str, source: Place<'_>, branch: Place<'_>) -> String {
    // systemd's shape: slice, prefix, name.
    if let [slice, prefix, _] = path.split(':').collect::<Vec<_>>()[..] {
        return format!("{slice}:{prefix}:{}", branch.id);
    }
    match path.strip_suffix(source.id) {
        // containerd's own shape, where the namespace may be another one too.
        Some(parent) if parent.trim_matches('/') == source.namespace => {}
        Some(parent) if parent.is_empty() || parent.ends_with('/') => {
            return format!("{parent}{}", branch.id);
        }
        _ => {}
    }
    format!("/{}/{}", branch.namespace, branch.id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    /// `source` of namespace `default` becomes `branch` of namespace `ns`.
    fn renamed(spec: &mut Value, source: &str, branch: &str) {
        rename(spec, Place { namespace: "default", id: source }, Place { namespace: "ns", id: branch });
    }

    #[test]
    fn a_branch_gets_a_control_group_of_its_own() {
        for (path, want) in [
            ("/default/web", "/ns/try"),
            ("/other/web", "/other/try"),
            ("web", "try"),
            ("/a/b/web", "/a/b/try"),
            ("system.slice:nerdctl:web", "system.slice:nerdctl:try"),
            ("system.slice:x:another", "system.slice:x:try"),
            (":runc:web", ":runc:try"),
            ("/default/myweb", "/ns/try"),
            ("/pods/shared", "/ns/try"),
            ("/web/inner", "/ns/try"),
        ] {
            let mut spec = json!({"linux": {"cgroupsPath": path}});
            renamed(&mut spec, "web", "try");
            assert_eq!(spec["linux"]["cgroupsPath"], want, "{path}");
        }
    }

    #[test]
    fn without_a_control_group_the_runtime_chooses_one_by_id() {
        for mut spec in [json!({}), json!({"linux": {}}), json!({"linux": {"cgroupsPath": ""}})] {
            let before = spec.clone();
            renamed(&mut spec, "web", "try");
            assert_eq!(spec, before);
        }
    }

    #[test]
    fn a_hostname_changes_only_where_it_was_the_id() {
        let id = "0123456789abcdef";
        for (hostname, want) in
            [(id, "fedcba9876543210"), ("0123456789ab", "fedcba987654"), ("db.example", "db.example")]
        {
            let mut spec = json!({"hostname": hostname});
            renamed(&mut spec, id, "fedcba9876543210");
            assert_eq!(spec["hostname"], want);
        }
        let mut spec = json!({"hostname": "web"});
        renamed(&mut spec, "web", &"x".repeat(76));
        assert_eq!(spec["hostname"].as_str().unwrap().len(), LONGEST_HOSTNAME);
    }

    #[test]
    fn a_branch_has_the_environment_and_the_command_that_were_asked_for() {
        let changed = |env: &[&str], command: &[&str]| {
            let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
            let mut spec = json!({"process": {"args": ["sh", "-c"], "env": ["A=1", "B=2", "C"], "cwd": "/"}});
            let asked = Changes { env: own(env), command: own(command), ..Changes::default() };
            assert!(change(&mut spec, &asked));
            assert_eq!(spec["process"]["cwd"], "/");
            (spec["process"]["env"].clone(), spec["process"]["args"].clone())
        };
        for (env, want) in [
            (&["A=x"][..], json!(["A=x", "B=2", "C"])),
            (&["B"], json!(["A=1", "C"])),
            (&["D=4", "D=5"], json!(["A=1", "B=2", "C", "D=5"])),
            (&["A="], json!(["A=", "B=2", "C"])),
            (&["AB=1"], json!(["A=1", "B=2", "C", "AB=1"])),
            (&["C=a=b", "NONE"], json!(["A=1", "B=2", "C=a=b"])),
        ] {
            assert_eq!(changed(env, &[]), (want, json!(["sh", "-c"])), "{env:?}");
        }
        assert_eq!(changed(&[], &["true"]).1, json!(["true"]));
        for mut spec in [json!(null), json!({"process": 3})] {
            let asked = Changes { env: vec!["A=1".into()], ..Changes::default() };
            assert!(!change(&mut spec, &asked));
            assert!(change(&mut spec, &Changes::default()));
        }
    }

    #[test]
    fn a_process_beside_is_the_containers_with_another_command() {
        let spec = json!({"process": {
            "args": ["db"], "terminal": true, "consoleSize": {"height": 1}, "user": {"uid": 7}, "env": ["A=1"],
        }});
        let any = beside(&spec, &["sync".to_owned()]).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&any.value).unwrap(),
            json!({"args": ["sync"], "terminal": false, "user": {"uid": 7}, "env": ["A=1"]})
        );
        assert!(beside(&json!({}), &[]).is_none());
    }

    #[test]
    fn everything_else_stays() {
        let mut spec = json!({
            "ociVersion": "1.0.2",
            "process": {"terminal": true, "env": ["HOSTNAME=web"], "args": ["sh"]},
            "annotations": {"name": "web"},
            "mounts": [{"destination": "/etc/hosts", "source": "/x/web/hosts"}],
            "unknown": {"to": ["us", 18_446_744_073_709_551_615_u64]},
        });
        let mut want = spec.clone();
        want["process"]["terminal"] = json!(false);
        renamed(&mut spec, "web", "try");
        assert_eq!(spec, want);
    }

    #[test]
    fn hostile_shapes_are_left_alone() {
        for mut spec in [json!(null), json!([]), json!({"linux": 3, "hostname": ["web"], "process": "x"})] {
            let before = spec.clone();
            renamed(&mut spec, "web", "try");
            assert_eq!(spec, before);
            assert!(!has_terminal(&spec));
            assert_eq!(mount_label(&spec), None);
        }
    }
}
