//! Commit: an image of a state, in a moment and with nothing moved.
//!
//! ```text
//! plan ── state (one pause) ── lease ── Prepare with a grant and the chain id as its ref ── config, manifest ── image
//! written                               (a key on the state's own layer)                     (a few documents)
//! ```
//!
//! The image's top layer has no blob: its diff id is made of the state's id, and its snapshot is there under the
//! chain id, which is all that containerd's clients look at before they run a container of it.

use super::{Brancher, Commit, Committed, Options, Target};
use crate::error::Result;
use crate::operation::Outcome;
use crate::store::{Id, Operation};

impl Brancher {
    /// Makes an image of a container, as it is now, or of a committed snapshot. Answers the operation too.
    pub async fn commit(
        &self,
        target: &Target,
        reference: &str,
        commit: Commit,
        options: Options,
    ) -> Result<(Id, Committed)> {
        let _ = (target, reference, commit, options);
        todo!()
    }

    /// Finishes or undoes the making of an image that a crash cut off.
    pub(super) async fn recover_image(
        &self,
        client: &super::client::Client,
        operation: &Operation,
    ) -> Result<Outcome> {
        let _ = (client, operation);
        todo!()
    }
}
