//! Snapshot: a committed state of what lives on.

use super::state::Taking;
use super::{Brancher, Options, Taken, Target, blocking, containers, reference, request};
use crate::error::{Error, Result};
use crate::operation::Work;
use crate::snapshot::{Keep, key};
use crate::store::{Id, Kind, OperationKind};

impl Brancher {
    /// Makes a committed snapshot of a container or of an active snapshot, named by the options or
    /// `<source>-<6 hex>`. A running container is paused around the last step only. Answers the operation too.
    pub async fn snapshot(&self, target: &Target, reference: &str, options: Options) -> Result<(Id, Taken)> {
        if let Some(name) = &options.name {
            key::check_name(name)?;
        }
        let ask = request::ask(OperationKind::Snapshot, target, reference, &options, &())?;
        self.operations.run(ask, |work| self.keep_state(work, target, reference, options)).await
    }

    async fn keep_state(
        &self,
        work: Work,
        target: &Target,
        reference: &str,
        options: Options,
    ) -> Result<Taken> {
        work.step("resolve")?;
        work.progress(0, 1);
        let (source, holder) = self.locate(target, reference).await?;
        if source.kind != Kind::Active {
            return Err(Error::WrongKind {
                key: source.title(),
                kind: source.kind,
                needs: "a snapshot is made of an active one; a committed one can be cloned or pinned as it is",
            });
        }
        let holder = match holder {
            Some(holder) => Some(holder),
            None => Self::holder(&self.core, target, &source).await?,
        };
        let called = match &holder {
            Some(holder) => containers::display_name(&holder.container).to_owned(),
            None => key::client(&source.title()).to_owned(),
        };
        let name = match &options.name {
            Some(name) => name.clone(),
            None => reference::default_name(&called, "")?,
        };
        work.step("state")?;
        let expires = options.expires();
        let asked = Taking::asked(Keep::Named(name), &work, &options);
        let taking = Taking { labels: options.labels, expires, ..asked };
        let (state, cost) = self.take(source.id, taking, holder.as_ref()).await?;
        let taken = Taken { snapshot: state.id, cost };
        work.progress(1, 1);
        if let Err(error) = work.decided(&taken).await {
            if let Err(left) = blocking(&self.core, move |core| core.forget(state.id)).await {
                tracing::warn!(snapshot = %state.id, error = %left, "a state that nobody was told of stays");
            }
            return Err(error);
        }
        Ok(taken)
    }
}
