//! What the verbs that branch print, for people and for programs, and what Ctrl-C does to them.

use serde_json::{Value, json};

use super::fake::{SEED, with_interrupts};
use super::*;

const COST: &str = "paused 2.1 ms, 14 ms in all (subvolume)\n";

fn object(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn branches_tell_their_names_and_what_they_cost() {
    with_loomd(|loom| {
        let told = |out: &str| (Exit::Done, out.to_owned(), COST.to_owned());
        assert_eq!(loom("snapshot web --name after --label a=b"), told("after\n"));
        assert_eq!(loom("clone before --name again"), told("again   pid 7\n"));
        assert_eq!(
            loom("fork web --name try --count 2"),
            told("try-1        pid 101\nby-nerdctl   pid 102\n")
        );
        assert_eq!(loom("fork web --name try --no-start"), told("try-1   stopped\n"));
        let (exit, out, err) = loom("fork web --name try --count 3");
        assert_eq!((exit, out.lines().count()), (Exit::Failed, 2));
        assert_eq!(err, format!("{COST}loom: try-3: no space\n"));
        assert_eq!(loom("resume web"), (Exit::Done, "web   pid 9\n".into(), String::new()));
    });
}

#[test]
fn a_rollback_tells_how_to_go_forward_again() {
    with_loomd(|loom| {
        let outage = "stopped 2.1 ms, 14 ms in all (subvolume)\n";
        let kept = "what it had is kept as after; `loom rollback web after` goes back to it\n";
        for line in ["rollback web before --name after", "promote try --name after"] {
            assert_eq!(loom(line), (Exit::Done, "web   pid 42\n".into(), format!("{kept}{outage}")));
        }
        assert_eq!(
            loom("rollback web before --discard --resume manual"),
            (Exit::Done, "web   stopped\n".into(), format!("what it had is gone\n{outage}"))
        );
        let (exit, out, err) = loom("rollback web others");
        assert_eq!((exit, out.as_str()), (Exit::Conflict, ""));
        assert_eq!(err, "loom: snapshot \"others\" is not in the lineage of \"web\"\n");
        let (exit, _, err) = loom("promote try --if-unchanged");
        assert_eq!(
            (exit, err.as_str()),
            (Exit::Conflict, "loom: \"web\" has written since the fork: etc/motd\n")
        );
    });
}

#[test]
fn a_repeated_request_prints_the_same_and_the_first_ones_warnings() {
    with_loomd(|loom| {
        let (exit, out, err) = loom("snapshot web --name after --idempotency-key nightly-7");
        assert_eq!((exit, out.as_str()), (Exit::Done, "after\n"));
        assert_eq!(err, format!("{COST}loom: warning: loom.unquiesce of \"web\" failed: exit status 1\n"));
        let (_, out, err) = loom("snapshot web --name after --idempotency-key nightly-7 --json");
        assert_eq!((object(&out)["operation"].as_str(), err.as_str()), (Some(SEED), ""));
    });
}

#[test]
fn programs_read_what_a_branch_made() {
    with_loomd(|loom| {
        let cost = json!({"method": "subvolume", "paused_us": 2100, "total_us": 14000});
        let (exit, out, err) = loom("fork web --name t --count 3 --json --containerd /c -n ns --no-start");
        assert_eq!(
            (exit, err.as_str()),
            (Exit::Failed, "{\"error\":{\"code\":\"UNKNOWN\",\"message\":\"t-3: no space\"}}\n")
        );
        let forks = object(&out);
        assert_eq!(
            forks["forks"][0],
            json!({"container": "t-1", "name": "t-1", "namespace": "ns", "snapshot": "/c", "pid": null, "error": null})
        );
        assert_eq!(forks["forks"][1]["name"], "by-nerdctl");
        assert_eq!((&forks["cost"], forks["operation"].as_str()), (&cost, Some(&*"f".repeat(32))));

        let (_, out, err) = loom("rollback web before --name after --json");
        assert_eq!(err, "");
        assert_eq!(
            object(&out),
            json!({
                "operation": "b".repeat(32),
                "container": {
                    "container": "c0ffee",
                    "name": "web",
                    "namespace": "default",
                    "snapshot": web().id,
                    "kept": before().id,
                    "kept_name": "after",
                    "pid": 42,
                },
                "cost": cost,
            })
        );
        let (_, out, _) = loom("promote try --discard --no-start --json");
        let container = &object(&out)["container"];
        assert_eq!((&container["kept"], &container["kept_name"]), (&Value::Null, &Value::Null));
        assert_eq!(container["pid"], Value::Null);
        let (_, out, _) = loom("resume web --json");
        assert_eq!(
            object(&out),
            json!({"operation": "d".repeat(32), "container": "web", "name": "web", "pid": 9})
        );
        let (_, out, _) = loom("clone before --name again --json");
        assert_eq!(object(&out)["clone"]["name"], "again");
        let (_, out, _) = loom("snapshot web --name after --json");
        let made = object(&out);
        assert_eq!(made["operation"].as_str().map(str::len), Some(32), "the program chose it");
        assert_eq!(made["snapshot"]["expires"], "2023-11-15T22:13:20Z");
    });
}

#[test]
fn a_prune_prints_what_goes() {
    with_loomd(|loom| {
        let names = "before\nolder\n".to_owned();
        assert_eq!(loom("prune --all"), (Exit::Done, names.clone(), "2 snapshots removed\n".into()));
        assert_eq!(
            loom("prune --older-than 7d --dry-run"),
            (Exit::Done, names, "2 snapshots would be removed\n".into())
        );
        let nothing = (Exit::Done, String::new(), "0 snapshots removed\n".into());
        assert_eq!(loom("prune --container gone"), nothing);
        let (_, out, err) = loom("prune --all --dry-run --json");
        let pruned = object(&out);
        assert_eq!((&pruned["dry_run"], err.as_str()), (&Value::Bool(true), ""));
        assert_eq!(pruned["snapshots"][1]["name"], "older");
    });
}

#[test]
fn ctrl_c_has_it_undone_and_waits_for_that() {
    with_interrupts(|loom| {
        let (exit, out, err) = loom(1, "fork slow");
        assert_eq!((exit, out.as_str()), (Exit::Failed, ""));
        assert_eq!(err, "loom: operation was cancelled; what it had made was undone\n");
        let (exit, _, err) = loom(1, "fork slow --json");
        assert_eq!((exit, &object(&err)["error"]["code"]), (Exit::Failed, &Value::from("ABORTED")));
        // What has succeeded all the same is no failure.
        assert_eq!(loom(1, "fork web --name try").0, Exit::Done);
    });
}

#[test]
fn a_second_ctrl_c_does_not_wait() {
    with_interrupts(|loom| {
        let (exit, out, err) = loom(2, "fork slow");
        assert_eq!((exit.status(), out.as_str()), (130, ""));
        assert!(err.starts_with("loom: left; loomd finishes or undoes it: `loom operation "), "{err}");
    });
}
