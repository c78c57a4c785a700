//! Tasks: the processes of containers.

use std::path::Path;
use std::time::Duration;

use containerd_client::services::v1::{
    Container, CreateTaskRequest, DeleteProcessRequest, DeleteTaskRequest, ExecProcessRequest, GetRequest,
    KillRequest, PauseTaskRequest, ResumeTaskRequest, StartRequest, WaitRequest,
};
use containerd_client::types::v1::Status;
use prost_types::Any;

use super::client::{Client, or_missing};
use super::{snapshots, spec};
use crate::error::{Kind, Result};

/// Where nerdctl has a container's output sent.
const NERDCTL_LOG: &str = "nerdctl/log-uri";
/// A terminal's output has to go somewhere; the shim opens this as it would a FIFO.
const NOWHERE: &str = "/dev/null";
const SIGKILL: u32 = 9;

/// A task's state and process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Task {
    /// What it is doing.
    pub(super) status: Status,
    /// Its process.
    pub(super) pid: u32,
}

impl Task {
    /// True while its processes run and can take in another one.
    pub(super) fn runs(self) -> bool {
        self.status == Status::Running
    }
}

/// A container's task; None where it has none.
pub(super) async fn get(client: &Client, container: &str) -> Result<Option<Task>> {
    let request = client.request(GetRequest { container_id: container.to_owned(), exec_id: String::new() });
    let answer = or_missing(client.tasks().get(request).await)
        .map_err(client.failed(format!("look at the task of container {container:?}")))?;
    Ok(answer
        .and_then(|answer| answer.into_inner().process)
        .map(|process| Task { status: process.status(), pid: process.pid }))
}

/// Stops its processes where they are.
pub(super) async fn pause(client: &Client, container: &str) -> Result<()> {
    let request = client.request(PauseTaskRequest { container_id: container.to_owned() });
    client.tasks().pause(request).await.map_err(client.failed(format!("pause container {container:?}")))?;
    Ok(())
}

/// Lets its processes go on.
pub(super) async fn resume(client: &Client, container: &str) -> Result<()> {
    let request = client.request(ResumeTaskRequest { container_id: container.to_owned() });
    client.tasks().resume(request).await.map_err(client.failed(format!("resume container {container:?}")))?;
    Ok(())
}

/// Makes a container's task and starts it; answers its process. Where it does not start, no task stays.
pub(super) async fn start(client: &Client, container: &Container) -> Result<u32> {
    crate::fault::point("containerd.task.create")?;
    let id = &container.id;
    let spec = spec::read(container)?;
    let mut rootfs = snapshots::mounts(client, &container.snapshotter, &container.snapshot_key).await?;
    if let Some(label) = spec::mount_label(&spec) {
        for mount in &mut rootfs {
            mount.options.push(format!("context=\"{label}\""));
        }
    }
    let terminal = spec::has_terminal(&spec);
    let output = match container.labels.get(NERDCTL_LOG) {
        Some(log) => log.as_str(),
        None if terminal => NOWHERE,
        None => "",
    };
    let request = client.request(CreateTaskRequest {
        container_id: id.clone(),
        rootfs,
        terminal,
        stdout: output.to_owned(),
        // A terminal has one output.
        stderr: if terminal { String::new() } else { output.to_owned() },
        ..CreateTaskRequest::default()
    });
    let made = client.tasks().create(request).await;
    let started = match made.map_err(client.failed(format!("make the task of container {id:?}"))) {
        Ok(_) => start_made(client, id).await,
        Err(error) => Err(error),
    };
    match started {
        Ok(pid) => Ok(pid),
        // Somebody else has made one meanwhile.
        Err(error) if error.kind() == Kind::AlreadyExists => Err(error),
        Err(error) => {
            // One whose answer was lost may be there all the same.
            if let Err(left) = end(client, id).await {
                tracing::warn!(container = id, error = %left, "a task that did not start stays");
            }
            Err(error)
        }
    }
}

/// Starts a task that is made but not started.
pub(super) async fn start_made(client: &Client, container: &str) -> Result<u32> {
    crate::fault::point("containerd.task.start")?;
    let request = client.request(StartRequest { container_id: container.to_owned(), exec_id: String::new() });
    let answer = client
        .tasks()
        .start(request)
        .await
        .map_err(client.failed(format!("start container {container:?}")))?;
    Ok(answer.into_inner().pid)
}

/// Deletes a task whose process has ended, or never started; one that is gone is gone.
pub(super) async fn delete(client: &Client, container: &str) -> Result<()> {
    let request = client.request(DeleteTaskRequest { container_id: container.to_owned() });
    or_missing(client.tasks().delete(request).await)
        .map_err(client.failed(format!("delete the task of container {container:?}")))?;
    Ok(())
}

