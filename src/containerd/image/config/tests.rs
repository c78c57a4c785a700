#![allow(clippy::unwrap_used)]

use super::*;
use crate::error::Kind;

/// An image of so many layers, with an empty entry in its history before each.
fn image(layers: usize) -> Documents {
    let mut image = Documents::bare(None);
    for n in 0..layers {
        image.record(Time(0), &format!("set {n}"), "", "");
        image.config["history"][2 * n]["empty_layer"] = json!(true);
        image.push(json!({"digest": format!("sha256:blob{n}")}), &format!("sha256:{n}"));
        image.record(Time(0), &format!("add {n}"), "", "");
    }
    image
}

/// What is left of a configuration's process.
fn changed(config: &Value, changes: &[&str]) -> Result<Value> {
    let mut config = json!({"config": config, "kept": 1});
    let changes: Vec<_> = changes.iter().map(|change| (*change).to_owned()).collect();
    apply(&mut config, &changes)?;
    assert_eq!(config["kept"], 1);
    Ok(config["config"].take())
}

#[test]
fn the_platform_is_the_sources_or_the_machines() {
    let arm = Documents::bare(Some("linux/arm/v7"));
    assert_eq!(arm.platform(), "linux/arm/v7");
    for none in [None, Some("")] {
        assert_eq!(Documents::bare(none).platform(), format!("linux/{}", architecture()));
    }
}

#[test]
fn chain_ids_are_those_of_the_oci() {
    let ids = ["sha256:aa", "sha256:bb", "sha256:cc"];
    let second = content::digest(b"sha256:aa sha256:bb");
    let third = content::digest(format!("{second} sha256:cc").as_bytes());
    assert_eq!(chain_ids(&ids), ["sha256:aa", &second, &third]);
    assert!(chain_ids(&[]).is_empty());
    assert_eq!(image(0).chain_id(), None);
    assert_eq!(image(1).chain_id().as_deref(), Some("sha256:0"));
}

#[test]
fn a_chain_id_is_of_all_layers() {
    let (a, b) = (format!("sha256:{}", "a".repeat(64)), format!("sha256:{}", "b".repeat(64)));
    assert_eq!(chain_id("", &a), a);
    let both = chain_id(&a, &b);
    assert_eq!(both, content::digest(format!("{a} {b}").as_bytes()));
    assert_ne!(both, chain_id(&b, &a));
}

#[test]
fn a_layer_of_this_node_is_its_states_and_its_namespaces() {
    let (one, other): (Id, Id) = ("1".repeat(32).parse().unwrap(), "2".repeat(32).parse().unwrap());
    let (layer, diff_id) = of_node(one, "default");
    assert_eq!(
        (&layer["digest"], &layer["annotations"]["loom.state"]),
        (&json!(diff_id), &json!(one.to_string()))
    );
    assert!(is_of_node(&layer) && !is_of_node(&image(1).layers[0]));
    assert_eq!(of_node(one, "default").1, diff_id);
    assert!(of_node(other, "default").1 != diff_id && of_node(one, "k8s.io").1 != diff_id);
}

#[test]
fn what_has_no_layer_any_more_is_still_told() {
    let mut short = image(3);
    short.keep_layers(1);
    assert_eq!((short.layers.len(), short.diff_ids()), (1, vec!["sha256:0"]));
    let history = short.config["history"].as_array().unwrap();
    let empty: Vec<_> = history.iter().map(|entry| entry["empty_layer"] == true).collect();
    assert_eq!(empty, [true, false, true, true, true, true]);
    short.keep_layers(0);
    assert_eq!(short.chain_id(), None);
    let mut unknown = Documents { layers: Vec::new(), config: json!({"rootfs": 1, "history": "x"}) };
    unknown.keep_layers(0);
    unknown.push(json!({}), "sha256:9");
    unknown.record(Time(0), "made", "", "");
    assert_eq!(
        (unknown.diff_ids(), &unknown.config["history"][0]["created_by"]),
        (vec!["sha256:9"], &json!("made"))
    );
}

#[test]
fn the_record_of_a_layer_has_what_was_said() {
    let mut image = image(1);
    image.config["history"][1].as_object_mut().unwrap().remove("created");
    image.config["created"] = json!("2020-01-01T00:00:00Z");
    image.config["author"] = json!("before");
    image.record(Time(1_000_000_000), "sh -c x", "", "why");
    let last = json!({"created": "1970-01-01T00:00:01Z", "created_by": "sh -c x", "comment": "why"});
    assert_eq!(image.config["history"][2], last);
    assert_eq!((&image.config["created"], &image.config["author"]), (&last["created"], &json!("before")));
    // What said nothing of its time is as old as the image was.
    assert_eq!(image.config["history"][1]["created"], "2020-01-01T00:00:00Z");
    image.record(Time(0), "", "me", "");
    assert_eq!(image.config["author"], "me");
}

