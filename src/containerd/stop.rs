//! Stop and start of a container, whatever made it: by the tool whose it is, else by its task.
//!
//! ```text
//! looked at ── the restart monitor looks away ── SIGTERM, then SIGKILL ── task deleted ── (its files are free)
//!                                                                                             │
//!     it does again what it did ◄── paused, where it was ◄── started, where it ran ◄──────────┘
//! ```
//!
//! What has to be put back ([`Life`]) is known before anything is stopped, and goes into an operation's plan:
//! a restart brings a container back that a crash left stopped.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::time::Duration;

use containerd_client::services::v1::Container;
use containerd_client::types::v1::Status;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::captured::Captured;
use super::client::Client;
use super::nerdctl::Way;
use super::{containers, spec, task};
use crate::error::{Error, Result};

/// How long a process may take to end by itself, as docker and nerdctl have it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where an image says which signal that is.
const STOP_SIGNAL: &str = "io.containerd.image.config.stop-signal";
/// nerdctl's `--rm`: it removes the container once it has stopped.
const AUTO_REMOVE: &str = "nerdctl/auto-remove";
/// What the Kubernetes plugin of containerd calls its containers.
const CRI: &str = "io.cri-containerd.kind";
/// What containerd's restart monitor is to make of a container. One without it is none of its business.
const MONITORED: &str = "containerd.io/restart.status";
/// What a user's stop tells it, for the policies that care.
const EXPLICITLY_STOPPED: &str = "containerd.io/restart.explicitly-stopped";
/// When it starts a container again.
const POLICY: &str = "containerd.io/restart.policy";

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Doing {
    /// Nothing: it has no process.
    Stopped,
    /// It runs.
    Running,
    /// Its user has paused it.
    Paused,
}

/// What a container did, and how it is made to do so again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Life {
    container: String,
    doing: Doing,
    /// Its process.
    pid: Option<u32>,
    /// How its tool is called; none for one that containerd alone knows.
    way: Option<Way>,
    /// Its labels for the restart monitor.
    monitor: BTreeMap<String, String>,
}

impl Life {
    /// What a container does now. Refuses, before anything is done, one that would not survive a stop.
    pub(super) async fn of(client: &Client, container: &Container) -> Result<Self> {
        let task = task::get(client, &container.id).await?;
        let refused = |why: &str| {
            Error::precondition(format!("container {:?}", containers::display_name(container)), why)
        };
        let doing = match task.map(|task| task.status) {
            None | Some(Status::Stopped) => Doing::Stopped,
            Some(Status::Running) => Doing::Running,
            Some(Status::Paused) => Doing::Paused,
            Some(Status::Created) => {
                return Err(refused("its task is made and not started; start it or delete the task first"));
            }
            Some(Status::Pausing | Status::Unknown) => {
                return Err(refused("its task is changing; try again"));
            }
        };
        let mut way = None;
        if doing != Doing::Stopped {
            survives_a_stop(container)?;
            way = Way::of(&Captured::of(&client.target().namespace, container)?)?;
        }
        let monitor = [MONITORED, EXPLICITLY_STOPPED, POLICY]
            .into_iter()
            .filter_map(|label| Some((label.to_owned(), container.labels.get(label)?.clone())))
            .collect();
        Ok(Self {
            container: container.id.clone(),
            doing,
            pid: task.map(|task| task.pid).filter(|_| doing != Doing::Stopped),
            way,
            monitor,
        })
    }

    /// Whose it is: the container's id.
    pub(super) fn container(&self) -> &str {
        &self.container
    }

    /// True where it has a process.
    pub(super) fn runs(&self) -> bool {
        self.doing != Doing::Stopped
    }

    /// Ends its process, and keeps the restart monitor from starting another one.
    pub(super) async fn stop(&self, client: &Client, container: &Container) -> Result<()> {
        if self.monitor.contains_key(MONITORED) {
            // Not by the label of an explicit stop: the policy `always` does not care for that.
            containers::relabel(client, &self.container, &[(MONITORED, "")]).await?;
        }
        if self.runs() {
            stop(client, container, self.way.as_ref()).await
        } else {
            task::delete(client, &self.container).await
        }
    }

