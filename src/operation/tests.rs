//! Operations over a real store.
#![allow(clippy::unwrap_used)]

use std::future::{Ready, ready};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use tokio::sync::oneshot;

use super::*;

struct House {
    operations: Arc<Operations>,
    dir: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { operations: open(&dir), dir }
    }

    /// As a daemon that was killed and started again.
    fn again(self) -> Self {
        let Self { operations, dir } = self;
        drop(operations);
        Self { operations: open(&dir), dir }
    }

    fn only(&self) -> Operation {
        let mut all = self.operations.list(10).unwrap();
        assert_eq!(all.len(), 1);
        all.pop().unwrap()
    }
}

fn open(dir: &tempfile::TempDir) -> Arc<Operations> {
    Operations::open(Arc::new(Store::open(&dir.path().join("loom.db")).unwrap())).unwrap()
}

fn ask(key: Option<&str>, request: u32) -> Ask {
    Ask {
        id: None,
        kind: OperationKind::Fork,
        subject: "web".into(),
        address: "/run/containerd.sock".into(),
        namespace: "default".into(),
        key: key.map(str::to_owned),
        request: json!({"count": request}),
    }
}

fn answers(value: u32) -> Ready<Result<u32>> {
    ready(Ok(value))
}

fn fails() -> Ready<Result<u32>> {
    ready(Err(Error::precondition("web", "no")))
}

#[tokio::test]
async fn one_is_kept_with_its_steps_and_its_result() {
    let house = House::new();
    let mut changes = house.operations.changes();
    let (id, answer) = house
        .operations
        .run(ask(None, 1), async |work: Work| {
            work.step("freeze")?;
            work.progress(1, 2);
            work.warn("slow");
            work.step("copy")?;
            work.plan(&json!({"names": ["a"]})).await?;
            Ok(7)
        })
        .await
        .unwrap();
    assert_eq!(answer, 7);
    let mut states = Vec::new();
    while let Ok(change) = changes.try_recv() {
        states.push(change.state);
    }
    assert_eq!(states.first(), Some(&OperationState::Accepted));
    assert_eq!(states.last(), Some(&OperationState::Succeeded));
    for kept in [house.only(), house.again().only()] {
        assert_eq!((kept.id, kept.state), (id, OperationState::Succeeded));
        assert_eq!((kept.done, kept.total, kept.warnings.as_slice()), (1, 2, &["slow".to_owned()][..]));
        let steps: Vec<_> =
            kept.steps.iter().map(|step| (step.name.as_str(), step.took_us.is_some())).collect();
        assert_eq!(steps, [("freeze", true), ("copy", true)]);
        assert_eq!((kept.result.as_deref(), kept.plan), (Some("7"), None));
        assert!(kept.ended >= Some(kept.created));
    }
}

#[tokio::test]
async fn a_repeated_request_answers_what_the_first_did() {
    let house = House::new();
    let first = house.operations.run(ask(Some("k"), 1), |_| answers(1)).await.unwrap();
    let again = house.operations.run(ask(Some("k"), 1), |_| answers(2)).await.unwrap();
    assert_eq!(first, again);
    let house = house.again();
    assert_eq!(house.operations.run(ask(Some("k"), 1), |_| answers(3)).await.unwrap(), first);
    let conflict = house.operations.run(ask(Some("k"), 2), |_| answers(4)).await.unwrap_err();
    assert_eq!((conflict.kind(), conflict.code()), (Kind::AlreadyExists, "IDEMPOTENCY_CONFLICT"));
    assert!(conflict.to_string().contains(&first.0.to_string()), "{conflict}");
    let other = Ask { kind: OperationKind::Clone, ..ask(Some("k"), 1) };
    assert!(house.operations.run(other, |_| answers(5)).await.is_err(), "another kind is another request");
    assert_eq!(house.only().id, first.0, "what was refused is no operation");
}

