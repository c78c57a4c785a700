//! Check: what the admin service has the `check` room compare, and how that is told.

use std::sync::Arc;

use futures::stream;
use ttrpc::r#async::ServerStreamSender;

use super::Admin;
use crate::check::{self, Finding};
use crate::containerd::Brancher;
use crate::protos::admin::{self as proto, CheckRequest, CheckResponse};
use crate::server::ttrpc::send_all;

impl Admin {
    pub(super) async fn compare_all(
        &self,
        request: CheckRequest,
        sender: &ServerStreamSender<CheckResponse>,
    ) -> ttrpc::Result<()> {
        let target = self.target(request.containerd.into_option());
        let repair = request.repair;
        let core = self.core.clone();
        let findings = self
            .branch(|brancher: Arc<Brancher>| async move {
                let records = brancher.records(&target.address).await?;
                core.call(move |core| check::running(core, Some(&records), repair)).await
            })
            .await?;
        let answer = |findings| CheckResponse { findings, ..Default::default() };
        send_all(sender, stream::iter(findings.into_iter().map(finding).map(Ok)), answer).await
    }
}

/// A finding.
fn finding(found: Finding) -> proto::Finding {
    proto::Finding {
        code: found.code.to_string(),
        what: found.what,
        message: found.message,
        bytes: found.bytes,
        repair: found.repair.to_string(),
        ..Default::default()
    }
}
