//! One call of nerdctl.
//!
//! A call that is under way runs to its end also where the daemon dies: its output goes to memory that is its
//! own, and it holds its operation's lock ([`super::trail`]) as its input, so that a restart can wait for it.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::process::Stdio;
use std::time::Duration;

use containerd_client::services::v1::Container;
use tokio::process::Command;

use super::Way;
use crate::containerd::client::Client;
use crate::containerd::task;
use crate::error::{Error, Kind, Result};

/// How long a call may take: CNI gives addresses one by one.
const LIMIT: Duration = Duration::from_mins(2);
/// How much of what a call printed is read, in bytes.
const READ: u64 = 1 << 20;
/// How many lines of an error are shown.
const LINES: usize = 5;
/// Where nerdctl keeps how long a container may take to stop, in seconds.
const STOP_TIMEOUT: &str = "nerdctl/stop-timeout";

impl Way {
    /// Calls nerdctl in the client's namespace, and answers what it printed. Under a lock the call can be
    /// waited for by a later daemon.
    pub(super) async fn call(&self, client: &Client, lock: Option<&File>, args: &[&str]) -> Result<String> {
        self.call_within(LIMIT, client, lock, args).await
    }

    async fn call_within(
        &self,
        limit: Duration,
        client: &Client,
        lock: Option<&File>,
        args: &[&str],
    ) -> Result<String> {
        let action = args.first().copied().unwrap_or_default();
        let failed =
            |message: String, kind: Kind| Error::Nerdctl { action: action.to_owned(), message, kind };
        let io = |error: std::io::Error| failed(format!("{}: {error}", self.binary), Kind::Internal);
        let (out, err) = (Output::new().map_err(io)?, Output::new().map_err(io)?);
        let stdin = match lock {
            // The same open file: it is locked until the last process that has it ends.
            Some(lock) => Stdio::from(lock.try_clone().map_err(io)?),
            None => Stdio::null(),
        };
        let mut command = Command::new(&self.binary);
        command
            .args(&self.flags)
            .arg(format!("--namespace={}", client.target().namespace))
            .args(args)
            .env_clear()
            .envs(self.env.iter().filter_map(|variable| variable.split_once('=')))
            .current_dir("/")
            .stdin(stdin)
            .stdout(out.writer().map_err(io)?)
            .stderr(err.writer().map_err(io)?)
            // What a terminal sends to the daemon is not for it.
            .process_group(0);
        tracing::debug!(binary = self.binary, ?args, "calling nerdctl");
        let mut child = command.spawn().map_err(io)?;
        // The command holds the lock too.
        drop(command);
        let Ok(status) = tokio::time::timeout(limit, child.wait()).await else {
            child.kill().await.map_err(io)?;
            let late = format!("it had not ended after {} s, and was killed", limit.as_secs());
            return Err(failed(late, Kind::DeadlineExceeded));
        };
        let status = status.map_err(io)?;
        if status.success() {
            return out.read().map_err(io);
        }
        let said = err.read().map_err(io)?;
        let message = match told(&said) {
            message if message.is_empty() => format!("it ended with {status}"),
            message => message,
        };
        Err(failed(message, Kind::FailedPrecondition))
    }

    /// Stops a container as its user would.
    pub(in crate::containerd) async fn stop(&self, client: &Client, container: &Container) -> Result<()> {
        crate::fault::point("containerd.nerdctl.stop")?;
        let own = container.labels.get(STOP_TIMEOUT).and_then(|seconds| seconds.parse().ok());
        let limit = LIMIT.saturating_add(Duration::from_secs(own.unwrap_or(0)));
        self.call_within(limit, client, None, &["stop", &container.id]).await?;
        Ok(())
    }

    /// Starts one that is stopped; answers its process.
    pub(in crate::containerd) async fn start(&self, client: &Client, container: &Container) -> Result<u32> {
        self.start_under(client, None, &container.id).await
    }

    /// As `start`, under a lock.
    pub(super) async fn start_under(&self, client: &Client, lock: Option<&File>, id: &str) -> Result<u32> {
        crate::fault::point("containerd.nerdctl.start")?;
        self.call(client, lock, &["start", id]).await?;
        match task::get(client, id).await? {
            Some(task) => Ok(task.pid),
            None => Err(Error::precondition(
                format!("container {id:?}"),
                "it ended as soon as it was started, and is gone; run it without --rm",
            )),
        }
    }
}

/// What a process prints, in memory: a pipe would end the process once nobody reads it.
struct Output(File);

impl Output {
    fn new() -> std::io::Result<Self> {
        let memory = rustix::fs::memfd_create("nerdctl", rustix::fs::MemfdFlags::CLOEXEC)?;
        Ok(Self(File::from(memory)))
    }

    fn writer(&self) -> std::io::Result<Stdio> {
        Ok(Stdio::from(self.0.try_clone()?))
    }

    fn read(mut self) -> std::io::Result<String> {
        self.0.rewind()?;
        let mut bytes = Vec::new();
        self.0.take(READ).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// What an error of nerdctl's says, without the dress of its log.
fn told(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let logged = |level: &str| -> Vec<String> {
        let level = format!(" level={level} ");
        lines.iter().filter(|line| line.contains(&level)).map(|line| message(line)).collect()
    };
    let found = match (logged("fatal"), logged("error")) {
        (fatal, _) if !fatal.is_empty() => fatal,
        (_, errors) if !errors.is_empty() => errors,
        _ => lines.iter().map(|line| message(line)).collect(),
    };
    found[found.len().saturating_sub(LINES)..].join("; ")
}

/// The message of a line of its log; a line that is none as it is.
fn message(line: &str) -> String {
    let Some((_, rest)) = line.split_once(" msg=") else { return line.to_owned() };
    // What follows the message are details; it may have quotes of its own, escaped.
    let mut parsed = serde_json::Deserializer::from_str(rest).into_iter::<String>();
    let text = match parsed.next() {
        Some(Ok(text)) => text,
        _ => rest.to_owned(),
    };
    let parts = text.split('\n').map(|part| part.trim().trim_end_matches(':'));
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_error_is_what_was_fatal() {
        let taken = "time=\"2026-01-02T03:04:05Z\" level=warning msg=\"old cgroups\"\n\
            time=\"2026-01-02T03:04:05Z\" level=fatal msg=\"name-store error\\nname \\\"web\\\" is already \
            used by ID \\\"5cfd\\\"\"\n";
        for (stderr, want) in [
            (taken, "name-store error: name \"web\" is already used by ID \"5cfd\""),
            ("time=\"x\" level=fatal msg=\"1 errors:\\nno such program\"", "1 errors: no such program"),
            ("", ""),
            ("exec format error\n\n", "exec format error"),
            ("time=\"x\" level=error msg=\"one\" id=7\ntime=\"x\" level=error msg=two\n", "one; two"),
            ("time=\"x\" level=fatal msg=\"not\\xjson\"", "\"not\\xjson\""),
            ("1\n2\n3\n4\n5\n6\n", "2; 3; 4; 5; 6"),
        ] {
            assert_eq!(told(stderr), want, "{stderr}");
        }
    }
}
