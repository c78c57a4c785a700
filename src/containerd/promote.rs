//! Promote: the container that a fork was made from takes the fork's content.

use super::{Brancher, Options, Rolled, Target};
use crate::error::Result;
use crate::store::Id;

impl Brancher {
    /// Makes the content of the fork that `reference` means the content of the container it was forked from.
    /// What that had is kept as a snapshot, named by the options, unless it is discarded; the fork stays.
    /// `if_unchanged` refuses where the source has written since the fork, and names paths. Answers the
    /// operation too.
    pub async fn promote(
        &self,
        target: &Target,
        reference: &str,
        discard: bool,
        if_unchanged: bool,
        options: Options,
    ) -> Result<(Id, Rolled)> {
        todo!()
    }
}
