//! What the verbs about images, archives and differences print and write.

use serde_json::{Value, json};

use super::fake::{ARCHIVE, PATCH, with_interrupts};
use super::*;

const COST: &str = "paused 2.1 ms, 14 ms in all (subvolume)\n";

fn object(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn image(name: &str, portable: bool) -> Value {
    json!({
        "name": format!("registry.example.com/{name}"),
        "digest": format!("sha256:{}", "d".repeat(64)),
        "chain_id": format!("sha256:{}", "c".repeat(64)),
        "snapshot": before().id,
        "portable": portable,
        "created": "2023-11-14T22:13:20Z",
        "size": 12_345_678,
        "platform": "linux/amd64",
        "namespace": "default",
    })
}

#[test]
fn a_commit_tells_its_name_and_that_only_this_node_has_it() {
    with_loomd(|loom| {
        let name = "registry.example.com/app:v2";
        let alone = format!("only this node has it: `loom portable {name}` makes it one to save and push\n");
        assert_eq!(loom("commit web app:v2"), (Exit::Done, format!("{name}\n"), format!("{COST}{alone}")));
        assert_eq!(loom("commit before app:v2"), (Exit::Done, format!("{name}\n"), alone));
        assert_eq!(loom("commit web app:v2 --portable"), (Exit::Done, format!("{name}\n"), COST.into()));
        let (exit, out, err) = loom("commit web taken");
        assert_eq!((exit, out.as_str()), (Exit::Conflict, ""));
        assert_eq!(err, "loom: image \"taken\" already exists\n");
        assert_eq!(loom("commit web taken --replace").0, Exit::Done);

        let cost = json!({"method": "subvolume", "paused_us": 2100, "total_us": 14000});
        let (_, out, err) = loom("commit web app:v2 --json");
        let expected = json!({"operation": "1".repeat(32), "image": image("app:v2", false), "cost": cost});
        assert_eq!((object(&out), err.as_str()), (expected, ""));
        assert_eq!(object(&loom("commit before app:v2 --json").1)["cost"], Value::Null);
    });
}

#[test]
fn portable_tells_the_layer_that_was_written() {
    with_loomd(|loom| {
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(loom("portable app:v2"), (Exit::Done, format!("{digest}   1.1 GB\n"), String::new()));
        let before = "registry.example.com/portable:v1 was portable before\n";
        assert_eq!(loom("portable portable:v1"), (Exit::Done, String::new(), before.into()));
        let (_, out, _) = loom("portable app:v2 --json");
        let written = object(&out);
        assert_eq!((&written["layer"], &written["layer_size"]), (&json!(digest), &json!(1_100_000_000)));
        assert_eq!(object(&loom("portable portable:v1 --json").1)["layer"], Value::Null);
    });
}

#[test]
fn images_are_listed_and_tagged() {
    with_loomd(|loom| {
        let (exit, out, err) = loom("images");
        assert_eq!((exit, err.as_str()), (Exit::Done, ""));
        let cells = |line: &str| -> Vec<String> {
            let cells = line.split("   ").map(str::trim).filter(|cell| !cell.is_empty());
            cells.filter(|cell| !cell.ends_with(" ago")).map(str::to_owned).collect()
        };
        let lines: Vec<_> = out.lines().map(cells).collect();
        assert_eq!(lines[0], ["NAME", "ID", "SNAPSHOT", "CREATED", "SIZE", "PORTABLE"]);
        let app = ["registry.example.com/app:v2", "dddddddddddd", "fedcba987654", "12 MB", "no"];
        assert_eq!(lines[1], app);
        assert_eq!(lines[2][4], "yes");
        assert_eq!(loom("images -q").1, "registry.example.com/app:v2\nregistry.example.com/portable:v1\n");
        let all = object(&loom("images --json").1);
        assert_eq!(all, json!([image("app:v2", false), image("portable:v1", true)]));

        assert_eq!(loom("tag app:v2 new").1, "registry.example.com/new\n");
        assert_eq!(object(&loom("tag app:v2 new --json").1), image("new", false));
        assert_eq!(loom("tag none new").0, Exit::NotFound);
    });
}

#[test]
fn a_difference_is_a_line_a_path() {
    const LINES: [&str; 3] =
        ["A /bin/new (2.0 KB)\n", "M /etc/motd (mode 644 → 755, 12 KB → 15 KB)\n", "D /old (7 B)\n"];
    with_loomd(|loom| {
        let count = "1 added, 1 modified, 1 deleted\n";
        assert_eq!(loom("diff web"), (Exit::Done, LINES.concat(), count.into()));
        assert_eq!(loom("diff web web"), (Exit::Done, String::new(), "no difference\n".into()));
        let patched = [LINES[0], LINES[1], PATCH, LINES[2]].concat();
        assert_eq!(loom("diff web --patch"), (Exit::Done, patched, count.into()));
        // What was told before it failed stays told, and it has failed.
        assert_eq!(loom("diff gone"), (Exit::NotFound, LINES.concat(), "loom: its bytes are gone\n".into()));

        let (_, out, err) = loom("diff web --patch --json");
        let (all, node) = (object(&out), json!({"type": "file", "uid": 0, "gid": 0, "target": null}));
        let node = |mode: u32, size: u64| {
            let mut node = node.clone();
            (node["mode"], node["size"]) = (mode.into(), size.into());
            node
        };
        assert_eq!(err, "");
        assert_eq!(
            all[1],
            json!({
                "path": "etc/motd",
                "kind": "modified",
                "before": node(0o644, 12_000),
                "after": node(0o755, 15_000),
                "differs": ["mode", "content"],
                "patch": PATCH,
            })
        );
        assert_eq!((&all[0]["kind"], &all[0]["before"]), (&json!("added"), &Value::Null));
        assert_eq!((&all[2]["kind"], &all[2]["patch"]), (&json!("deleted"), &Value::Null));
    });
}

#[test]
fn an_archive_goes_to_a_file_or_to_standard_output() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    let file = path.display();
    with_loomd(|loom| {
        let archive = String::from_utf8(ARCHIVE.to_vec()).unwrap();
        assert_eq!(loom("export web"), (Exit::Done, archive.clone(), String::new()));
        assert_eq!(loom("save app:v2"), (Exit::Done, archive, String::new()));
        let told = format!("{file}: 12 B\n");
        assert_eq!(loom(&format!("export web -o {file}")), (Exit::Done, String::new(), told));
        assert_eq!(fs::read(&path).unwrap(), ARCHIVE);
        let (_, out, _) = loom(&format!("save app:v2 --json -o {file}"));
        assert_eq!(object(&out), json!({"file": path, "size": 12}));
        assert_eq!(loom("export web --json").0, Exit::Usage);

        // One that breaks off leaves what was there before.
        let (exit, out, err) = loom(&format!("export broken -o {file}"));
        assert_eq!((exit, out.as_str()), (Exit::Failed, ""));
        assert_eq!(err, "loom: read /layers/7/fs/x: Input/output error\n");
        assert_eq!(fs::read(&path).unwrap(), ARCHIVE);
        let other = dir.path().join("b.tar");
        assert_eq!(loom(&format!("export broken -o {}", other.display())).0, Exit::Failed);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing is left of it");
        assert_eq!(loom("export web -o /nonexistent/a.tar").0, Exit::Failed);
    });
    with_interrupts(|loom| {
        let (exit, _, err) = loom(1, &format!("export slow -o {file}.2"));
        assert_eq!((exit, err.as_str()), (Exit::Failed, "loom: interrupted; nothing of it is left\n"));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    });
}

