//! The instructions of a Dockerfile that change an image's configuration and nothing else.
//!
//! They are read as docker's commit reads those of its `--change`: words with quotes, backslashes and variables of
//! the image's environment; commands as a list in JSON, else for the shell.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::words::{Variables, expand, words};
use super::{append, change, change_in};
use crate::error::{Error, Result};

/// What the shell form of a command is run by where the image names nothing.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// Each instruction, and how it is written.
const FORMS: [(&str, &str); 11] = [
    ("CMD", "CMD [\"PROGRAM\", \"ARG\"…] or CMD COMMAND"),
    ("ENTRYPOINT", "ENTRYPOINT [\"PROGRAM\", \"ARG\"…] or ENTRYPOINT COMMAND"),
    ("ENV", "ENV NAME=VALUE…"),
    ("EXPOSE", "EXPOSE PORT[-PORT][/tcp|udp|sctp]…"),
    (
        "HEALTHCHECK",
        "HEALTHCHECK [--interval=30s] [--timeout=30s] [--start-period=0s] [--retries=3] CMD COMMAND, or HEALTHCHECK NONE",
    ),
    ("LABEL", "LABEL NAME=VALUE…"),
    ("ONBUILD", "ONBUILD INSTRUCTION, but for ONBUILD, FROM and MAINTAINER"),
    ("STOPSIGNAL", "STOPSIGNAL SIGNAL, a name such as SIGTERM or a number from 1 to 64"),
    ("USER", "USER USER[:GROUP]"),
    ("VOLUME", "VOLUME [\"PATH\"…] or VOLUME PATH…"),
    ("WORKDIR", "WORKDIR PATH"),
];
/// The names of signals, without `SIG`.
const SIGNALS: [&str; 32] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "IOT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Changes an image's configuration as these instructions say, in their order. One that is none, or that is written
/// wrong, is invalid.
pub(in crate::containerd) fn apply(config: &mut Value, instructions: &[String]) -> Result<()> {
    let mut commanded = false;
    change_in(config, "config", |config| {
        for instruction in instructions {
            Instruction::read(instruction)?.apply(config, &mut commanded)?;
        }
        Ok(())
    })
}

/// One instruction.
struct Instruction<'a> {
    name: &'static str,
    form: &'static str,
    rest: &'a str,
}

impl<'a> Instruction<'a> {
    fn read(text: &'a str) -> Result<Self> {
        let text = text.trim();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let known = FORMS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
        let Some((name, form)) = known else {
            let names: Vec<_> = FORMS.iter().map(|(name, _)| *name).collect();
            return Err(Error::invalid(
                format!("change {text:?}"),
                format!(
                    "{word:?} is no instruction that changes a configuration; those are {}",
                    names.join(", ")
                ),
            ));
        };
        let read = Self { name, form, rest: rest.trim() };
        if read.rest.is_empty() {
            return Err(read.wrong("it says nothing"));
        }
        if text.contains('\0') {
            return Err(read.wrong("it has a zero byte in it"));
        }
        Ok(read)
    }

    /// It is written wrong.
    fn wrong(&self, why: impl std::fmt::Display) -> Error {
        Error::invalid(
            format!("change \"{} {}\"", self.name, self.rest),
            format!("{why}; write {}", self.form),
        )
    }

