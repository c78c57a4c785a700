//! The process of a container, as the configuration of its image has it.
//!
//! As with docker's commit, what a container was started with becomes what its image starts: its environment,
//! directory, user and command.

use serde_json::{Map, Value, json};

use super::change_in;

/// Variables that a container has for itself.
const OWN: [&str; 2] = ["HOSTNAME=", "TERM="];
/// What nerdctl's `--init` puts in front of a command, and lays over the container's files.
const INIT: [&str; 2] = ["/sbin/tini", "--"];

/// The command of a container with this specification.
pub(in crate::containerd) fn args(spec: &Value) -> Vec<&str> {
    let args = strings(spec.pointer("/process/args"));
    let mounts = spec.get("mounts").and_then(Value::as_array);
    let lain_over = |mount: &Value| mount.get("destination").and_then(Value::as_str) == Some(INIT[0]);
    if args.starts_with(&INIT) && mounts.is_some_and(|mounts| mounts.iter().any(lain_over)) {
        return args[INIT.len()..].to_vec();
    }
    args
}

/// Makes the process of an image's configuration that of a container with this specification. What the image says
/// in other words stays as it is.
pub(in crate::containerd) fn of_container(config: &mut Value, spec: &Value) {
    let Some(process) = spec.get("process") else { return };
    change_in(config, "config", |config| of_process(config, spec, process));
}

fn of_process(config: &mut Map<String, Value>, spec: &Value, process: &Value) {
    let own = |variable: &str| OWN.iter().any(|own| variable.starts_with(own));
    let images = strings(config.get("Env"));
    let mut env = strings(process.get("env"));
    env.retain(|variable| images.contains(variable) || !own(variable));
    if env != images {
        let env = json!(env);
        config.insert("Env".to_owned(), env);
    }

    let args = args(spec);
    let entrypoint = strings(config.get("Entrypoint"));
    if args != [entrypoint.as_slice(), &strings(config.get("Cmd"))].concat() {
        let rest = args.strip_prefix(entrypoint.as_slice());
        let (keeps, command) = (rest.is_some(), json!(rest.unwrap_or(&args)));
        if !keeps {
            config.remove("Entrypoint");
        }
        config.insert("Cmd".to_owned(), command);
        // It speaks of the command that was there.
        config.remove("ArgsEscaped");
    }

    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let (cwd, directory) = (text(process.get("cwd")), text(config.get("WorkingDir")));
    let directory = if directory.is_empty() { "/" } else { &directory };
    if !cwd.is_empty() && cwd != directory {
        config.insert("WorkingDir".to_owned(), json!(cwd));
    }
    if let Some(user) = user(process, &text(config.get("User"))) {
        config.insert("User".to_owned(), json!(user));
    }
}

/// The user that a process runs as, where it is another than the image's. A name is known only to the image: it
/// stays, unless the process is root's.
fn user(process: &Value, images: &str) -> Option<String> {
    let id = |which: &str| process.pointer(&format!("/user/{which}")).and_then(Value::as_u64);
    let (uid, gid) = (id("uid")?, id("gid").unwrap_or(0));
    let (user, group) = images.split_once(':').map_or((images, None), |(user, group)| (user, Some(group)));
    let same = match user {
        "" | "root" | "0" => uid == 0,
        user => user.parse().map_or(uid != 0, |user: u64| user == uid),
    };
    let same_group = group.and_then(|group| group.parse().ok()).is_none_or(|group: u64| group == gid);
    (!same || !same_group).then(|| format!("{uid}:{gid}"))
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}
