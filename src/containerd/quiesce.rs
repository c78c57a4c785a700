//! The commands by which an application gets ready for a state of it, and goes on behind it.
//!
//! They are a container's labels, JSON arrays of strings, and run in it as its own process does: `loom.quiesce`
//! before anything stands still, and `loom.unquiesce` once it goes on, whatever became of the first. After a
//! crash `loom.unquiesce` may run twice.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::captured::Captured;
use super::client::Client;
use super::{containers, spec, task};
use crate::error::{Error, Kind, Result};
use crate::store::Id;

/// The label with the command that makes the application ready.
const QUIESCE: &str = "loom.quiesce";
/// The label with the command that lets it go on.
const UNQUIESCE: &str = "loom.unquiesce";
/// How long either may take.
const LONGEST: Duration = Duration::from_secs(30);
/// How much is told of what a command printed, in bytes.
const TAIL: u64 = 1024;
/// Where under the root its output goes.
const OUTPUT: &str = "hooks";

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    /// Makes it ready.
    Quiesce,
    /// Lets it go on.
    Unquiesce,
}

impl Hook {
    fn label(self) -> &'static str {
        match self {
            Self::Quiesce => QUIESCE,
            Self::Unquiesce => UNQUIESCE,
        }
    }

    /// What containerd calls its process; one at a time has a turn on a container.
    fn process(self) -> &'static str {
        match self {
            Self::Quiesce => "loom-quiesce",
            Self::Unquiesce => "loom-unquiesce",
        }
    }
}

/// A container's commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hooks {
    /// Makes it ready.
    pub(super) quiesce: Vec<String>,
    /// Lets it go on, as its label has it.
    pub(super) unquiesce: Option<String>,
}

impl Hooks {
    /// Those of a container, which must have the first.
    pub(super) fn of(captured: &Captured) -> Result<Self> {
        let Some(quiesce) = captured.labels.get(QUIESCE) else {
            return Err(Error::precondition(
                format!("container {:?}", captured.called()),
                format!(
                    "it does not say how it gets ready for consistency `app`: set its label {QUIESCE} to a JSON \
                     array such as [\"sync\"], and {UNQUIESCE} where it has to be told to go on; or ask for `crash`"
                ),
            ));
        };
        let unquiesce = captured.labels.get(UNQUIESCE);
        unquiesce.map(|json| command(Hook::Unquiesce, json)).transpose()?;
        Ok(Self { quiesce: command(Hook::Quiesce, quiesce)?, unquiesce: unquiesce.cloned() })
    }
}

/// The command in a label.
pub(super) fn command(hook: Hook, json: &str) -> Result<Vec<String>> {
    let words: Vec<String> = serde_json::from_str(json).unwrap_or_default();
    let sound = words.first().is_some_and(|program| !program.is_empty());
    if !sound || words.iter().any(|word| word.contains('\0')) {
        return Err(Error::invalid(
            format!("label {} of the container, {json:?}", hook.label()),
            "it is a JSON array of strings, a program and its arguments, such as [\"sync\"]",
        ));
    }
    Ok(words)
}

/// Runs a container's command to its end. One that fails, or takes too long, is an error that has the end of what
/// it printed. Where the container does not run there is nothing to be run.
pub(super) async fn run(
    client: &Client,
    root: &Path,
    container: &str,
    hook: Hook,
    command: &[String],
) -> Result<()> {
    let Some(found) = containers::get(client, container).await? else { return Ok(()) };
    if task::get(client, container).await?.is_none_or(|task| !task.runs()) {
        return Ok(());
    }
    let failed = |why: String| {
        Error::precondition(
            format!("container {:?}", containers::display_name(&found)),
            format!("its {} {command:?} {why}", hook.label()),
        )
    };
    let process = spec::beside(&spec::read(&found)?, command)
        .ok_or_else(|| failed("cannot be run: the container has no process".to_owned()))?;
    let output = Output::new(root)?;
    let exec = task::Exec { client, container, id: hook.process() };
    // A crash may have left one.
    exec.end().await?;
    let ended = tokio::time::timeout(LONGEST, async {
        exec.make(process, &output.path).await?;
        exec.run().await
    })
    .await;
    let left = exec.end().await;
    match ended {
        Ok(Ok(0)) => left,
        Ok(Ok(status)) => Err(failed(format!("ended with status {status}{}", output.tail()))),
        Ok(Err(error)) if matches!(error.kind(), Kind::Unavailable | Kind::DeadlineExceeded) => Err(error),
        Ok(Err(error)) => Err(failed(format!("cannot be run: {error}"))),
        Err(_) => {
            Err(failed(format!("took more than {} s and was ended{}", LONGEST.as_secs(), output.tail())))
        }
    }
}

