//! Resume: a container's processes run, or run on.

use containerd_client::types::v1::Status;

use super::captured::Captured;
use super::nerdctl::Way;
use super::{Brancher, Holder, Options, Resumed, Target, containers, request, stop, task};
use crate::error::{Error, Result};
use crate::operation::Work;
use crate::store::{Id, OperationKind};

impl Brancher {
    /// Starts a container's task, or continues it; answers the operation, its full id and its process. One that
    /// runs is left alone. It cannot be undone, so it cannot be cancelled once it has begun.
    pub async fn resume(&self, target: &Target, reference: &str, options: Options) -> Result<(Id, Resumed)> {
        let ask = request::ask(OperationKind::Resume, target, reference, &options, &())?;
        self.operations.run(ask, |work| self.go_on(work, target, reference)).await
    }

    async fn go_on(&self, work: Work, target: &Target, reference: &str) -> Result<Resumed> {
        work.step("resolve")?;
        work.progress(0, 1);
        let holder = self.container(target, reference).await?;
        self.recover_in(&holder.client).await?;
        let Holder { client, container } = &holder;
        let id = &container.id;
        // Not in the middle of a branch, whose pause is not the user's.
        let _turn = self.turns.take(&client.target().namespace, id).await;
        work.step("start")?;
        let pid = match task::get(client, id).await? {
            None => start(&holder).await?,
            Some(task) => match task.status {
                Status::Running => task.pid,
                Status::Paused => {
                    task::resume(client, id).await?;
                    task.pid
                }
                Status::Created => task::start_made(client, id).await?,
                Status::Stopped => start(&holder).await?,
                Status::Pausing | Status::Unknown => {
                    return Err(Error::precondition(
                        format!("container {:?}", containers::display_name(container)),
                        "its task is changing; try again",
                    ));
                }
            },
        };
        work.progress(1, 1);
        Ok(Resumed { container: id.clone(), name: containers::display_name(container).to_owned(), pid })
    }
}

/// Starts one that does not run, by whom it was made by.
async fn start(holder: &Holder) -> Result<u32> {
    let Holder { client, container } = holder;
    let captured = Captured::of(&client.target().namespace, container)?;
    let way = Way::of(&captured)?;
    if way.is_none() {
        task::delete(client, &container.id).await?;
    }
    stop::start(client, container, way.as_ref()).await
}
