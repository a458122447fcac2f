//! Finds the eBPF programs that `cargo xtask build-ebpf` made and hands them to
//! the crate. Without them an empty object stands in, so that `cargo check`
//! works where there is no BPF toolchain; who needs a program then says so.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn main() {
    println!("cargo:rerun-if-env-changed=VETCH_EBPF_OBJECT");
    let object = env::var_os("VETCH_EBPF_OBJECT").map_or_else(default_object, PathBuf::from);
    println!("cargo:rerun-if-changed={}", object.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("vetch-ebpf");
    if object.exists() {
        fs::copy(&object, &out)
            .unwrap_or_else(|error| panic!("copy {}: {error}", object.display()));
    } else {
        println!(
            "cargo:warning=no eBPF programs at {}: run cargo xtask build",
            object.display()
        );
        fs::write(&out, []).unwrap_or_else(|error| panic!("write {}: {error}", out.display()));
    }
}

fn default_object() -> PathBuf {
    let crate_dir =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let workspace = crate_dir.ancestors().nth(2).unwrap_or(Path::new("/"));
    workspace.join("target/ebpf/vetch-ebpf")
}
