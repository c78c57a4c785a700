//! Containers whose files lie outside of the pool, brought into it.

use tokio::sync::mpsc::Sender;

use super::containers::{self, display_name};
use super::{Brancher, Holder, Target, blocking, is_silence};
use crate::containerd::client::Client;
use crate::error::{Error, Result};
use crate::snapshot::Seen;
use crate::store::Home;

/// What came of a container.
#[derive(Debug)]
pub struct Moved {
    /// What people call it.
    pub container: String,
    /// Its snapshot, or why it was not moved.
    pub snapshot: Result<Seen>,
}

impl Brancher {
    /// Brings the plain writable layers of containers into the pool, one after the other: of these, or of all in the
    /// namespace that are stopped. Tells each as it is done, but for those that lie there already where all were asked
    /// for. One that cannot be moved does not keep the others.
    pub async fn move_to_pool(
        &self,
        target: &Target,
        references: Vec<String>,
        tell: Sender<Moved>,
    ) -> Result<()> {
        if references.is_empty() {
            let client = Client::connect(target).await?;
            let all = containers::all(&client).await?;
            for container in all {
                let holder = Holder { client: client.clone(), container };
                let called = display_name(&holder.container).to_owned();
                match self.move_one(&holder).await {
                    // Another snapshotter's.
                    Ok(None) | Err(Error::NotOnLoom { .. }) => {}
                    Err(error) if is_silence(&error) => return Err(error),
                    Ok(Some(seen)) => tell_of(&tell, called, Ok(seen)).await,
                    Err(error) => tell_of(&tell, called, Err(error)).await,
                }
            }
            return Ok(());
        }
        for reference in references {
            let moved = match self.container(target, &reference).await {
                Ok(holder) => match self.move_one(&holder).await {
                    Ok(None) => Err(Error::precondition(
                        format!("container {:?}", display_name(&holder.container)),
                        "its files lie in the pool already",
                    )),
                    Ok(Some(seen)) => Ok(seen),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            tell_of(&tell, reference, moved).await;
        }
        Ok(())
    }

    /// Moves one; None where its files lie in the pool already. What runs is mounted, and refused for that.
    async fn move_one(&self, holder: &Holder) -> Result<Option<Seen>> {
        let id = self.of_container(holder).await?.id;
        blocking(&self.core, move |core| {
            let lies_there = |seen: &Seen| seen.chain.first().is_some_and(|layer| layer.home == Home::Pool);
            if lies_there(&core.get(id)?) {
                return Ok(None);
            }
            core.move_to_pool(id)?;
            core.get(id).map(Some)
        })
        .await
    }
}

async fn tell_of(tell: &Sender<Moved>, container: String, snapshot: Result<Seen>) {
    // A receiver that is gone has seen enough; the work goes on.
    let _ = tell.send(Moved { container, snapshot }).await;
}