    /// Makes it do again what it did; answers its process. The restart monitor looks after it again.
    pub(super) async fn go_on(&self, client: &Client, container: &Container) -> Result<Option<u32>> {
        let mut pid = None;
        if self.runs() {
            pid = Some(start(client, container, self.way.as_ref()).await?);
            if self.doing == Doing::Paused {
                task::pause(client, &self.container).await?;
            }
        }
        self.give_back(client, self.stopped_label()).await?;
        Ok(pid)
    }

    /// Leaves it stopped; the restart monitor too. Answers a warning where that cannot look after it any more.
    pub(super) async fn stay(&self, client: &Client) -> Result<Option<String>> {
        if self.runs() && self.always_restarted() {
            return Ok(Some(format!(
                "container {:?} is to run always, and stays stopped only without its label {MONITORED}; \
                 set it to `running` when it is to be watched again",
                self.container
            )));
        }
        let told = if self.runs() { "true" } else { self.stopped_label() };
        self.give_back(client, told).await?;
        Ok(None)
    }

    /// What a crash left half done: makes it do what it did, unless somebody else has started it since.
    pub(super) async fn revive(&self, client: &Client) -> Result<Option<u32>> {
        let Some(container) = containers::get(client, &self.container).await? else { return Ok(None) };
        let task = task::get(client, &self.container).await?;
        match task {
            // Whoever made it came no further.
            Some(task) if self.runs() && task.status == Status::Created => {
                task::end(client, &self.container).await?;
                self.go_on(client, &container).await
            }
            Some(task) if self.runs() && task.status != Status::Stopped && Some(task.pid) != self.pid => {
                if self.doing == Doing::Paused && task.status == Status::Running {
                    task::pause(client, &self.container).await?;
                }
                self.give_back(client, self.stopped_label()).await?;
                Ok(Some(task.pid))
            }
            // It may be about to end: whether it was told to is not known.
            Some(_) if self.runs() => {
                stop(client, &container, self.way.as_ref()).await?;
                self.go_on(client, &container).await
            }
            _ => self.go_on(client, &container).await,
        }
    }

    /// Shows the container to the restart monitor again. nerdctl has changed these labels with its stop.
    async fn give_back(&self, client: &Client, explicitly_stopped: &str) -> Result<()> {
        let Some(status) = self.monitor.get(MONITORED) else { return Ok(()) };
        let labels = [(EXPLICITLY_STOPPED, explicitly_stopped), (MONITORED, status.as_str())];
        containers::relabel(client, &self.container, &labels).await
    }

    fn stopped_label(&self) -> &str {
        self.monitor.get(EXPLICITLY_STOPPED).map_or("", String::as_str)
    }

    /// True where the monitor would start it whoever has stopped it.
    fn always_restarted(&self) -> bool {
        self.monitor.get(MONITORED).is_some_and(|status| status == "running")
            && matches!(self.monitor.get(POLICY).map_or("", String::as_str), "" | "always")
    }
}

/// Ends a container's process: as its user would, for its task's rootfs is to be free behind it.
pub(super) async fn stop(client: &Client, container: &Container, way: Option<&Way>) -> Result<()> {
    let id = &container.id;
    crate::fault::point("containerd.stop.signal")?;
    if let Some(way) = way {
        way.stop(client, container).await?;
    } else {
        let paused = task::get(client, id).await?.is_some_and(|task| task.status == Status::Paused);
        task::signal(client, id, stop_signal(container)).await?;
        // It gets most signals only once it goes on, but has ended by others, which the shim learns later: then it
        // cannot go on, and need not.
        let stuck = if paused { task::resume(client, id).await.err() } else { None };
        if !task::ended_within(client, id, PATIENCE).await? {
            if let Some(error) = stuck {
                return Err(error);
            }
            task::signal(client, id, Signal::SIGKILL as u32).await?;
            task::ended(client, id).await?;
        }
    }
    crate::fault::point("containerd.stop.delete")?;
    // With the task goes the mount of its root.
    task::delete(client, id).await
}

