//! The verbs about the pool.

use std::path::{Path, absolute};

use ttrpc::Code;

use super::args::{CreatePool, Pool as Verb};
use super::client::Failure;
use super::show::Look;
use super::units::{bytes, clean};
use super::{Answer, Run, json};
use crate::protos::admin::{CreatePoolRequest, MoveToPoolResponse, Pool};

impl Run<'_> {
    /// `loom pool`.
    pub(super) async fn pool(&mut self, verb: Verb) -> Result<Answer, Failure> {
        match verb {
            Verb::Create(args) => {
                let pool = self.client.create_pool(request(&args)?).await?;
                let note = "new containers lie in it; `loom pool move` brings stopped ones in\n";
                self.told(&pool, note)
            }
            Verb::Grow { size } => {
                let pool = self.client.grow_pool(size).await?;
                self.told(&pool, "")
            }
            Verb::Status => {
                let status = self.client.status().await?;
                match status.pool_state.as_ref() {
                    Some(pool) => self.told(pool, ""),
                    None if self.json => Ok(Answer::of("null\n")),
                    None => Err(Failure::new(
                        Code::NOT_FOUND,
                        format!("there is no pool; {}: {}", status.method, status.method_why),
                    )),
                }
            }
            Verb::Move { containers } => self.move_to_pool(containers).await,
        }
    }

    fn told(&self, pool: &Pool, note: &str) -> Result<Answer, Failure> {
        if self.json {
            return json::answer(&json::Pool::from(pool));
        }
        Ok(Answer { note: note.to_owned(), ..Answer::of(lines(&self.look, pool)) })
    }

    /// `loom pool move`: one that cannot be moved does not keep the others from it.
    async fn move_to_pool(&mut self, containers: Vec<String>) -> Result<Answer, Failure> {
        let told = self.client.move_to_pool(containers).await?;
        let (moved, refused): (Vec<_>, Vec<_>) = told.into_iter().partition(|one| one.refused.is_empty());
        let out = if self.json {
            json::text(&moved.iter().map(json::Moved::from).collect::<Vec<_>>())?
        } else {
            moved.iter().map(|one| clean(&one.container) + "\n").collect()
        };
        let mut answer = Answer::of(out);
        if moved.is_empty() && refused.is_empty() {
            "nothing is left to move\n".clone_into(&mut answer.note);
        }
        let failure = |one: MoveToPoolResponse| {
            Failure::new(
                Code::FAILED_PRECONDITION,
                format!("{} was not moved: {}", one.container, one.refused),
            )
        };
        answer.failures = refused.into_iter().map(failure).collect();
        Ok(answer)
    }
}

/// loomd would take a relative path from its own directory.
fn request(args: &CreatePool) -> Result<CreatePoolRequest, Failure> {
    let whole = |path: Option<&Path>| match path.map(absolute) {
        None => Ok(String::new()),
        Some(Ok(path)) => Ok(path.display().to_string()),
        Some(Err(error)) => Err(Failure::new(Code::INVALID_ARGUMENT, format!("path: {error}"))),
    };
    Ok(CreatePoolRequest {
        size: args.size.unwrap_or(0),
        device: whole(args.device.as_deref())?,
        path: whole(args.path.as_deref())?,
        ..Default::default()
    })
}

/// `loom pool status`.
fn lines(look: &Look, pool: &Pool) -> String {
    let mut lines = vec![
        ("path", pool.path.clone()),
        (
            "kind",
            if pool.source.is_empty() { pool.kind.clone() } else { format!("{} {}", pool.kind, pool.source) },
        ),
        ("size", bytes(pool.size)),
        ("used", bytes(pool.used)),
        ("free", bytes(pool.free)),
    ];
    if pool.kind == "image" {
        lines.push(("allocated", format!("{} of its host's space", bytes(pool.allocated))));
        lines.push((
            "host free",
            format!("{}, of which {} are kept", bytes(pool.host_free), bytes(pool.reserve)),
        ));
    }
    let branches =
        if pool.refuses.is_empty() { "yes".to_owned() } else { format!("refused: {}", pool.refuses) };
    lines.push(("branches", branches));
    let line = |(key, value): (&str, String)| format!("{}: {}\n", look.faint(key), clean(&value));
    lines.into_iter().map(line).collect()
}

/// What of it `loom status` tells on one line.
pub(super) fn short(pool: &Pool) -> String {
    let kind = if pool.source.is_empty() { &pool.kind } else { &pool.source };
    format!("{} ({kind}), {} used of {}", pool.path, bytes(pool.used), bytes(pool.size))
}
