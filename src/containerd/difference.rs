//! How two states differ.

use super::{Brancher, Target};
use crate::error::Result;
use crate::layer::Change;

/// A path that differs, and how, where that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path.
    pub change: Change,
    /// The unified difference of a text file; empty for what is no text, too large, or was not asked for.
    pub patch: String,
}

impl Brancher {
    /// Tells how `to` differs from `from`, path by path; without `to`, how `from` differs from the image or the
    /// state that it was made of. A receiver that is gone ends it.
    pub async fn diff(
        &self,
        target: &Target,
        from: &str,
        to: Option<&str>,
        patch: bool,
        tell: tokio::sync::mpsc::Sender<Difference>,
    ) -> Result<()> {
        let _ = (target, from, to, patch, tell);
        todo!()
    }
}