#[test]
fn a_dockers_types_are_the_ocis() {
    for (dockers, ocis) in [
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.oci.image.layer.v1.tar+gzip"),
        ("application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.oci.image.layer.v1.tar+zstd"),
    ] {
        let mut layer = json!({"mediaType": dockers, "size": 1});
        as_oci(&mut layer);
        assert_eq!(layer, json!({"mediaType": ocis, "size": 1}));
    }
}

#[test]
fn the_process_of_a_container_is_its_images() {
    let of = |config: Value, process: Value| {
        let mut config = json!({"config": config});
        of_container(&mut config, &json!({"process": process}));
        config["config"].take()
    };
    let process = |args: &[&str]| json!({"args": args, "cwd": "/", "user": {"uid": 0, "gid": 0}});
    for (entrypoint, cmd, args, want_entrypoint, want_cmd) in [
        (json!(["e", "f"]), json!(["c"]), &["e", "f", "c"][..], json!(["e", "f"]), json!(["c"])),
        (json!(["e", "f"]), json!(["c"]), &["e", "f", "d"], json!(["e", "f"]), json!(["d"])),
        (json!(["e", "f"]), json!(["c"]), &["e", "f"], json!(["e", "f"]), json!([])),
        (json!(["e", "f"]), json!(["c"]), &["e", "c"], Value::Null, json!(["e", "c"])),
        (Value::Null, json!(["c"]), &["d"], Value::Null, json!(["d"])),
        (Value::Null, json!(["c"]), &["c"], Value::Null, json!(["c"])),
    ] {
        let config = of(json!({"Entrypoint": entrypoint, "Cmd": cmd}), process(args));
        let told = |field: &str| config.get(field).cloned().unwrap_or_default();
        assert_eq!((told("Entrypoint"), told("Cmd")), (want_entrypoint, want_cmd), "{args:?}");
    }
    for (user, uid, gid, want) in [
        ("", 0, 0, ""),
        ("", 5, 6, "5:6"),
        ("root", 0, 0, "root"),
        ("www", 33, 33, "www"),
        ("www", 0, 0, "0:0"),
        ("5", 5, 9, "5"),
        ("5:6", 5, 6, "5:6"),
        ("5:6", 5, 7, "5:7"),
        ("0", 7, 0, "7:0"),
    ] {
        let config = of(json!({"User": user}), json!({"args": [], "user": {"uid": uid, "gid": gid}}));
        assert_eq!(config["User"], want, "{user:?} {uid}:{gid}");
    }
    let env =
        json!({"env": ["PATH=/bin", "HOSTNAME=web", "TERM=xterm", "A=2", "B=1"], "args": [], "cwd": "/srv"});
    let config = of(json!({"Env": ["PATH=/bin", "TERM=xterm", "A=1"], "Labels": {"kept": "1"}}), env);
    assert_eq!(
        config,
        json!({"Env": ["PATH=/bin", "TERM=xterm", "A=2", "B=1"], "WorkingDir": "/srv", "Labels": {"kept": "1"}})
    );
    // A container without a process says nothing.
    let mut config = json!({"config": {"Cmd": ["c"]}});
    of_container(&mut config, &json!({}));
    assert_eq!(config["config"], json!({"Cmd": ["c"]}));
}

#[test]
fn nerdctls_init_is_no_part_of_the_command() {
    let mut spec = json!({"process": {"args": ["/sbin/tini", "--", "sleep", "1"]}});
    assert_eq!(args(&spec), ["/sbin/tini", "--", "sleep", "1"]);
    spec["mounts"] = json!([{"destination": "/sbin/tini"}]);
    assert_eq!(args(&spec), ["sleep", "1"]);
}

