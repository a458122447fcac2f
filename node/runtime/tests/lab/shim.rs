//! The supervisor's binary, which belongs to another package: cargo gives its
//! path to no test of this one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

/// `VETCH_SHIM`, or the one beside this test's own binary; built when it is
/// not there or older than its sources.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("VETCH_SHIM") {
        return path.into();
    }
    let test = std::env::current_exe().unwrap();
    let built = test.parent().and_then(Path::parent).unwrap();
    let shim = built.join("vetch-shim");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shim");
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    if modified(&shim).is_ok_and(|at| at >= newest(&sources)) {
        return shim;
    }
    build(built.parent().unwrap())
}

fn newest(path: &Path) -> SystemTime {
    let metadata = fs::metadata(path).unwrap();
    if !metadata.is_dir() {
        return metadata.modified().unwrap();
    }
    fs::read_dir(path)
        .unwrap()
        .map(|entry| newest(&entry.unwrap().path()))
        .max()
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

fn build(target_dir: &Path) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let output = Command::new(cargo)
        .args(["build", "--package", "vetch-shim", "--message-format=json"])
        .arg("--target-dir")
        .arg(target_dir)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("running cargo");
    assert!(
        output.status.success(),
        "building vetch-shim: {}",
        output.status
    );
    let executable = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the executable");
    // Fresh sources with old dates: cargo has nothing to do, and says so again
    // at the next test if the file keeps its own date.
    let now = fs::File::options().append(true).open(&executable);
    now.and_then(|file| file.set_modified(SystemTime::now()))
        .unwrap();
    executable
}
