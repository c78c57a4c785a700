//! The verbs about operations, and what they print.

use jiff::Timestamp;
use serde_json::Value;
use ttrpc::Code;

use super::client::Failure;
use super::show::{Look, short_id};
use super::table::{Column, draw};
use super::units::{age, bytes, clean, duration, time};
use super::{Answer, Run, json};
use crate::protos::admin::{Operation, OperationKind, OperationState};

impl Run<'_> {
    /// `loom operations`.
    pub(super) async fn operations(&mut self, limit: u32, watch: bool) -> Result<Answer, Failure> {
        if watch {
            return self.watch(String::new()).await.map(|_| Answer::default());
        }
        let operations = self.client.operations(limit).await?;
        if self.json {
            let all: Vec<_> = operations.iter().map(json::Operation::from).collect();
            return json::answer(&all);
        }
        Ok(Answer::of(list(&self.look, &operations)))
    }

    /// `loom operation`.
    pub(super) async fn operation(&mut self, id: String, watch: bool) -> Result<Answer, Failure> {
        if !watch {
            let operation = self.client.operation(id).await?;
            if self.json {
                return json::answer(&json::Operation::from(&operation));
            }
            return Ok(Answer::of(whole(&self.look, &operation)));
        }
        match self.watch(id).await? {
            Some(last) if !self.json => Ok(Answer::of(format!("\n{}", whole(&self.look, &last)))),
            _ => Ok(Answer::default()),
        }
    }

    /// `loom cancel`.
    pub(super) async fn cancel(&mut self, id: String) -> Result<Answer, Failure> {
        let operation = self.client.cancel(id).await?;
        if self.json {
            return json::answer(&json::Operation::from(&operation));
        }
        let id = short_id(&operation.id);
        let note = format!("it stops at its next step; `loom operation {id} --watch` waits for that\n");
        Ok(Answer { note, ..Answer::of(line(&operation)) })
    }

    /// Prints every change as it comes; answers the last one.
    async fn watch(&mut self, id: String) -> Result<Option<Operation>, Failure> {
        let mut watch = self.client.watch(id).await?;
        let mut last = None;
        while let Some(operation) = watch.next().await? {
            let text =
                if self.json { json::line(&json::Operation::from(&operation))? } else { line(&operation) };
            match self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()) {
                Ok(()) => last = Some(operation),
                // The reader has seen enough: that is its right.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(None),
                Err(error) => {
                    let message = format!("cannot write to standard output: {error}");
                    return Err(Failure::new(Code::INTERNAL, message));
                }
            }
        }
        Ok(last)
    }
}

/// The word for what an operation does.
pub(super) fn kind(operation: &Operation) -> &'static str {
    match operation.kind.enum_value() {
        Ok(OperationKind::OPERATION_KIND_SNAPSHOT) => "snapshot",
        Ok(OperationKind::OPERATION_KIND_FORK) => "fork",
        Ok(OperationKind::OPERATION_KIND_CLONE) => "clone",
        Ok(OperationKind::OPERATION_KIND_ROLLBACK) => "rollback",
        Ok(OperationKind::OPERATION_KIND_PROMOTE) => "promote",
        Ok(OperationKind::OPERATION_KIND_RESUME) => "resume",
        Ok(OperationKind::OPERATION_KIND_COMMIT) => "commit",
        Ok(OperationKind::OPERATION_KIND_PORTABLE) => "portable",
        Ok(OperationKind::OPERATION_KIND_IMPORT) => "import",
        Ok(OperationKind::OPERATION_KIND_UNSPECIFIED) | Err(_) => "unknown",
    }
}

/// The word for how far it has come.
pub(super) fn state(operation: &Operation) -> &'static str {
    match operation.state.enum_value() {
        Ok(OperationState::OPERATION_STATE_ACCEPTED) => "accepted",
        Ok(OperationState::OPERATION_STATE_RUNNING) => "running",
        Ok(OperationState::OPERATION_STATE_SUCCEEDED) => "succeeded",
        Ok(OperationState::OPERATION_STATE_FAILED) => "failed",
        Ok(OperationState::OPERATION_STATE_CANCELLED) => "cancelled",
        Ok(OperationState::OPERATION_STATE_UNSPECIFIED) | Err(_) => "unknown",
    }
}

/// True for one whose parts are bytes.
pub(super) fn in_bytes(operation: &Operation) -> bool {
    let kind = operation.kind.enum_value();
    let long = [
        OperationKind::OPERATION_KIND_COMMIT,
        OperationKind::OPERATION_KIND_PORTABLE,
        OperationKind::OPERATION_KIND_IMPORT,
    ];
    kind.is_ok_and(|kind| long.contains(&kind))
}

/// How much is done of how much.
fn parts(operation: &Operation) -> (String, String) {
    let text = |parts| if in_bytes(operation) { bytes(parts) } else { parts.to_string() };
    (text(operation.done), text(operation.total))
}

/// What is done now: `fork web: start`.
pub(super) fn step(operation: &Operation) -> String {
    let step = operation.steps.last().map_or_else(|| state(operation), |step| &step.name);
    clean(&format!("{} {}: {step}", kind(operation), operation.subject))
}

