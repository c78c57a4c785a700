//! What the verbs about operations print.

use serde_json::{Value, json};

use super::fake::{FORKS, SEED};
use super::*;

#[test]
fn people_read_operations_in_a_table() {
    with_loomd(|loom| {
        let (exit, out, err) = loom("operations");
        assert_eq!((exit, err.as_str()), (Exit::Done, ""));
        let lines: Vec<Vec<&str>> =
            out.lines().map(|line| line.split("   ").map(str::trim).collect()).collect();
        let cells = |line: usize| -> Vec<&str> {
            lines[line].iter().copied().filter(|cell| !cell.is_empty() && !cell.ends_with(" ago")).collect()
        };
        assert_eq!(cells(0), ["ID", "KIND", "SUBJECT", "STATE", "AGE", "TOOK"]);
        assert_eq!(cells(1), ["5eed5eed5eed", "fork", "web", "succeeded", "367 ms"]);
        assert_eq!(cells(2), ["5eed5eed5eed", "fork", "web", "running", "-"]);
        assert_eq!(cells(3), ["0badc0de0bad", "rollback", "db", "failed", "367 ms"]);
        assert_eq!(loom("operations --limit 1").1.lines().count(), 2);
    });
}

#[test]
fn people_read_all_of_an_operation() {
    with_loomd(|loom| {
        let (exit, out, err) = loom("operation 5eed");
        assert_eq!((exit, err.as_str()), (Exit::Done, ""));
        let begun = out.lines().find(|line| line.starts_with("begun: ")).unwrap();
        assert!(begun.starts_with("begun: 2023-11-14T22:13:20Z, ") && begun.ends_with(" ago"), "{begun}");
        assert_eq!(
            out.replace(begun, "begun: then"),
            "id: 5eed5eed5eed5eed5eed5eed5eed5eed\n\
             kind: fork\n\
             subject: web\n\
             namespace: default\n\
             state: succeeded\n\
             begun: then\n\
             took: 367 ms\n\
             done: 3 of 3\n\
             key: nightly-7\n\
             result:\n  \
               try-1   pid 1192\n  \
               try-2   no\n\
             warning: loom.unquiesce of \"web\" failed: exit status 1\n\
             steps:\n  \
               state   2.1 ms\n  \
               make    40 ms\n  \
               start   320 ms\n"
        );
        let (exit, out, _) = loom("operation 0bad");
        assert_eq!(exit, Exit::Done, "its failure is not this command's");
        assert!(out.contains("\nerror: no space\nerror code: NO_SPACE\n"), "{out}");
        assert_eq!(loom("operation beef").0, Exit::NotFound);
    });
}

#[test]
fn programs_read_operations() {
    with_loomd(|loom| {
        let (_, out, _) = loom("operation 5eed --json");
        let done: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            done,
            json!({
                "id": SEED,
                "kind": "fork",
                "subject": "web",
                "namespace": "default",
                "state": "succeeded",
                "done": 3,
                "total": 3,
                "steps": [
                    {"name": "state", "took_us": 2100},
                    {"name": "make", "took_us": 40000},
                    {"name": "start", "took_us": 320_000},
                ],
                "warnings": ["loom.unquiesce of \"web\" failed: exit status 1"],
                "error": null,
                "idempotency_key": "nightly-7",
                "created": "2023-11-14T22:13:20Z",
                "ended": "2023-11-14T22:13:20.367Z",
                "result": serde_json::from_str::<Value>(FORKS).unwrap(),
            })
        );
        let (_, out, _) = loom("operations --json");
        let all: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&all[0], all.as_array().map(Vec::len)), (&done, Some(3)));
        assert_eq!((&all[1]["steps"][2]["took_us"], &all[1]["ended"]), (&Value::Null, &Value::Null));
        assert_eq!(all[2]["error"], json!({"code": "NO_SPACE", "message": "no space"}));
    });
}

#[test]
fn a_watcher_reads_a_line_a_change() {
    with_loomd(|loom| {
        let (exit, out, err) = loom("operation 5eed --watch");
        assert_eq!((exit, err.as_str()), (Exit::Done, ""));
        assert!(
            out.starts_with(
                "5eed5eed5eed   fork       web   running     start 1/3\n\
                 5eed5eed5eed   fork       web   succeeded   367 ms\n\
                 \n\
                 id: 5eed"
            ),
            "{out}"
        );
        let (exit, out, err) = loom("operations --watch --json");
        assert_eq!((exit, err.lines().count()), (Exit::Unavailable, 1), "loomd has gone: {err}");
        let states: Vec<Value> =
            out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["state"].clone()).collect();
        assert_eq!(states, ["running", "succeeded", "failed"]);
        assert!(
            loom("operations --watch").1.ends_with("0badc0de0bad   rollback   db   failed      no space\n")
        );
    });
}

#[test]
fn a_cancelled_operation_is_not_waited_for() {
    with_loomd(|loom| {
        assert_eq!(
            loom("cancel 5eed"),
            (
                Exit::Done,
                "5eed5eed5eed   fork       web   running     start 1/3\n".into(),
                "it stops at its next step; `loom operation 5eed5eed5eed --watch` waits for that\n".into()
            )
        );
        assert_eq!(loom("cancel beef").0, Exit::NotFound);
    });
}