/// Starts a container that is stopped; answers its process.
pub(super) async fn start(client: &Client, container: &Container, way: Option<&Way>) -> Result<u32> {
    match way {
        Some(way) => way.start(client, container).await,
        None => task::start(client, container).await,
    }
}

/// Refuses a container that somebody takes away, or replaces, once it has stopped.
fn survives_a_stop(container: &Container) -> Result<()> {
    let refused = |why: &str| {
        Err(Error::precondition(format!("container {:?}", containers::display_name(container)), why))
    };
    let annotated = |label: &str| {
        let spec = spec::read(container).ok()?;
        Some(spec.get("annotations")?.get(label)?.as_str()?.to_owned())
    };
    let auto_remove = container.labels.get(AUTO_REMOVE).cloned().or_else(|| annotated(AUTO_REMOVE));
    if auto_remove.is_some_and(|value| value == "true") {
        return refused(
            "it runs with --rm and would be removed when it is stopped for this; fork it, and use the fork",
        );
    }
    if container.labels.contains_key(CRI) {
        return refused(
            "it is Kubernetes', which would start another one in its place when it is stopped for this; \
             fork it, or stop its pod first",
        );
    }
    Ok(())
}

/// What tells a container's process to end.
fn stop_signal(container: &Container) -> u32 {
    let wanted = container.labels.get(STOP_SIGNAL).map_or("", String::as_str);
    if let Ok(number @ 1..=64) = wanted.parse() {
        return number;
    }
    let name = if wanted.starts_with("SIG") { wanted.to_owned() } else { format!("SIG{wanted}") };
    Signal::from_str(&name).unwrap_or(Signal::SIGTERM) as u32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::error::Kind;

    fn labelled(labels: &[(&str, &str)]) -> Container {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Container { id: "web".into(), labels, ..Container::default() }
    }

    #[test]
    fn images_may_choose_the_signal() {
        for (label, number) in
            [("SIGQUIT", 3), ("QUIT", 3), ("9", 9), ("", 15), ("0", 15), ("SIGNONE", 15), ("999", 15)]
        {
            assert_eq!(stop_signal(&labelled(&[(STOP_SIGNAL, label)])), number, "{label:?}");
        }
        assert_eq!(stop_signal(&labelled(&[])), 15);
    }

    #[test]
    fn what_a_stop_would_end_is_refused() {
        for (labels, says) in [([(AUTO_REMOVE, "true")], "--rm"), ([(CRI, "container")], "Kubernetes")] {
            let error = survives_a_stop(&labelled(&labels)).unwrap_err();
            assert_eq!(error.kind(), Kind::FailedPrecondition);
            assert!(error.to_string().contains(says) && error.to_string().contains("web"), "{error}");
        }
        let spec = spec::write(&serde_json::json!({"annotations": {AUTO_REMOVE: "true"}}));
        assert!(survives_a_stop(&Container { spec: Some(spec), ..labelled(&[]) }).is_err());
        survives_a_stop(&labelled(&[(AUTO_REMOVE, "false")])).unwrap();
        survives_a_stop(&labelled(&[])).unwrap();
    }

    #[test]
    fn the_monitor_starts_some_whoever_stopped_them() {
        for (policy, always) in [
            (None, true),
            (Some("always"), true),
            (Some("unless-stopped"), false),
            (Some("on-failure:3"), false),
        ] {
            let mut monitor = BTreeMap::from([(MONITORED.to_owned(), "running".to_owned())]);
            monitor.extend(policy.map(|policy| (POLICY.to_owned(), policy.to_owned())));
            let life =
                Life { container: "web".into(), doing: Doing::Running, pid: Some(1), way: None, monitor };
            assert_eq!(life.always_restarted(), always, "{policy:?}");
        }
    }
}
