//! containerd's containers: found by what people call them, made and deleted.

use containerd_client::services::v1::{
    Container, CreateContainerRequest, DeleteContainerRequest, GetContainerRequest, ListContainersRequest,
    UpdateContainerRequest,
};
use containerd_client::tonic::Code;

use super::OPERATION_LABEL;
use super::client::{Client, or_missing};
use super::reference::is_identifier;
use crate::error::{Error, Result};
use crate::store::Id;

/// Where nerdctl keeps the name that it shows.
pub const NERDCTL_NAME: &str = "nerdctl/name";

/// A container by its whole id.
pub(super) async fn get(client: &Client, id: &str) -> Result<Option<Container>> {
    let request = client.look(GetContainerRequest { id: id.to_owned() });
    let answer = or_missing(client.containers().get(request).await)
        .map_err(client.failed(format!("look up container {id:?}")))?;
    Ok(answer.and_then(|answer| answer.into_inner().container))
}

/// The container that a name means, as docker has it: a whole id, else a whole name (nerdctl's), else the
/// beginning of one id.
pub(super) async fn resolve(client: &Client, name: &str) -> Result<Container> {
    let namespace = &client.target().namespace;
    if !is_identifier(name) && !is_prefix(name) {
        return meant(name, namespace, Vec::new());
    }
    if is_identifier(name)
        && let Some(container) = get(client, name).await?
    {
        return Ok(container);
    }
    // A name has no quote and no backslash; a dot is the one character with a meaning in a pattern.
    let begins = format!("id~=\"^{}\"", name.replace('.', "[.]"));
    let named = format!("labels.\"{NERDCTL_NAME}\"==\"{name}\"");
    let found = list(client, vec![begins, named], |container| {
        container.id.starts_with(name) || display_name(container) == name
    })
    .await?;
    meant(name, namespace, found)
}

/// The one that a name means of those that are called so or whose ids begin so.
fn meant(name: &str, namespace: &str, found: Vec<Container>) -> Result<Container> {
    let (called, begun): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|container| display_name(container) == name);
    let mut fitting = if called.is_empty() { begun } else { called };
    match (fitting.pop(), fitting.as_slice()) {
        (None, _) => Err(Error::ContainerNotFound { name: name.to_owned(), namespace: namespace.to_owned() }),
        (Some(only), []) => Ok(only),
        (Some(last), others) => Err(Error::Ambiguous {
            what: name.to_owned(),
            matches: others
                .iter()
                .chain([&last])
                .map(|container| format!("container:{namespace}/{}", container.id))
                .collect(),
        }),
    }
}

/// The container whose files this snapshot is, by the key that containerd's clients use.
pub(super) async fn of_snapshot(client: &Client, key: &str) -> Result<Option<Container>> {
    // Almost every client calls the two the same.
    if is_identifier(key)
        && let Some(container) = get(client, key).await?
        && container.snapshot_key == key
    {
        return Ok(Some(container));
    }
    Ok(list(client, Vec::new(), |container| container.snapshot_key == key).await?.into_iter().next())
}

/// What people call a container: nerdctl's name, else its id.
pub(super) fn display_name(container: &Container) -> &str {
    container.labels.get(NERDCTL_NAME).unwrap_or(&container.id)
}

/// The names that nerdctl has given, by the containers' ids.
pub(super) async fn nerdctls_names(client: &Client) -> Result<Vec<(String, String)>> {
    let all = list(client, vec![format!("labels.\"{NERDCTL_NAME}\"")], |_| true).await?;
    Ok(all.into_iter().map(|container| (container.id.clone(), display_name(&container).to_owned())).collect())
}

/// The containers that say that they are on one of these snapshotters.
pub(super) async fn on(client: &Client, snapshotters: &[String]) -> Result<Vec<Container>> {
    list(client, Vec::new(), |container| snapshotters.contains(&container.snapshotter)).await
}

/// The containers that carry an operation's label.
pub(super) async fn of_operation(client: &Client, operation: Id) -> Result<Vec<Container>> {
    let id = operation.to_string();
    let filter = format!("labels.\"{OPERATION_LABEL}\"==\"{id}\"");
    list(client, vec![filter], |container| container.labels.get(OPERATION_LABEL) == Some(&id)).await
}

/// The one that nerdctl calls by one of these names.
pub(super) async fn called_by_nerdctl(client: &Client, names: &[String]) -> Result<Option<String>> {
    let called =
        |container: &Container| container.labels.get(NERDCTL_NAME).is_some_and(|name| names.contains(name));
    let found = list(client, vec![format!("labels.\"{NERDCTL_NAME}\"")], called).await?;
    Ok(found.first().map(|container| display_name(container).to_owned()))
}

