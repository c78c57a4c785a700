//! What the verbs about the pool take and print.

use serde_json::{Value, json};

use super::super::args::{self, CreatePool, Pool, Verb};
use super::fake::with_loomd;
use super::*;

fn verb(line: &str) -> Result<Pool, clap::Error> {
    match args::parse(words(&line.split(' ').collect::<Vec<_>>()))?.verb {
        Verb::Pool { verb } => Ok(verb),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pool_is_one_thing() {
    let create = |create: CreatePool| Pool::Create(create);
    assert_eq!(verb("pool create").unwrap(), create(CreatePool::default()));
    let sized = CreatePool { size: Some(50 << 30), ..Default::default() };
    assert_eq!(verb("pool create --size 50G").unwrap(), create(sized));
    assert_eq!(verb("pool grow 1.5T").unwrap(), Pool::Grow { size: 3 << 39 });
    assert_eq!(verb("pool move a b").unwrap(), Pool::Move { containers: vec!["a".into(), "b".into()] });
    for wrong in [
        "pool",
        "pool create --size 0",
        "pool create --size much",
        "pool create --size 5G --device /dev/x",
        "pool create --device /dev/x --path /y",
        "pool grow",
        "pool grow -5G",
    ] {
        assert!(verb(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_pool_is_told_line_by_line() {
    with_loomd(|loom| {
        let (exit, out, err) = loom("pool create --size 8G");
        assert_eq!((exit, err.contains("loom pool move")), (Exit::Done, true), "{err}");
        let lines = [
            "path: /var/lib/loom/pool",
            "kind: image /var/lib/loom/pool.img",
            "size: 8.5 GB",
            "used: 3.0 MB",
            "free: 2.0 GB",
            "allocated: 2.1 GB of its host's space",
            "host free: 50 GB, of which 1.0 GB are kept",
            "branches: yes",
        ];
        assert_eq!(out.lines().collect::<Vec<_>>(), lines);
        assert!(loom("pool grow 9G").1.ends_with("branches: refused: the host is full\n"));
        let (_, out, err) = loom("pool grow 9G --json");
        let told: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(told["size"], json!(9_u64 << 30));
        assert_eq!(
            (&told["refuses"], &told["reserve"], err.as_str()),
            (&json!("the host is full"), &json!(1_000_000_000), "")
        );
        assert_eq!(loom("pool create --device /dev/full").0, Exit::Conflict);
        // Of none there is only why that is so.
        let none = "loom: there is no pool; copy: there is no pool\n";
        assert_eq!(loom("pool status"), (Exit::NotFound, String::new(), none.into()));
        assert_eq!(loom("pool status --json"), (Exit::Done, "null\n".into(), String::new()));
    });
}

#[test]
fn one_that_is_not_moved_does_not_keep_the_others() {
    with_loomd(|loom| {
        let refused = "loom: db was not moved: it is mounted\n";
        assert_eq!(loom("pool move web db cache"), (Exit::Conflict, "web\ncache\n".into(), refused.into()));
        assert_eq!(loom("pool move"), (Exit::Done, String::new(), "nothing is left to move\n".into()));
        let (_, out, _) = loom("pool move web --json");
        let told: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&told[0]["container"], &told[0]["snapshot"]["home"]), (&json!("web"), &json!("pool")));
    });
}