#[tokio::test]
async fn requests_with_one_key_at_once_are_one() {
    let house = House::new();
    let done = AtomicU32::new(0);
    let once = || {
        house.operations.run(ask(Some("k"), 1), async |_| {
            tokio::task::yield_now().await;
            Ok(done.fetch_add(1, Ordering::SeqCst))
        })
    };
    let all = futures::future::join_all((0..8).map(|_| once())).await;
    let ids: Vec<_> = all.into_iter().map(|one| one.unwrap()).collect();
    assert!(ids.iter().all(|one| *one == ids[0]), "{ids:?}");
    assert_eq!(done.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_failure_is_kept_and_frees_its_key() {
    let house = House::new();
    let error = house.operations.run(ask(Some("k"), 1), |_| fails()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition);
    let kept = house.only();
    assert_eq!(kept.state, OperationState::Failed);
    let told = Error::from(kept.error.unwrap());
    assert_eq!((told.kind(), told.code(), told.to_string()), (error.kind(), error.code(), error.to_string()));
    house.operations.run(ask(Some("k"), 2), |_| answers(1)).await.unwrap();
}

#[tokio::test]
async fn one_is_cancelled_between_its_steps() {
    let house = House::new();
    let id = Id::random().unwrap();
    let operations = &house.operations;
    let asked = Ask { id: Some(id), ..ask(None, 1) };
    let error = operations
        .run(asked.clone(), async |work| {
            work.step("first")?;
            assert_eq!(operations.cancel(&id.to_string()[..8]).unwrap().state, OperationState::Running);
            work.step("second")?;
            Ok(1)
        })
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Cancelled(cancelled) if cancelled == id));
    assert_eq!(house.only().state, OperationState::Cancelled);
    let ended = operations.cancel(&id.to_string()).unwrap_err();
    assert_eq!(ended.kind(), Kind::FailedPrecondition);
    let again = operations.run(asked, |_| answers(1)).await.unwrap_err();
    assert_eq!(again.kind(), Kind::InvalidArgument, "an id is one operation's: {again}");
}

#[tokio::test]
async fn what_is_decided_holds() {
    let house = House::new();
    let operations = &house.operations;
    operations
        .run(ask(Some("k"), 1), async |work| {
            work.decided(&1).await?;
            assert_eq!(
                operations.cancel(&work.id().to_string()).unwrap_err().kind(),
                Kind::FailedPrecondition
            );
            work.step("tidy")?;
            work.warn("a lease is left");
            Ok(1)
        })
        .await
        .unwrap();
    let kept = house.only();
    assert_eq!((kept.state, kept.steps.len(), kept.warnings.len()), (OperationState::Succeeded, 1, 1));

    // A crash behind the decision: it has succeeded.
    let asked = ask(Some("l"), 1);
    let (decided, was) = oneshot::channel();
    {
        let cut_off = operations.run::<u32, _>(asked.clone(), async |work| {
            work.decided(&2).await?;
            decided.send(()).unwrap();
            std::future::pending().await
        });
        tokio::select! { _ = cut_off => unreachable!(), _ = was => {} }
    }
    let house = house.again();
    assert!(house.operations.left_at().is_empty());
    assert_eq!(house.operations.run(asked, |_| answers(3)).await.unwrap().1, 2);
}

