//! Operations and prunes over the admin service. The work is the tests' own.

use ::ttrpc::context::Context;
use admin::OperationState::{
    self, OPERATION_STATE_CANCELLED as CANCELLED, OPERATION_STATE_FAILED as FAILED,
    OPERATION_STATE_RUNNING as RUNNING, OPERATION_STATE_SUCCEEDED as SUCCEEDED,
};
use protobuf::{EnumOrUnknown, MessageField};
use tokio::task::JoinHandle;

use super::*;
use crate::operation::{Ask, Work};
use crate::snapshot::{Keep, Still, Take};
use crate::store::{Id, OperationKind};

const FIRST: &str = "11111111111111111111111111111111";
const SECOND: &str = "22222222222222222222222222222222";

impl House {
    /// Runs work as an operation with this id.
    fn operate<F: Future<Output = Result<u32>> + Send + 'static>(
        &self,
        id: &str,
        work: impl FnOnce(Work) -> F + Send + 'static,
    ) -> JoinHandle<Result<(Id, u32)>> {
        let ask = Ask {
            id: Some(id.parse().unwrap()),
            kind: OperationKind::Fork,
            subject: "web".into(),
            address: "/run/c".into(),
            namespace: "default".into(),
            key: None,
            request: serde_json::json!({}),
        };
        let operations = Arc::clone(&self.operations);
        tokio::spawn(async move { operations.run(ask, work).await })
    }
}

/// A watch of one, or of all.
struct Watched(::ttrpc::r#async::ClientStreamReceiver<admin::WatchOperationsResponse>);

impl Watched {
    async fn of(client: &admin_ttrpc::AdminClient, id: &str) -> Self {
        let request = admin::WatchOperationsRequest { id: id.into(), ..Default::default() };
        Self(client.watch_operations(Context::default(), &request).await.unwrap())
    }

    async fn next(&mut self) -> Option<admin::Operation> {
        self.0.recv().await.unwrap().map(|change| change.operation.unwrap())
    }

    /// The first that is told in this state, of the operation with this id.
    async fn until(&mut self, id: &str, state: OperationState) -> admin::Operation {
        loop {
            let told = self.next().await.unwrap();
            if told.id == id && told.state.enum_value() == Ok(state) {
                return told;
            }
        }
    }
}

#[tokio::test]
async fn one_operation_is_watched_from_before_it_is_there_to_its_end() {
    let house = House::open().await;
    let client = house.admin().await;
    let mut watched = Watched::of(&client, FIRST).await;
    // The other's changes are not told, and do not end it.
    house.operate(SECOND, async |_| Ok(2)).await.unwrap().unwrap();
    let (go, wait) = oneshot::channel::<()>();
    let work = house.operate(FIRST, async |work| {
        work.step("make")?;
        work.progress(1, 3);
        wait.await.unwrap();
        work.warn("slow");
        Ok(1)
    });
    let running = loop {
        let told = watched.next().await.unwrap();
        assert_eq!(told.id, FIRST);
        if told.done == 1 {
            break told;
        }
    };
    assert_eq!((running.state.enum_value(), running.total), (Ok(RUNNING), 3));
    assert_eq!((running.steps[0].name.as_str(), running.steps[0].took_us), ("make", 0));
    // Another who comes now is told how it is.
    let mut late = Watched::of(&client, "1111").await;
    assert_eq!(late.next().await.unwrap().done, 1);
    go.send(()).unwrap();
    work.await.unwrap().unwrap();
    for watched in [&mut watched, &mut late] {
        let ended = watched.until(FIRST, SUCCEEDED).await;
        assert_eq!((ended.result.as_str(), ended.warnings[0].as_str()), ("1", "slow"));
        assert!(watched.next().await.is_none(), "that was its end");
    }
    // One that has ended already is told once.
    let mut over = Watched::of(&client, FIRST).await;
    assert_eq!(over.next().await.unwrap().state.enum_value(), Ok(SUCCEEDED));
    assert!(over.next().await.is_none());
}

#[tokio::test]
async fn all_operations_are_watched_until_the_daemon_stops() {
    let house = House::open().await;
    let client = house.admin().await;
    house.operate(FIRST, async |_| Ok(1)).await.unwrap().unwrap();
    let (go, wait) = oneshot::channel::<()>();
    let work = house.operate(SECOND, async |work| {
        work.step("make")?;
        wait.await.unwrap();
        Err(Error::Busy("web".into()))
    });
    let mut watched = Watched::of(&client, "").await;
    watched.until(SECOND, RUNNING).await;
    go.send(()).unwrap();
    work.await.unwrap().unwrap_err();
    let failed = watched.until(SECOND, FAILED).await;
    assert_eq!(failed.error_code, "BUSY");
    assert_eq!(house.server.stop(LONG).await, 0, "a watch does not keep it");
    assert!(watched.0.recv().await.is_err(), "no end of all operations");
}

#[tokio::test]
async fn one_that_cannot_be_meant_is_not_waited_for() {
    let house = House::open().await;
    let client = house.admin().await;
    for id in ["beef", "not-an-id"] {
        let error = Watched::of(&client, id).await.0.recv().await.unwrap_err();
        assert_eq!(status(error).0, 5, "{id}");
        let request = admin::GetOperationRequest { id: id.into(), ..Default::default() };
        assert_eq!(status(client.get_operation(Context::default(), &request).await.unwrap_err()).0, 5);
        let request = admin::CancelOperationRequest { id: id.into(), ..Default::default() };
        assert_eq!(status(client.cancel_operation(Context::default(), &request).await.unwrap_err()).0, 5);
    }
}

#[tokio::test]
async fn an_operation_is_cancelled_once_and_told_so() {
    let house = House::open().await;
    let client = house.admin().await;
    let work = house.operate(FIRST, async |work| {
        work.step("make")?;
        while work.check().is_ok() {
            tokio::task::yield_now().await;
        }
        work.check().map(|()| 1)
    });
    let mut watched = Watched::of(&client, FIRST).await;
    watched.until(FIRST, RUNNING).await;
    let request = admin::CancelOperationRequest { id: FIRST.into(), ..Default::default() };
    let asked = client.cancel_operation(Context::default(), &request).await.unwrap();
    assert_eq!(asked.operation.id, FIRST);
    work.await.unwrap().unwrap_err();
    assert_eq!(watched.until(FIRST, CANCELLED).await.error_code, "CANCELLED");
    let refused = client.cancel_operation(Context::default(), &request).await.unwrap_err();
    assert_eq!(status(refused).0, 9, "it has ended");
    let request = admin::GetOperationRequest { id: "1111".into(), ..Default::default() };
    let found = client.get_operation(Context::default(), &request).await.unwrap().operation.unwrap();
    assert_eq!(found.state.enum_value(), Ok(CANCELLED));
}

#[tokio::test]
async fn operations_are_listed_newest_first_in_batches() {
    let house = House::open().await;
    let client = house.admin().await;
    for n in 1..=101 {
        house.operate(&format!("{n:032x}"), async move |_| Ok(n)).await.unwrap().unwrap();
    }
    for (limit, expected) in [(0, vec![100]), (1, vec![1]), (5000, vec![100, 1])] {
        let request = admin::ListOperationsRequest { limit, ..Default::default() };
        let mut stream = client.list_operations(Context::default(), &request).await.unwrap();
        let mut batches = Vec::new();
        while let Some(batch) = stream.recv().await.unwrap() {
            batches.push(batch.operations);
        }
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), expected, "{limit}");
        assert_eq!(batches[0][0].result, "101");
    }
}

