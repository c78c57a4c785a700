//! Export: a state, or an image, as an archive.

use tokio::sync::mpsc::Sender;

use super::{Archive, Brancher, Compression, Options, Target};
use crate::error::Result;

impl Brancher {
    /// Sends the archive in parts; one that its receiver does not want any more ends without an error.
    pub async fn export(
        &self,
        target: &Target,
        reference: &str,
        archive: Archive,
        compression: Compression,
        image: Option<String>,
        options: Options,
        to: Sender<Vec<u8>>,
    ) -> Result<()> {
        let _ = (target, reference, archive, compression, image, options, to);
        todo!()
    }
}