    /// `commanded` is true once one of them has set the command.
    fn apply(&self, config: &mut Map<String, Value>, commanded: &mut bool) -> Result<()> {
        match self.name {
            "CMD" => {
                *commanded = true;
                let command = self.command(config)?;
                config.insert("Cmd".to_owned(), json!(command));
                config.remove("ArgsEscaped");
            }
            "ENTRYPOINT" => {
                let command = self.command(config)?;
                config.insert("Entrypoint".to_owned(), json!(command));
                // The command that was there is the arguments of another program.
                if !*commanded {
                    config.remove("Cmd");
                }
                config.remove("ArgsEscaped");
            }
            "ENV" => self.env(config)?,
            "EXPOSE" => {
                let ports: BTreeSet<String> = self
                    .words(config)?
                    .iter()
                    .map(|word| self.ports(word))
                    .collect::<Result<Vec<_>>>()?
                    .concat()
                    .into_iter()
                    .collect();
                add_keys(config, "ExposedPorts", ports);
            }
            "HEALTHCHECK" => {
                let check = self.healthcheck()?;
                config.insert("Healthcheck".to_owned(), check);
            }
            "LABEL" => {
                let pairs = self.pairs(config)?;
                change(config.entry("Labels").or_insert(Value::Null), |labels| {
                    labels.extend(pairs.into_iter().map(|(name, value)| (name, json!(value))));
                });
            }
            "ONBUILD" => {
                let word = self.rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
                if ["ONBUILD", "FROM", "MAINTAINER"].contains(&word.as_str()) {
                    return Err(self.wrong(format!("{word} cannot wait for a build")));
                }
                append(config, "OnBuild", json!(self.rest));
            }
            "STOPSIGNAL" => {
                let signal = self.word(config)?;
                let name = signal.to_ascii_uppercase();
                let name = name.strip_prefix("SIG").unwrap_or(&name);
                let number = name.parse().is_ok_and(|number: u8| (1..=64).contains(&number));
                let real = name.starts_with("RTMIN") || name.starts_with("RTMAX");
                if !number && !real && !SIGNALS.contains(&name) {
                    return Err(self.wrong(format!("{signal:?} is no signal")));
                }
                config.insert("StopSignal".to_owned(), json!(signal));
            }
            "USER" => {
                let user = self.word(config)?;
                config.insert("User".to_owned(), json!(user));
            }
            "VOLUME" => {
                let paths = match self.list()? {
                    Some(paths) => paths,
                    None => self.words(config)?,
                };
                if paths.is_empty() || paths.iter().any(|path| path.trim().is_empty()) {
                    return Err(self.wrong("a path is empty"));
                }
                add_keys(config, "Volumes", paths);
            }
            _ => {
                let path = expand(self.rest, &variables(config)).map_err(|why| self.wrong(why))?;
                let now = config.get("WorkingDir").and_then(Value::as_str).unwrap_or_default();
                let path = joined(now, &path);
                config.insert("WorkingDir".to_owned(), json!(path));
            }
        }
        Ok(())
    }

    /// A command in either form.
    fn command(&self, config: &Map<String, Value>) -> Result<Vec<String>> {
        if let Some(list) = self.list()? {
            return Ok(list);
        }
        let shell = config.get("Shell").and_then(Value::as_array);
        let shell: Vec<String> = match shell {
            Some(words) => words.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            None => SHELL.map(str::to_owned).to_vec(),
        };
        Ok([shell, vec![self.rest.to_owned()]].concat())
    }

    /// Its list in JSON; none where it is no such list, and then for the shell.
    fn list(&self) -> Result<Option<Vec<String>>> {
        list(self.rest).map_err(|why| self.wrong(why))
    }

    fn words(&self, config: &Map<String, Value>) -> Result<Vec<String>> {
        words(self.rest, &variables(config)).map_err(|why| self.wrong(why))
    }

    /// Its only word.
    fn word(&self, config: &Map<String, Value>) -> Result<String> {
        let words = self.words(config)?;
        match <[String; 1]>::try_from(words) {
            Ok([word]) if !word.is_empty() => Ok(word),
            _ => Err(self.wrong("it takes one word")),
        }
    }

    /// Names and values: `NAME=VALUE…`, or as it was once written, `NAME VALUE`.
    fn pairs(&self, config: &Map<String, Value>) -> Result<Vec<(String, String)>> {
        let variables = variables(config);
        let first = self.rest.split(char::is_whitespace).next().unwrap_or_default();
        let pairs = if first.contains('=') {
            let words = words(self.rest, &variables).map_err(|why| self.wrong(why))?;
            let pair = |word: String| match word.split_once('=') {
                Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
                None => Err(self.wrong(format!("{word:?} has no value"))),
            };
            words.into_iter().map(pair).collect::<Result<Vec<_>>>()?
        } else {
            let Some((name, value)) = self.rest.split_once(char::is_whitespace) else {
                return Err(self.wrong(format!("{first:?} has no value")));
            };
            let value = expand(value.trim_start(), &variables).map_err(|why| self.wrong(why))?;
            vec![(name.to_owned(), value)]
        };
        match pairs.iter().find(|(name, _)| name.is_empty()) {
            Some((_, value)) => Err(self.wrong(format!("\"={value}\" has no name"))),
            None => Ok(pairs),
        }
    }