#[test]
fn instructions_change_a_configuration_as_a_build_does() {
    let path = json!({"Env": ["PATH=/bin", "A=1"], "Cmd": ["c"], "WorkingDir": "/srv"});
    for (from, changes, field, want) in [
        (json!({}), &["CMD [\"a\", \"b c\"]"][..], "Cmd", json!(["a", "b c"])),
        (json!({}), &["cmd  a \"b c\" $PATH "], "Cmd", json!(["/bin/sh", "-c", "a \"b c\" $PATH"])),
        (json!({"Shell": ["/bin/bash", "-lc"]}), &["CMD x"], "Cmd", json!(["/bin/bash", "-lc", "x"])),
        (json!({}), &["CMD [ -e /x ] && y"], "Cmd", json!(["/bin/sh", "-c", "[ -e /x ] && y"])),
        (path.clone(), &["ENTRYPOINT [\"e\"]"], "Entrypoint", json!(["e"])),
        (path.clone(), &["ENTRYPOINT [\"e\"]"], "Cmd", Value::Null),
        (path.clone(), &["CMD [\"d\"]", "ENTRYPOINT [\"e\"]"], "Cmd", json!(["d"])),
        (path.clone(), &["ENV A=2 B='x y' C=$A"], "Env", json!(["PATH=/bin", "A=2", "B=x y", "C=1"])),
        (
            path.clone(),
            &["ENV A two  words", "ENV B=${A:-x}"],
            "Env",
            json!(["PATH=/bin", "A=two  words", "B=two  words"]),
        ),
        (path.clone(), &["ENV PATH=/opt:$PATH"], "Env", json!(["PATH=/opt:/bin", "A=1"])),
        (path.clone(), &["ENV A="], "Env", json!(["PATH=/bin", "A="])),
        (
            json!({"ExposedPorts": {"1/tcp": {}}}),
            &["EXPOSE 80 90-91/UDP"],
            "ExposedPorts",
            json!({"1/tcp": {}, "80/tcp": {}, "90/udp": {}, "91/udp": {}}),
        ),
        (
            json!({}),
            &["LABEL a=b \"c d\"=\"e f\"", "LABEL g h i"],
            "Labels",
            json!({"a": "b", "c d": "e f", "g": "h i"}),
        ),
        (json!({"Labels": null}), &["LABEL a=b"], "Labels", json!({"a": "b"})),
        (json!({}), &["ONBUILD RUN x", "ONBUILD ADD . /"], "OnBuild", json!(["RUN x", "ADD . /"])),
        (json!({}), &["STOPSIGNAL sigterm"], "StopSignal", json!("sigterm")),
        (json!({}), &["STOPSIGNAL 9"], "StopSignal", json!("9")),
        (json!({}), &["USER www:\"www\""], "User", json!("www:www")),
        (json!({}), &["VOLUME [\"/a b\", \"/c\"]"], "Volumes", json!({"/a b": {}, "/c": {}})),
        (json!({"Volumes": {"/x": {}}}), &["VOLUME /a /b"], "Volumes", json!({"/x": {}, "/a": {}, "/b": {}})),
        (path.clone(), &["WORKDIR a/../b", "WORKDIR c d"], "WorkingDir", json!("/srv/b/c d")),
        (path.clone(), &["WORKDIR /x//y/."], "WorkingDir", json!("/x/y")),
        (json!({}), &["HEALTHCHECK NONE"], "Healthcheck", json!({"Test": ["NONE"]})),
        (
            json!({}),
            &["HEALTHCHECK CMD curl x || exit 1"],
            "Healthcheck",
            json!({"Test": ["CMD-SHELL", "curl x || exit 1"]}),
        ),
        (
            json!({}),
            &[
                "HEALTHCHECK --interval=1m30s --timeout=500ms --retries=2 --start-period=0s CMD [\"a\", \"b\"]",
            ],
            "Healthcheck",
            json!({"Test": ["CMD", "a", "b"], "Interval": 90_000_000_000_i64, "Timeout": 500_000_000, "Retries": 2, "StartPeriod": 0}),
        ),
    ] {
        let config = changed(&from, changes).unwrap();
        assert_eq!(config.get(field).cloned().unwrap_or_default(), want, "{changes:?}");
    }
}

#[test]
fn nonsense_is_told_with_the_right_form() {
    for (change, parts) in [
        ("", &["no instruction", "WORKDIR"][..]),
        ("RUN make", &["RUN", "no instruction"]),
        ("CMD", &["says nothing", "write CMD"]),
        ("CMD [1, 2]", &["not of strings"]),
        ("ENV A", &["has no value", "ENV NAME=VALUE"]),
        ("ENV A=1 B", &["\"B\" has no value"]),
        ("ENV =1", &["no name"]),
        ("ENV A='1", &["no end"]),
        ("ENV A=${B", &["${B"]),
        ("LABEL a", &["LABEL NAME=VALUE"]),
        ("EXPOSE 0", &["\"0\" is no port"]),
        ("EXPOSE 70000", &["no port"]),
        ("EXPOSE 9-8", &["no port"]),
        ("EXPOSE 80/http", &["EXPOSE PORT"]),
        ("EXPOSE 8080:80", &["no port"]),
        ("HEALTHCHECK maybe", &["HEALTHCHECK NONE"]),
        ("HEALTHCHECK CMD", &["empty"]),
        ("HEALTHCHECK CMD []", &["empty"]),
        ("HEALTHCHECK --interval=soon CMD x", &["--interval=soon"]),
        ("HEALTHCHECK --retries CMD x", &["no value"]),
        ("HEALTHCHECK --often=1s CMD x", &["--often=1s"]),
        ("ONBUILD ONBUILD RUN x", &["ONBUILD cannot"]),
        ("onbuild from x", &["FROM cannot"]),
        ("STOPSIGNAL SIGNONE", &["no signal"]),
        ("STOPSIGNAL 65", &["no signal"]),
        ("USER a b", &["one word"]),
        ("USER \"\"", &["one word"]),
        ("VOLUME []", &["empty"]),
        ("VOLUME [\"\"]", &["empty"]),
        ("WORKDIR 'x", &["no end"]),
        ("CMD a\0b", &["zero byte"]),
    ] {
        let error = changed(&json!({}), &[change]).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument, "{change}");
        for part in parts {
            assert!(error.to_string().contains(part), "{change}: {error}");
        }
    }
}
