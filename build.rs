//! Generates ttrpc servers and clients from `protos/`, without protoc.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use ttrpc_codegen::{Codegen, Customize};

/// Every file that is compiled, below `protos/`. The generated modules have the files' stems as names.
const PROTOS: [&str; 3] = [
    "loom/admin/v1/admin.proto",
    "containerd/services/snapshots/v1/snapshots.proto",
    "containerd/types/mount.proto",
];

/// The generated modules. They lie beside a `mod.rs` because they begin with inner attributes, which
/// `include!` refuses; a `mod.rs` that is included may name files beside it.
const MODULES: &str = "pub mod admin;
pub mod admin_ttrpc;
pub mod mount;
pub mod snapshots;
pub mod snapshots_ttrpc;
";

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=protos");
    let out =
        env::var_os("OUT_DIR").map(PathBuf::from).ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    let protos = Path::new("protos");
    Codegen::new()
        .out_dir(&out)
        .include(protos)
        .inputs(PROTOS.map(|file| protos.join(file)))
        .rust_protobuf()
        .customize(Customize { async_all: true, ..Default::default() })
        .run()?;
    spell_clone(&out.join("admin_ttrpc.rs"))?;
    fs::write(out.join("mod.rs"), MODULES)
}

/// The server's method for the rpc `Clone` is called `clone_state` in Rust: the generated dispatch calls
/// methods on an `Arc`, whose own `clone` comes first. The name on the wire stays.
fn spell_clone(generated: &Path) -> io::Result<()> {
    let mut code = fs::read_to_string(generated)?;
    for (from, to) in [
        ("admin, CloneRequest, clone);", "admin, CloneRequest, clone_state);"),
        ("async fn clone(&self, _ctx:", "async fn clone_state(&self, _ctx:"),
    ] {
        if code.matches(from).count() != 1 {
            return Err(io::Error::other(format!("the generated code has no single {from:?} any more")));
        }
        code = code.replace(from, to);
    }
    fs::write(generated, code)
}
