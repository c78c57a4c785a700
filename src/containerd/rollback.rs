//! Rollback: a container's content becomes a committed snapshot's of its own lineage.
//!
//! ```text
//! check ── plan written ── stop, where it runs ── the core's replace ── start, where it ran ── succeeded
//!                └── a crash: started again as it was ──┘└── a crash: started with its new content ──┘
//! ```

use super::client::Client;
use super::{Brancher, Options, Rolled, Target};
use crate::error::Result;
use crate::operation::Outcome;
use crate::store::{Id, Operation};

impl Brancher {
    /// Makes the content of a container that of `snapshot`. What it had is kept as a snapshot, named by the
    /// options, unless it is discarded. A container that ran is stopped and started again. Answers the
    /// operation too.
    pub async fn rollback(
        &self,
        target: &Target,
        reference: &str,
        snapshot: &str,
        discard: bool,
        options: Options,
    ) -> Result<(Id, Rolled)> {
        todo!()
    }

    /// Finishes or undoes a rollback or a promotion that a crash cut off.
    pub(super) async fn recover_replace(&self, client: &Client, operation: &Operation) -> Result<Outcome> {
        todo!()
    }
}