/// Ends the command that an earlier daemon was making a container ready with.
pub(super) async fn end_left(client: &Client, container: &str) -> Result<()> {
    task::Exec { client, container, id: Hook::Quiesce.process() }.end().await
}

/// Forgets what commands of an earlier daemon printed.
pub(super) fn forget_outputs(root: &Path) {
    match std::fs::remove_dir_all(root.join(OUTPUT)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, "what commands of containers printed stays");
        }
        _ => {}
    }
}

/// A file that the shim writes a command's output to. It goes with this.
struct Output {
    path: PathBuf,
    file: File,
}

impl Output {
    fn new(root: &Path) -> Result<Self> {
        let dir = root.join(OUTPUT);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(Error::io("create", &dir))?;
        let path = dir.join(Id::random()?.to_string());
        let opened = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = opened.map_err(Error::io("create", &path))?;
        Ok(Self { path, file })
    }

    /// The end of it, to be put behind a message.
    fn tail(&self) -> String {
        let read = || {
            let length = self.file.metadata()?.len();
            let mut end = vec![0; usize::try_from(length.min(TAIL)).unwrap_or(0)];
            self.file.read_exact_at(&mut end, length.saturating_sub(TAIL))?;
            Ok::<_, std::io::Error>(end)
        };
        match read() {
            Ok(end) => told(&end),
            Err(error) => format!("; what it printed cannot be read: {error}"),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "what a command printed stays");
        }
    }
}

/// What was printed as one line: nothing in it reaches a terminal as a command.
fn told(printed: &[u8]) -> String {
    let text = String::from_utf8_lossy(printed);
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match plain.trim() {
        "" => " and printed nothing".to_owned(),
        plain => format!("; it printed: {plain}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn captured(labels: &str) -> Captured {
        let json = format!(
            r#"{{"namespace":"default","id":"db","image":"","runtime":null,"snapshotter":"loom",
                "labels":{labels},"spec":{{}}}}"#
        );
        Captured::from_json("db", &json).unwrap()
    }

    #[test]
    fn commands_are_read_from_labels() {
        let hooks = Hooks::of(&captured(r#"{"loom.quiesce":"[\"lock\",\"-a\"]"}"#)).unwrap();
        assert_eq!(hooks, Hooks { quiesce: vec!["lock".into(), "-a".into()], unquiesce: None });
        let both = r#"{"loom.quiesce":"[\"lock\"]","loom.unquiesce":"[\"unlock\"]"}"#;
        assert_eq!(Hooks::of(&captured(both)).unwrap().unquiesce.unwrap(), r#"["unlock"]"#);
    }

    #[test]
    fn a_container_without_a_command_says_which_label_to_set() {
        let error = Hooks::of(&captured(r#"{"loom.unquiesce":"[\"unlock\"]"}"#)).unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        assert!(error.to_string().contains("loom.quiesce"), "{error}");
    }

    #[test]
    fn what_is_no_command_is_refused_first() {
        for json in
            ["", "[]", "sync", "\"sync\"", "[1]", "[\"\"]", "{}", "[\"a\\u0000\"]", "null", "[\"a\", null]"]
        {
            for hook in [Hook::Quiesce, Hook::Unquiesce] {
                let error = command(hook, json).unwrap_err();
                assert_eq!(error.kind(), Kind::InvalidArgument, "{json}");
                assert!(error.to_string().contains(hook.label()), "{error}");
            }
        }
        let broken = captured(r#"{"loom.quiesce":"[\"lock\"]","loom.unquiesce":"[]"}"#);
        assert_eq!(Hooks::of(&broken).unwrap_err().kind(), Kind::InvalidArgument);
    }

    #[test]
    fn the_end_of_what_was_printed_is_told_and_the_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        let output = Output::new(dir.path()).unwrap();
        assert!(output.tail().contains("nothing"));
        let line = "x".repeat(5000) + "\n\x1b[31mlast words\n";
        std::fs::write(&output.path, line).unwrap();
        let tail = output.tail();
        assert!(tail.ends_with("last words") && !tail.contains('\x1b') && tail.len() < 1100, "{tail}");
        drop(output);
        assert_eq!(std::fs::read_dir(dir.path().join(OUTPUT)).unwrap().count(), 0);
        forget_outputs(dir.path());
        forget_outputs(dir.path());
        assert!(!dir.path().join(OUTPUT).exists());
    }
}