/// Deletes a task whatever it is doing.
pub(super) async fn end(client: &Client, container: &str) -> Result<()> {
    if delete(client, container).await.is_ok() {
        return Ok(());
    }
    // It runs, most likely; containerd has no code of its own for that.
    kill(client, container, SIGKILL, true).await?;
    ended(client, container).await?;
    delete(client, container).await
}

/// Sends its first process a signal; one that has ended needs none.
pub(super) async fn signal(client: &Client, container: &str, signal: u32) -> Result<()> {
    kill(client, container, signal, false).await
}

async fn kill(client: &Client, container: &str, signal: u32, all: bool) -> Result<()> {
    let (container_id, exec_id) = (container.to_owned(), String::new());
    let request = client.request(KillRequest { container_id, exec_id, signal, all });
    or_missing(client.tasks().kill(request).await)
        .map_err(client.failed(format!("kill container {container:?}")))?;
    Ok(())
}

/// Waits for its first process to end.
pub(super) async fn ended(client: &Client, container: &str) -> Result<()> {
    let request = client.request(WaitRequest { container_id: container.to_owned(), exec_id: String::new() });
    or_missing(client.tasks().wait(request).await)
        .map_err(client.failed(format!("wait for container {container:?} to end")))?;
    Ok(())
}

/// As [`ended`], no longer than `patience`; answers whether it has.
pub(super) async fn ended_within(client: &Client, container: &str, patience: Duration) -> Result<bool> {
    match tokio::time::timeout(patience, ended(client, container)).await {
        Ok(ended) => ended.map(|()| true),
        Err(_) => Ok(false),
    }
}

/// A process beside a task's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exec<'a> {
    pub(super) client: &'a Client,
    pub(super) container: &'a str,
    /// What containerd calls it, in its container.
    pub(super) id: &'a str,
}

impl Exec<'_> {
    /// Makes it without starting it; what it prints is added to a file.
    pub(super) async fn make(&self, spec: Any, output: &Path) -> Result<()> {
        crate::fault::point("containerd.exec.make")?;
        let output = output.to_string_lossy().into_owned();
        let request = self.client.request(ExecProcessRequest {
            container_id: self.container.to_owned(),
            exec_id: self.id.to_owned(),
            // The shim opens a file as it would a FIFO.
            stdout: output.clone(),
            stderr: output,
            spec: Some(spec),
            ..ExecProcessRequest::default()
        });
        let made = self.client.tasks().exec(request).await;
        made.map_err(self.client.failed(format!("make a process in container {:?}", self.container)))?;
        Ok(())
    }

    /// Starts it and waits for its end; answers its exit status.
    pub(super) async fn run(&self) -> Result<u32> {
        crate::fault::point("containerd.exec.start")?;
        let (container_id, exec_id) = (self.container.to_owned(), self.id.to_owned());
        let request = self
            .client
            .request(StartRequest { container_id: container_id.clone(), exec_id: exec_id.clone() });
        let started = self.client.tasks().start(request).await;
        started.map_err(self.client.failed(format!("start a process in container {container_id:?}")))?;
        let request = self.client.request(WaitRequest { container_id: container_id.clone(), exec_id });
        let ended = self.client.tasks().wait(request).await;
        let ended =
            ended.map_err(self.client.failed(format!("wait for a process in container {container_id:?}")))?;
        Ok(ended.into_inner().exit_status)
    }

    /// Ends and deletes it, as far as it came; one that is gone is gone.
    pub(super) async fn end(&self) -> Result<()> {
        let (container_id, exec_id) = (self.container.to_owned(), self.id.to_owned());
        let delete = || async {
            let request = self.client.request(DeleteProcessRequest {
                container_id: self.container.to_owned(),
                exec_id: self.id.to_owned(),
            });
            or_missing(self.client.tasks().delete_process(request).await)
                .map_err(self.client.failed(format!("delete a process in container {:?}", self.container)))
        };
        if delete().await.is_ok() {
            return Ok(());
        }
        // It runs, most likely; containerd has no code of its own for that.
        let request = self.client.request(KillRequest {
            container_id: container_id.clone(),
            exec_id: exec_id.clone(),
            signal: SIGKILL,
            all: false,
        });
        or_missing(self.client.tasks().kill(request).await)
            .map_err(self.client.failed(format!("kill a process in container {container_id:?}")))?;
        let request = self.client.look(WaitRequest { container_id: container_id.clone(), exec_id });
        or_missing(self.client.tasks().wait(request).await)
            .map_err(self.client.failed(format!("wait for a process in container {container_id:?}")))?;
        delete().await.map(drop)
    }
}