#[test]
fn an_archive_comes_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    // More than a part.
    fs::write(&path, vec![7; 2_500_000]).unwrap();
    let file = path.display();
    with_loomd(|loom| {
        assert_eq!(
            loom(&format!("import {file} app:v2")),
            (Exit::Done, "registry.example.com/app:v2\n".into(), String::new())
        );
        let (_, out, _) = loom(&format!("import {file} app:v2 --json"));
        let made = object(&out);
        assert_eq!((&made["image"]["size"], &made["operation"]), (&json!(2_500_000), &json!("3".repeat(32))));
        for made in ["before", "again"] {
            let (exit, out, err) = loom(&format!("import {file} {made}"));
            assert_eq!((exit, out), (Exit::Done, format!("registry.example.com/{made}\n")), "{err}");
        }
        assert_eq!(loom(&format!("import {file} taken")).0, Exit::Conflict);
        // A directory can be opened, and not read.
        let (exit, _, err) = loom(&format!("import {} app:v2", dir.path().display()));
        assert_eq!(exit, Exit::Failed);
        assert!(err.starts_with("loom: cannot read the archive: "), "{err}");
        assert_eq!(loom("import /nonexistent/a.tar app:v2").0, Exit::Failed);
    });
    with_interrupts(|loom| {
        let (exit, out, err) = loom(1, &format!("import {file} slow"));
        assert_eq!((exit, out.as_str()), (Exit::Failed, ""));
        assert_eq!(err, "loom: operation was cancelled; what it had made was undone\n");
        assert_eq!(loom(2, &format!("import {file} slow")).0, Exit::Interrupted);
        assert_eq!(loom(1, "portable slow").0, Exit::Failed);
    });
}