#[tokio::test]
async fn what_a_request_cannot_mean_is_refused_before_anything_is_asked() {
    let house = House::open().await;
    let client = house.admin().await;
    let options = |change: fn(&mut admin::Options)| {
        let mut options = admin::Options::new();
        change(&mut options);
        MessageField::some(options)
    };
    let unknown = options(|options| options.consistency = EnumOrUnknown::from_i32(7));
    let request = admin::SnapshotRequest { options: unknown, ..Default::default() };
    let refused = client.snapshot(Context::default(), &request).await.unwrap_err();
    assert_eq!(
        status(refused),
        (3, "consistency 7 is not valid: this loomd does not know it; is its client newer?".into())
    );
    let unknown = options(|options| options.resume_policy = EnumOrUnknown::from_i32(7));
    let request = admin::RollbackRequest { options: unknown, ..Default::default() };
    assert_eq!(status(client.rollback(Context::default(), &request).await.unwrap_err()).0, 3);
    let wrong = options(|options| options.operation = "1234".into());
    let request = admin::PromoteRequest { options: wrong.clone(), ..Default::default() };
    assert_eq!(status(client.promote(Context::default(), &request).await.unwrap_err()).0, 3);
    let request = admin::ResumeRequest { options: wrong, ..Default::default() };
    assert_eq!(status(client.resume(Context::default(), &request).await.unwrap_err()).0, 3);
    let volumes = admin::Changes { volumes: EnumOrUnknown::from_i32(7), ..Default::default() };
    let request = admin::ForkRequest { changes: MessageField::some(volumes.clone()), ..Default::default() };
    assert_eq!(status(client.fork(Context::default(), &request).await.unwrap_err()).0, 3);
    let request = admin::CloneRequest { changes: MessageField::some(volumes), ..Default::default() };
    assert_eq!(status(client.clone(Context::default(), &request).await.unwrap_err()).0, 3);
    let request = admin::PruneRequest { container: "snapshot:x".into(), ..Default::default() };
    let mut stream = client.prune(Context::default(), &request).await.unwrap();
    assert_eq!(status(stream.recv().await.unwrap_err()).0, 3);
    assert!(house.operations.list(1).unwrap().is_empty());
}

#[tokio::test]
async fn a_prune_tells_what_goes_and_leaves_what_is_pinned() {
    let house = House::open().await;
    let client = house.admin().await;
    house.core.prepare("default/1/web", "", BTreeMap::new()).unwrap();
    let web = house.core.by_client_key("default", "web").unwrap().unwrap();
    for name in ["one", "two", "kept"] {
        let take = Take {
            keep: Keep::Named(name.into()),
            labels: BTreeMap::new(),
            captured: None,
            operation: None,
            expires: None,
        };
        house.core.snapshot(web.id, &take, &mut Still).unwrap();
    }
    house.core.pin(house.core.resolve("kept").unwrap().id, None).unwrap();
    for (dry_run, expected) in [(true, vec!["one", "two"]), (false, vec!["one", "two"]), (false, Vec::new())]
    {
        let request = admin::PruneRequest { dry_run, ..Default::default() };
        let mut stream = client.prune(Context::default(), &request).await.unwrap();
        let mut names = Vec::new();
        while let Some(batch) = stream.recv().await.unwrap() {
            names.extend(batch.snapshots.into_iter().map(|snapshot| snapshot.name));
        }
        assert_eq!(names, expected);
    }
    assert!(house.core.resolve("kept").is_ok());
}
