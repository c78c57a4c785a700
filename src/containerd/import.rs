//! Import: an image of an archive, a plain tar or an image layout of the OCI.

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Receiver;

use super::{Brancher, Committed, Options, Target};
use crate::error::Result;
use crate::store::Id;

/// An image that is to be made of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Import {
    /// Its name; none for the one that an OCI archive names.
    pub image: Option<String>,
    /// Changes of its configuration, for a plain tar.
    pub changes: Vec<String>,
    /// What its history says of it.
    pub message: String,
    /// What containerd calls us.
    pub snapshotter: String,
}

impl Brancher {
    /// Reads the archive to its end; an error in it is one that its sender had. Answers the operation too.
    pub async fn import(
        &self,
        target: &Target,
        import: Import,
        options: Options,
        from: Receiver<Result<Vec<u8>>>,
    ) -> Result<(Id, Committed)> {
        let _ = (target, import, options, from);
        todo!()
    }
}
