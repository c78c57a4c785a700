//! A branch while it is under way: a line of progress for a person who waits, and Ctrl-C.
//!
//! The first Ctrl-C asks loomd to cancel the operation and waits for what comes of that; the second leaves.
//! Either way loomd finishes or undoes what it has begun. What only reads is left at the first.

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt as _};
use futures::{FutureExt as _, future};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use ttrpc::Code;

use super::client::{Client, Exit, Failure};
use super::operations::{in_bytes, progress, step};
use crate::protos::admin::Operation;

/// How long a branch may take before there is a line about it.
const QUICK: Duration = Duration::from_secs(1);
/// Between two tries to cancel an operation that loomd has not accepted yet.
const RETRY: Duration = Duration::from_millis(100);
/// Between two drawings of the line.
const TICK: Duration = Duration::from_millis(100);

/// Ctrl-C, each time. Only from when someone waits for it does it not end this process.
pub(super) fn interrupts() -> impl Stream<Item = ()> + Send {
    let caught = stream::once(async { signal(SignalKind::interrupt()) });
    // Where it cannot be caught, it ends this process as it would anyway.
    caught.filter_map(|caught| future::ready(caught.ok())).flat_map(|caught| {
        stream::unfold(caught, |mut caught| async { caught.recv().await.map(|()| ((), caught)) }).boxed()
    })
}

/// Waits for a branch whose operation has this id.
pub(super) async fn track<T>(
    client: &Client,
    operation: &str,
    line: &Line,
    interrupts: impl Stream<Item = ()>,
    call: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut interrupts = pin!(interrupts.fuse());
    let (mut call, mut cancelled) = (pin!(call), pin!(future::Fuse::terminated()));
    let mut follow = pin!(line.follow(client, operation).fuse());
    let mut called_off = false;
    loop {
        futures::select_biased! {
            done = call.as_mut().fuse() => {
                // Whatever it was refused with, the person has called it off.
                return done.map_err(|error| if called_off { error.exits(Exit::Failed) } else { error });
            }
            interrupt = interrupts.next() => match interrupt {
                Some(()) if called_off => {
                    let message = format!("left; loomd finishes or undoes it: `loom operation {operation}`");
                    return Err(Failure::new(Code::CANCELLED, message).exits(Exit::Interrupted));
                }
                Some(()) => {
                    called_off = true;
                    line.say("cancelling; Ctrl-C again does not wait for it");
                    cancelled.set(cancel(client, operation).fuse());
                }
                None => {}
            },
            refused = cancelled => if let Err(refused) = refused {
                line.say(&refused.message);
            },
            () = follow => {}
        }
    }
}

/// Waits for what only reads: it leaves nothing, and is left at the first Ctrl-C. An operation with this id, where
/// there is one, is cancelled then.
pub(super) async fn leave<T>(
    client: &Client,
    operation: &str,
    line: &Line,
    interrupts: impl Stream<Item = ()>,
    call: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut interrupts = pin!(interrupts.fuse());
    let mut call = pin!(call.fuse());
    let mut follow = pin!(line.follow(client, operation).fuse());
    loop {
        futures::select_biased! {
            done = call => return done,
            interrupt = interrupts.next() => if interrupt.is_some() {
                // There is none unless something is written first, and then it may have ended.
                let _ = client.cancel(operation.to_owned()).await;
                return Err(Failure::new(Code::CANCELLED, "interrupted; nothing of it is left"));
            },
            () = follow => {}
        }
    }
}

/// Cancels an operation, which loomd may not have accepted yet.
async fn cancel(client: &Client, operation: &str) -> Result<(), Failure> {
    loop {
        match client.cancel(operation.to_owned()).await {
            Err(refused) if refused.code == Code::NOT_FOUND => tokio::time::sleep(RETRY).await,
            answer => return answer.map(drop),
        }
    }
}

/// What the line tells beside what is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Nothing.
    Words,
    /// How many bytes of how many.
    Bar,
    /// How many bytes; nobody knows of how many.
    Bytes,
}

impl Shape {
    fn template(self) -> &'static str {
        match self {
            Self::Words => "{spinner} {elapsed} {wide_msg}",
            Self::Bar => {
                "{spinner} {elapsed} {msg} {wide_bar} {decimal_bytes} of {decimal_total_bytes}, \
                 {decimal_bytes_per_sec}"
            }
            Self::Bytes => "{spinner} {elapsed} {msg} {decimal_bytes}, {decimal_bytes_per_sec}",
        }
    }
}

/// The line on standard error about what is under way; it is gone when this is.
#[derive(Debug)]
pub(super) struct Line {
    bar: ProgressBar,
    shape: Cell<Shape>,
    /// Nothing but results and errors is wanted.
    quiet: bool,
}

impl Line {
    /// None yet; and none at all where `quiet`, or where standard error is no terminal.
    pub(super) fn new(quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let line = Self { bar, shape: Cell::new(Shape::Words), quiet };
        line.dress(Shape::Words);
        line
    }

    fn dress(&self, shape: Shape) {
        if let Ok(style) = ProgressStyle::with_template(shape.template()) {
            self.bar.set_style(style);
        }
        self.shape.set(shape);
    }

    /// Tells how many bytes are done, of how many where that is known.
    pub(super) fn bytes(&self, done: u64, total: Option<u64>) {
        let shape = if total.is_some() { Shape::Bar } else { Shape::Bytes };
        if self.shape.get() != shape {
            self.dress(shape);
        }
        if let Some(total) = total {
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
    }

    /// Tells how an operation is.
    fn tell(&self, now: &Operation) {
        // A total of 1 is of one thing that is made.
        if in_bytes(now) && now.total > 1 {
            self.bytes(now.done, Some(now.total));
        }
        match self.shape.get() {
            Shape::Words => self.bar.set_message(progress(now)),
            Shape::Bar | Shape::Bytes => self.bar.set_message(step(now)),
        }
    }

    /// Draws the line for a branch that takes its time, as long as it is polled.
    async fn follow(&self, client: &Client, operation: &str) {
        tokio::time::sleep(QUICK).await;
        if self.quiet {
            return;
        }
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        self.bar.enable_steady_tick(TICK);
        // A repeated request has another operation's answer, and there is nothing to tell of this one.
        let Ok(mut watch) = client.watch(operation.to_owned()).await else { return };
        while let Ok(Some(change)) = watch.next().await {
            self.tell(&change);
        }
    }

    /// Tells what is no result and no error.
    fn say(&self, text: &str) {
        if !self.quiet {
            self.bar.suspend(|| eprintln!("loom: {}", super::units::clean(text)));
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