    fn env(&self, config: &mut Map<String, Value>) -> Result<()> {
        let pairs = self.pairs(config)?;
        let mut env = match config.remove("Env") {
            Some(Value::Array(env)) => env,
            _ => Vec::new(),
        };
        for (name, value) in pairs {
            let same = |old: &Value| old.as_str().and_then(|old| old.split('=').next()) == Some(&name);
            let variable = json!(format!("{name}={value}"));
            match env.iter_mut().find(|old| same(old)) {
                Some(old) => *old = variable,
                None => env.push(variable),
            }
        }
        config.insert("Env".to_owned(), Value::Array(env));
        Ok(())
    }

    /// `80`, `80/udp` and `8000-8010/tcp`, each port with its protocol.
    fn ports(&self, word: &str) -> Result<Vec<String>> {
        let lower = word.to_ascii_lowercase();
        let (ports, protocol) = lower.split_once('/').unwrap_or((&lower, "tcp"));
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last && ["tcp", "udp", "sctp"].contains(&protocol) => {
                Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
            }
            _ => Err(self.wrong(format!("{word:?} is no port"))),
        }
    }

    fn healthcheck(&self) -> Result<Value> {
        let mut check = Map::new();
        let mut rest = self.rest;
        while rest.starts_with("--") {
            let (flag, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let Some((name, value)) = flag.split_once('=') else {
                return Err(self.wrong(format!("{flag:?} has no value")));
            };
            let wrong = || self.wrong(format!("{flag:?} is not understood"));
            let (field, value) = match name {
                "--retries" => ("Retries", value.parse::<u32>().map_err(|_| wrong())?.into()),
                "--interval" => ("Interval", nanos(value).ok_or_else(wrong)?),
                "--timeout" => ("Timeout", nanos(value).ok_or_else(wrong)?),
                "--start-period" => ("StartPeriod", nanos(value).ok_or_else(wrong)?),
                "--start-interval" => ("StartInterval", nanos(value).ok_or_else(wrong)?),
                _ => return Err(wrong()),
            };
            check.insert(field.to_owned(), value);
            rest = after.trim_start();
        }
        let (word, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let test = match (word.to_ascii_uppercase().as_str(), command.trim()) {
            ("NONE", "") if check.is_empty() => json!(["NONE"]),
            ("CMD", "") => return Err(self.wrong("its command is empty")),
            ("CMD", command) => match list(command).map_err(|why| self.wrong(why))? {
                Some(words) if words.is_empty() => return Err(self.wrong("its command is empty")),
                Some(words) => json!([vec!["CMD".to_owned()], words].concat()),
                None => json!(["CMD-SHELL", command]),
            },
            _ => return Err(self.wrong("it ends in CMD and a command, or it is NONE")),
        };
        check.insert("Test".to_owned(), test);
        Ok(Value::Object(check))
    }
}

/// A list of strings in JSON; none where it is no list in JSON.
fn list(text: &str) -> std::result::Result<Option<Vec<String>>, String> {
    let Ok(Value::Array(items)) = serde_json::from_str(text) else { return Ok(None) };
    let strings = items.iter().map(|item| item.as_str().map(str::to_owned));
    strings.collect::<Option<_>>().map(Some).ok_or_else(|| "its list is not of strings".to_owned())
}

/// The environment of a configuration.
fn variables(config: &Map<String, Value>) -> Variables {
    let env = config.get("Env").and_then(Value::as_array).into_iter().flatten();
    let pairs = env.filter_map(Value::as_str).filter_map(|variable| variable.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Adds keys to what is a set: an object of empty ones.
fn add_keys(config: &mut Map<String, Value>, set: &str, keys: impl IntoIterator<Item = String>) {
    change(config.entry(set).or_insert(Value::Null), |set| {
        set.extend(keys.into_iter().map(|key| (key, json!({}))));
    });
}

/// A directory as seen from another, without `.`, `..` and double slashes.
fn joined(from: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("/{from}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A length of time such as `1m30s` or `500ms`, in nanoseconds as docker keeps it.
fn nanos(text: &str) -> Option<Value> {
    let span: jiff::Span = text.parse().ok()?;
    let time = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?;
    let nanos = i64::try_from(time.as_nanos()).ok().filter(|nanos| *nanos == 0 || *nanos >= 1_000_000)?;
    Some(json!(nanos))
}