/// The same, and how much of it: `fork web: start 3/8`, `portable app: write 12 MB/1.1 GB`.
pub(super) fn progress(operation: &Operation) -> String {
    let (done, total) = parts(operation);
    match operation.total {
        0 | 1 => step(operation),
        _ => format!("{} {done}/{total}", step(operation)),
    }
}

/// How long it took; none while it has not ended.
fn took(operation: &Operation) -> Option<String> {
    let (created, ended) = (time(&operation.created)?, time(&operation.ended)?);
    // A clock that was set back took no time off it.
    Some(duration(u64::try_from(ended.duration_since(created).as_micros()).unwrap_or(0)))
}

/// `loom operations`.
fn list(look: &Look, operations: &[Operation]) -> String {
    let columns = [
        Column::Whole("ID"),
        Column::Whole("KIND"),
        Column::Title("SUBJECT"),
        Column::Whole("STATE"),
        Column::Faint("AGE"),
        Column::Whole("TOOK"),
    ];
    let row = |operation: &Operation| {
        vec![
            short_id(&operation.id).to_owned(),
            kind(operation).to_owned(),
            operation.subject.clone(),
            state(operation).to_owned(),
            age(time(&operation.created), look.now),
            took(operation).unwrap_or_else(|| "-".into()),
        ]
    };
    draw(look, &columns, operations.iter().map(row).collect())
}

/// A change of an operation, as a watcher reads it.
fn line(operation: &Operation) -> String {
    let (id, kind, state) = (short_id(&operation.id), kind(operation), state(operation));
    let detail = match operation.state.enum_value() {
        Ok(OperationState::OPERATION_STATE_RUNNING) => {
            let progress = progress(operation);
            progress.rsplit_once(": ").map_or(String::new(), |(_, step)| step.to_owned())
        }
        _ if !operation.error.is_empty() => operation.error.clone(),
        _ => took(operation).unwrap_or_default(),
    };
    let text = format!("{id}   {kind:<8}   {}   {state:<9}   {detail}", operation.subject);
    clean(text.trim_end()) + "\n"
}

/// `loom operation`: all of it.
fn whole(look: &Look, operation: &Operation) -> String {
    let mut lines = vec![
        format!("id: {}", operation.id),
        format!("kind: {}", kind(operation)),
        format!("subject: {}", operation.subject),
        format!("namespace: {}", operation.namespace),
        format!("state: {}", state(operation)),
        format!("begun: {}", moment(time(&operation.created), look.now)),
    ];
    if let Some(took) = took(operation) {
        lines.push(format!("took: {took}"));
    }
    if operation.total > 1 {
        let (done, total) = parts(operation);
        lines.push(format!("done: {done} of {total}"));
    }
    for (name, value) in [
        ("key", &operation.idempotency_key),
        ("error", &operation.error),
        ("error code", &operation.error_code),
    ] {
        if !value.is_empty() {
            lines.push(format!("{name}: {value}"));
        }
    }
    let made = made(&operation.result);
    if !made.is_empty() {
        lines.push("result:".to_owned());
    }
    lines.extend(made.iter().map(|one| format!("  {one}")));
    lines.extend(operation.warnings.iter().map(|warning| format!("warning: {warning}")));
    if !operation.steps.is_empty() {
        lines.push("steps:".to_owned());
    }
    let widest = operation.steps.iter().map(|step| step.name.len()).max().unwrap_or(0);
    for step in &operation.steps {
        let took = match step.took_us {
            0 if took(operation).is_none() => "under way".to_owned(),
            us => duration(us),
        };
        lines.push(format!("  {:<widest$}   {took}", step.name));
    }
    lines.iter().fold(String::new(), |text, line| text + &clean(line) + "\n")
}

/// What an operation came to, a line for each thing.
fn made(result: &str) -> Vec<String> {
    let Ok(result) = serde_json::from_str::<Value>(result) else { return Vec::new() };
    let ones = result["forks"].as_array().cloned().unwrap_or_else(|| vec![result]);
    let line = |one: &Value| {
        let text = |field: &str| one[field].as_str().filter(|text| !text.is_empty());
        // What an import or a commit answers is an image; what makes one portable has it in its answer.
        let image = text("image").or(one["image"]["image"].as_str());
        let called = text("name").or(text("container")).or(image).map(str::to_owned);
        let called = called.or_else(|| text("snapshot").map(|id| format!("snapshot {}", short_id(id))));
        let end = match (one["error"]["message"].as_str(), one["pid"].as_u64(), text("kept_name")) {
            (Some(error), ..) => format!("   {error}"),
            (None, pid, kept) => {
                let pid = pid.map(|pid| format!("   pid {pid}")).unwrap_or_default();
                pid + &kept.map(|kept| format!("   what it had is kept as {kept}")).unwrap_or_default()
            }
        };
        Some(called? + &end)
    };
    ones.iter().filter_map(line).collect()
}

fn moment(then: Option<Timestamp>, now: Timestamp) -> String {
    match then {
        Some(time) => format!("{time:.0}, {}", age(then, now)),
        None => "-".to_owned(),
    }
}
