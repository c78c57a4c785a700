//! The OCI specification of a container, and what of it a branch changes.
//!
//! It is kept as plain JSON: what we do not know of it, we pass on.

use containerd_client::services::v1::Container;
use prost_types::Any;
use serde_json::Value;

use crate::error::{Error, Result};

/// How containerd calls the type of a specification.
const TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
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