#[tokio::test]
async fn what_a_crash_left_is_settled_and_says_so() {
    for (outcome, state) in [
        (Outcome::Undone, OperationState::Failed),
        (Outcome::Finished("5".into()), OperationState::Succeeded),
    ] {
        let house = House::new();
        let asked = ask(Some("k"), 1);
        let (planned, was) = oneshot::channel();
        {
            let cut_off = house.operations.run::<u32, _>(asked.clone(), async |work| {
                work.plan(&json!({"names": ["a"]})).await?;
                planned.send(()).unwrap();
                std::future::pending().await
            });
            tokio::select! { _ = cut_off => unreachable!(), _ = was => {} }
        }
        assert_eq!(
            house.operations.left("/run/containerd.sock", "default").len(),
            1,
            "a defect leaves it too"
        );
        let house = house.again();
        let operations = Arc::clone(&house.operations);
        assert_eq!(operations.left_at(), [("/run/containerd.sock".to_owned(), "default".to_owned())]);
        assert!(operations.left("/run/containerd.sock", "ci").is_empty());
        let left = operations.left("/run/containerd.sock", "default").pop().unwrap();
        assert_eq!(left.plan.as_deref(), Some(r#"{"names":["a"]}"#));
        assert_eq!(operations.cancel(&left.id.to_string()).unwrap_err().kind(), Kind::FailedPrecondition);

        // The same request waits until it is settled.
        let mut repeated = Box::pin(operations.run(asked, |_| answers(6)));
        assert!(futures::poll!(&mut repeated).is_pending());
        operations.settle(left.id, outcome.clone()).await.unwrap();
        operations.settle(left.id, outcome).await.unwrap();
        let repeated = repeated.await.unwrap().1;
        let kept = operations.get(&left.id.to_string()).unwrap();
        assert_eq!(kept.state, state);
        if state == OperationState::Failed {
            assert_eq!((repeated, kept.error.unwrap().code.as_str()), (6, "CUT_OFF"));
        } else {
            assert_eq!((repeated, kept.warnings.len()), (5, 1));
        }
        assert!(operations.left_at().is_empty());
    }
}

#[tokio::test]
async fn one_is_found_by_a_prefix() {
    let house = House::new();
    for id in ["aaaa1", "aaaa2", "bbbb1"] {
        let id = Some(format!("{id:0<32}").parse().unwrap());
        house.operations.run(Ask { id, ..ask(None, 1) }, |_| answers(1)).await.unwrap();
    }
    assert!(house.operations.get("bbbb").is_ok());
    assert!(house.operations.get("aaaa2").is_ok());
    assert!(matches!(house.operations.get("aaaa").unwrap_err(), Error::Ambiguous { .. }));
    for unknown in ["", "bbb", "cccc", "BBBB", "bb%%", "bbbb1'"] {
        assert_eq!(house.operations.get(unknown).unwrap_err().kind(), Kind::NotFound, "{unknown:?}");
    }
    assert_eq!(house.operations.list(2).unwrap().len(), 2);
}

#[tokio::test]
async fn what_could_not_be_undone_is_left_with_its_error_until_it_is() {
    let house = House::new();
    let silent = Error::precondition("containerd", "it is away");
    let failed = house.operations.run(ask(Some("k"), 1), async |work: Work| {
        work.plan(&json!({"names": ["a"]})).await?;
        work.leaves(&Error::precondition("containerd", "it is away"));
        Err::<u32, _>(Error::precondition("containerd", "it is away"))
    });
    assert_eq!(failed.await.unwrap_err().to_string(), silent.to_string());
    house.operations.some_left().await;
    let house = house.again();
    let left = house.operations.left("/run/containerd.sock", "default").pop().unwrap();
    assert_eq!((left.state, left.plan.is_some()), (OperationState::Running, true));
    assert_eq!(left.error.as_ref().unwrap().message, silent.to_string());
    house.operations.settle(left.id, Outcome::Undone).await.unwrap();
    let ended = house.only();
    assert_eq!((ended.state, ended.error), (OperationState::Failed, left.error));
    // Its key is free again.
    assert_eq!(house.operations.run(ask(Some("k"), 2), |_| answers(1)).await.unwrap().1, 1);
}

#[tokio::test]
async fn what_was_called_off_and_left_ends_as_called_off() {
    let house = House::new();
    let cancelled = house.operations.run(ask(None, 1), async |work: Work| {
        house.operations.cancel(&work.id().to_string())?;
        work.leaves(&Error::precondition("containerd", "it is away"));
        work.check().map(|()| 1)
    });
    assert_eq!(cancelled.await.unwrap_err().code(), "CANCELLED");
    let left = house.only();
    house.operations.settle(left.id, Outcome::Undone).await.unwrap();
    assert_eq!(house.only().state, OperationState::Cancelled);
}

#[tokio::test]
async fn what_leaves_something_and_succeeds_has_succeeded() {
    let house = House::new();
    let done = house.operations.run(ask(None, 1), async |work: Work| {
        work.leaves(&Error::precondition("containerd", "it is away"));
        Ok(1)
    });
    done.await.unwrap();
    assert_eq!(house.only().state, OperationState::Succeeded);
    assert!(house.operations.left_at().is_empty());
}

#[tokio::test]
async fn old_ones_are_forgotten_while_it_runs() {
    let house = House::new();
    let (old, _) = house.operations.run(ask(None, 0), |_| answers(0)).await.unwrap();
    let mut row = house.only();
    row.ended = Some(Time(0));
    house.operations.write(move |rows| rows.put_operation(&row)).await.unwrap();
    for n in 1..=TIDY {
        house.operations.run(ask(None, n), |_| answers(n)).await.unwrap();
    }
    assert!(house.operations.get(&old.to_string()).is_err());
    assert_eq!(house.operations.list(1000).unwrap().len(), TIDY as usize);
}