/// Makes a container's record.
pub(super) async fn create(client: &Client, container: Container) -> Result<()> {
    crate::fault::point("containerd.branch.container")?;
    let id = container.id.clone();
    let request = client.request(CreateContainerRequest { container: Some(container) });
    match client.containers().create(request).await {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::AlreadyExists => {
            Err(Error::ContainerExists { name: id, namespace: client.target().namespace.clone() })
        }
        Err(status) => Err(client.failed(format!("make container {id:?}"))(status)),
    }
}

/// Changes some of a container's labels; an empty value drops one. A container that is gone has none.
pub(super) async fn relabel(client: &Client, id: &str, labels: &[(&str, &str)]) -> Result<()> {
    let paths = labels.iter().map(|(label, _)| format!("labels.{label}")).collect();
    let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
    let request = client.request(UpdateContainerRequest {
        container: Some(Container { id: id.to_owned(), labels, ..Container::default() }),
        update_mask: Some(prost_types::FieldMask { paths }),
    });
    or_missing(client.containers().update(request).await)
        .map_err(client.failed(format!("label container {id:?}")))?;
    Ok(())
}

/// Replaces a container's labels, specification and image.
pub(super) async fn update(client: &Client, container: Container) -> Result<()> {
    crate::fault::point("containerd.container.update")?;
    let id = container.id.clone();
    let paths = ["labels", "spec", "image"].map(str::to_owned).to_vec();
    let update_mask = Some(prost_types::FieldMask { paths });
    let request = client.request(UpdateContainerRequest { container: Some(container), update_mask });
    client.containers().update(request).await.map_err(client.failed(format!("change container {id:?}")))?;
    Ok(())
}

/// Deletes a container's record; one that is gone is gone.
pub(super) async fn delete(client: &Client, id: &str) -> Result<()> {
    let request = client.request(DeleteContainerRequest { id: id.to_owned() });
    or_missing(client.containers().delete(request).await)
        .map_err(client.failed(format!("delete container {id:?}")))?;
    Ok(())
}

/// Those that any filter lets through and that are wanted. As a stream: a single answer has a limit.
/// All containers of the namespace.
pub(super) async fn all(client: &Client) -> Result<Vec<Container>> {
    list(client, Vec::new(), |_| true).await
}

async fn list(
    client: &Client,
    filters: Vec<String>,
    wanted: impl Fn(&Container) -> bool,
) -> Result<Vec<Container>> {
    let failed = || client.failed("list containers");
    let request = client.look(ListContainersRequest { filters });
    let mut stream = client.containers().list_stream(request).await.map_err(failed())?.into_inner();
    let mut found = Vec::new();
    while let Some(message) = stream.message().await.map_err(failed())? {
        found.extend(message.container.filter(|container| wanted(container)));
    }
    Ok(found)
}

/// True for what an id can begin with: it may end in a separator.
fn is_prefix(text: &str) -> bool {
    text.strip_suffix(['.', '_', '-']).is_some_and(is_identifier)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::error::Kind;

    /// Containers by id and nerdctl's name; an empty one is none.
    fn found(all: &[(&str, &str)]) -> Vec<Container> {
        let container = |(id, name): &(&str, &str)| Container {
            id: (*id).to_owned(),
            labels: (!name.is_empty())
                .then(|| (NERDCTL_NAME.to_owned(), (*name).to_owned()))
                .into_iter()
                .collect(),
            ..Container::default()
        };
        all.iter().map(container).collect()
    }

    #[test]
    fn a_whole_name_comes_before_the_beginning_of_an_id() {
        for (all, id) in [
            (&[("cafe01", ""), ("77aa", "cafe"), ("cafe02", "db")][..], "77aa"),
            (&[("cafe01", "web")], "cafe01"),
        ] {
            assert_eq!(meant("cafe", "default", found(all)).unwrap().id, id);
        }
    }

    #[test]
    fn what_fits_none_or_several_is_refused() {
        let none = meant("cafe", "default", Vec::new()).unwrap_err();
        assert_eq!(none.kind(), Kind::NotFound);
        for all in [&[("cafe01", ""), ("cafe02", "")][..], &[("1", "cafe"), ("2", "cafe"), ("cafe3", "")]] {
            let Error::Ambiguous { matches, .. } = meant("cafe", "ci", found(all)).unwrap_err() else {
                panic!("{all:?} is not ambiguous");
            };
            assert_eq!(matches, all[..2].iter().map(|c| format!("container:ci/{}", c.0)).collect::<Vec<_>>());
        }
    }
}
