//! What the work of an operation tells about itself while it is under way.

use super::*;

/// The handle of one operation's work. Clones speak for the same operation.
#[derive(Debug, Clone)]
pub struct Work {
    live: Arc<Live>,
    operations: Arc<Operations>,
}

/// An operation under way.
#[derive(Debug)]
pub(super) struct Live {
    operation: Mutex<Operation>,
}

impl Work {
    /// The operation's id.
    pub fn id(&self) -> Id {
        todo!()
    }

    /// Ends the step before, begins this one, and refuses where the operation was cancelled meanwhile.
    pub fn step(&self, name: &'static str) -> Result<()> {
        todo!()
    }

    /// How much is done of how much.
    pub fn progress(&self, done: u64, total: u64) {
        todo!()
    }

    /// Tells what did not go as it should and does not make it fail.
    pub fn warn(&self, warning: impl Into<String>) {
        todo!()
    }

    /// Fails with `Cancelled` once the operation was cancelled.
    pub fn check(&self) -> Result<()> {
        todo!()
    }

    /// From here on it cannot be cancelled: what is done holds.
    pub fn decided(&self) -> Result<()> {
        todo!()
    }

    /// Writes down what a restart needs to finish or undo it. On disk when it answers.
    pub async fn plan(&self, plan: &impl Serialize) -> Result<()> {
        todo!()
    }
}
