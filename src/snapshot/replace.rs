//! Replace: a key's content becomes a committed snapshot's. Rollback, promote and forks of containers that
//! another tool made are this one step.
//!
//! ```text
//!  before   key ──► old row (active) ──► its layer          state row (committed) ──► its layer
//!  after    key ──► new row (active) ──► new layer, of the state's     old row (committed, loom's) ──► its layer
//! ```
//!
//! The key moves to a new row; what had it keeps its id and lineage. The swap is one transaction: a crash
//! leaves all of it or nothing. Nothing may be running on the key's layer.

use super::{Kept, Replaced, Snapshots};
use crate::error::Result;
use crate::store::Id;

impl Snapshots {
    /// Makes the content of the active snapshot `target`, which must not be mounted, that of the committed
    /// `state`: a new row with `target`'s key, parent and labels, whose source is `state` (or, of a transient
    /// state, what that was taken of), made by `operation`, which expires when `target` did.
    ///
    /// A state that was taken for one (`Keep::ForOne`) is taken over. Fails with `Precondition` where
    /// `target` is mounted somewhere, with `Busy` where another request changes it; nothing has changed then.
    pub fn replace(&self, target: Id, state: Id, kept: &Kept, operation: Option<Id>) -> Result<Replaced> {
        todo!()
    }
}
