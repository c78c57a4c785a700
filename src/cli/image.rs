//! The verbs about images.

use std::io::{self, ErrorKind};
use std::process::{Command, Stdio};

use ttrpc::Code;

use super::args::{Commit, Portable, Push, Tag};
use super::branch::new_id;
use super::client::Failure;
use super::show::{self, Look, short_id};
use super::table::{Column, draw};
use super::units::{age, bytes, clean, time};
use super::{Answer, Run, ask, json};
use crate::protos::admin::Image;

/// What pushes: it knows the registries that people are logged in to.
const NERDCTL: &str = "nerdctl";

impl Run<'_> {
    /// `loom commit`.
    pub(super) async fn commit(&mut self, args: Commit) -> Result<Answer, Failure> {
        let id = new_id()?;
        let made = self.wait(&id, self.client.commit(ask::commit(&id, args))).await?;
        if self.json {
            return json::answer(&json::Committed {
                operation: &made.operation,
                image: (&*made.image).into(),
                cost: made.cost.as_ref().map(Into::into),
            });
        }
        let cost = made.cost.as_ref().map(show::cost).unwrap_or_default();
        let name = clean(&made.image.name);
        let alone = if made.image.portable {
            String::new()
        } else {
            format!("only this node has it: `loom portable {name}` makes it one to save and push\n")
        };
        self.noted(Answer::of(name + "\n"), &made.operation, cost + &alone).await
    }

    /// `loom portable`.
    pub(super) async fn portable(&mut self, args: Portable) -> Result<Answer, Failure> {
        let id = new_id()?;
        let made = self.wait(&id, self.client.portable(ask::portable(&id, args))).await?;
        if self.json {
            return json::answer(&json::Portable {
                operation: &made.operation,
                image: (&*made.image).into(),
                layer: (!made.layer.is_empty()).then_some(&made.layer),
                layer_size: made.layer_size,
            });
        }
        if made.layer.is_empty() {
            let note = format!("{} was portable before\n", clean(&made.image.name));
            return self.noted(Answer::default(), &made.operation, note).await;
        }
        let layer = format!("{}   {}\n", clean(&made.layer), bytes(made.layer_size));
        self.noted(Answer::of(layer), &made.operation, String::new()).await
    }

    /// `loom images`.
    pub(super) async fn images(&mut self, quiet: bool) -> Result<Answer, Failure> {
        let images = self.client.images().await?;
        if self.json {
            return json::answer(&images.iter().map(json::Image::from).collect::<Vec<_>>());
        }
        if quiet {
            return Ok(Answer::of(images.iter().map(|image| clean(&image.name) + "\n").collect::<String>()));
        }
        Ok(Answer::of(list(&self.look, &images)))
    }

    /// `loom tag`.
    pub(super) async fn tag(&mut self, args: Tag) -> Result<Answer, Failure> {
        let tagged = self.client.tag(ask::tag(args)).await?;
        if self.json {
            return json::answer(&json::Image::from(&*tagged.image));
        }
        Ok(Answer::of(clean(&tagged.image.name) + "\n"))
    }

    /// `loom push`.
    pub(super) async fn push(&mut self, args: Push) -> Result<Answer, Failure> {
        let id = new_id()?;
        let Push { image, compression, args } = args;
        let portable = Portable { image, compression, once: super::args::Once::default() };
        let made = self.wait(&id, self.client.portable(ask::portable(&id, portable))).await?;
        let image = &made.image.name;
        let (address, namespace) = self.client.containerd().await?;
        let mut command = push(&address, &namespace, &args, image);
        if self.json {
            // Standard output is for the object.
            command.stdout(Stdio::from(io::stderr()));
        }
        run(command, image)?;
        if self.json {
            return json::answer(&json::Pushed { image, pushed: true });
        }
        Ok(Answer::default())
    }
}

/// The command that pushes an image.
fn push(address: &str, namespace: &str, args: &[String], image: &str) -> Command {
    let mut command = Command::new(NERDCTL);
    command.args(["--address", address, "--namespace", namespace, "push"]).args(args).arg(image);
    command
}

/// Runs nerdctl to its end. It has this process's terminal, and its own Ctrl-C.
fn run(mut command: Command, image: &str) -> Result<(), Failure> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(Code::UNKNOWN, format!("nerdctl push {image}: {status}"))),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Failure::new(
            Code::FAILED_PRECONDITION,
            format!(
                "nerdctl is not installed here, and `loom push` pushes with it; {image} is portable now: \
                 install nerdctl, or push it with another client, such as `ctr images push`"
            ),
        )),
        Err(error) => Err(Failure::new(Code::INTERNAL, format!("cannot run nerdctl: {error}"))),
    }
}

/// `loom images`.
fn list(look: &Look, images: &[Image]) -> String {
    let columns = [
        Column::Title("NAME"),
        Column::Whole("ID"),
        Column::Whole("SNAPSHOT"),
        Column::Faint("CREATED"),
        Column::Whole("SIZE"),
        Column::Whole("PORTABLE"),
    ];
    let row = |image: &Image| {
        vec![
            image.name.clone(),
            short_id(image.digest.strip_prefix("sha256:").unwrap_or(&image.digest)).to_owned(),
            short_id(&image.snapshot).to_owned(),
            age(time(&image.created), look.now),
            bytes(image.size),
            if image.portable { "yes" } else { "no" }.to_owned(),
        ]
    };
    draw(look, &columns, images.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn nerdctl_pushes_where_the_image_is() {
        let args = ["--quiet".to_owned()];
        let command = push("/run/c.sock", "ci", &args, "registry.example.com/app:v2");
        let words: Vec<_> = command.get_args().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(command.get_program(), NERDCTL);
        let image = "registry.example.com/app:v2";
        assert_eq!(words, ["--address", "/run/c.sock", "--namespace", "ci", "push", "--quiet", image]);
    }

    #[test]
    fn a_push_that_fails_says_why() {
        let failed = run(Command::new("false"), "app").unwrap_err();
        assert_eq!(
            (failed.exit().status(), failed.message.as_str()),
            (1, "nerdctl push app: exit status: 1")
        );
        let missing = run(Command::new("/nonexistent/nerdctl"), "app").unwrap_err();
        assert_eq!(missing.exit().status(), 4);
        assert!(missing.message.contains("app is portable now"), "{missing}");
        run(Command::new("true"), "app").unwrap();
    }
}
