#![allow(clippy::unwrap_used)]
use super::*;
fn t() -> Target { Target { address: "/var/tmp/wtc/c.sock".into(), namespace: "default".into() } }
#[tokio::test]
#[ignore]
async fn rooms() {
    let c = Client::connect(&t()).await.unwrap();
    for n in ["web", "012", "shop", "sto", "nope", "0123abcd0123", "0123abc."] {
        println!("{n}: {:?}", containers::resolve(&c, n).await.map(|c| c.id).map_err(|e| e.to_string()));
    }
    let other = Client::connect(&Target { namespace: "nons".into(), ..t() }).await.unwrap();
    println!("{:?}", containers::resolve(&other, "web").await.map(|c| c.id).map_err(|e| e.to_string()));
    println!("{:?}", task::get(&other, "web").await.map_err(|e| e.to_string()));
    println!("{:?}", task::get(&c, "web").await);
    println!("{:?}", task::get(&c, "stopped").await);
    task::pause(&c, "web").await.unwrap();
    println!("{:?}", task::pause(&c, "web").await.map_err(|e| e.to_string()));
    println!("{:?}", task::get(&c, "web").await);
    task::resume(&c, "web").await.unwrap();
    println!("again {:?}", task::resume(&c, "web").await.map_err(|e| e.to_string()));
    println!("gone {:?}", task::resume(&c, "stopped").await.map_err(|e| e.to_string()));
    println!("of_snapshot {:?}", containers::of_snapshot(&c, "web").await.map(|c| c.map(|c| c.id)));
    println!("of_snapshot {:?}", containers::of_snapshot(&c, "nope x").await.map(|c| c.map(|c| c.id)));
    for id in ["stopped"] {
        let k = containers::resolve(&c, id).await.unwrap();
        println!("{:?}", task::start(&c, &k).await);
        println!("{:?}", task::delete(&c, id).await.map_err(|e| e.to_string()));
        println!("{:?}", task::end(&c, id).await);
        println!("{:?}", task::get(&c, id).await);
    }
    let web = containers::resolve(&c, "web").await.unwrap();
    println!("{:?}", web.spec.as_ref().unwrap().type_url);
    let cap = Captured::of("default", &web).unwrap();
    println!("{:?}", snapshots::stat(&c, "overlayfs", "web").await.unwrap().map(|i| i.parent));
    println!("{:?}", snapshots::stat(&c, "overlayfs", "nope").await.unwrap().is_none());
    println!("{:?}", snapshots::stat(&c, "nosuch", "nope").await.map_err(|e| e.to_string()));
    let parent = snapshots::stat(&c, "overlayfs", "web").await.unwrap().unwrap().parent;
    let l = leases::Lease::take(&c).await.unwrap();
    for (n, tty) in [("f1", false), ("f2", true)] {
        let mut b = cap.branch(n, "default").unwrap();
        if tty {
            let mut s = spec::read(&b).unwrap();
            s["process"]["terminal"] = serde_json::json!(true);
            b.spec = Some(spec::write(&s));
        }
        snapshots::prepare(l.client(), "overlayfs", n, &parent, "x").await.unwrap();
        println!("{:?}", snapshots::prepare(l.client(), "overlayfs", n, &parent, "x").await.map_err(|e| e.to_string()));
        containers::create(l.client(), b.clone()).await.unwrap();
        println!("{:?}", containers::create(l.client(), b.clone()).await.map_err(|e| e.to_string()));
        println!("start {:?}", task::start(&c, &b).await);
    }
    println!("{}", String::from_utf8_lossy(&std::process::Command::new("ctr").args(["-a", "/var/tmp/wtc/c.sock", "leases", "ls"]).output().unwrap().stdout));
    println!("{}", String::from_utf8_lossy(&std::process::Command::new("ctr").args(["-a", "/var/tmp/wtc/c.sock", "t", "ls"]).output().unwrap().stdout));
    l.end().await;
    let mut b = cap.branch("f3", "default").unwrap();
    snapshots::prepare(&c, "overlayfs", "f3", &parent, "x").await.unwrap();
    let mut s = spec::read(&b).unwrap();
    s["process"]["args"] = serde_json::json!(["/nonexistent"]);
    b.spec = Some(spec::write(&s));
    containers::create(&c, b.clone()).await.unwrap();
    println!("start {:?}", task::start(&c, &b).await.map_err(|e| e.to_string()));
    println!("{:?}", task::get(&c, "f3").await);
    for n in ["f1", "f2", "f3"] {
        task::end(&c, n).await.unwrap();
        containers::delete(&c, n).await.unwrap();
        snapshots::remove(&c, "overlayfs", n).await.unwrap();
        snapshots::remove(&c, "overlayfs", n).await.unwrap();
    }
    println!("{}", String::from_utf8_lossy(&std::process::Command::new("ctr").args(["-a", "/var/tmp/wtc/c.sock", "leases", "ls"]).output().unwrap().stdout));
}
