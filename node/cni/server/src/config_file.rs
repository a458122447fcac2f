//! The network's configuration, as runtimes read it (CNI 1.1.0, section 1).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Runtimes take the first by name.
const NAME: &str = "10-vetch.conflist";

/// Answers where it is. Whole at once: runtimes watch the directory.
pub fn write(
    dir: &Path,
    run_dir: &Path,
    host_ports: bool,
) -> Result<PathBuf, (PathBuf, io::Error)> {
    let path = dir.join(NAME);
    // A name that no runtime takes for a configuration.
    let temporary = dir.join(format!(".{NAME}.tmp"));
    let text = format!("{:#}\n", content(run_dir, host_ports));
    let written = fs::create_dir_all(dir)
        .and_then(|()| fs::write(&temporary, text))
        .and_then(|()| fs::rename(&temporary, &path));
    match written {
        Ok(()) => Ok(path),
        Err(error) => Err((path, error)),
    }
}

/// What a runtime of 1.0.0 understands, and what a newer one does.
fn content(run_dir: &Path, host_ports: bool) -> Value {
    let mut capabilities = json!({ "bandwidth": true, "dns": true, "ips": true });
    if host_ports {
        capabilities["portMappings"] = true.into();
    }
    json!({
        "cniVersion": "1.0.0",
        "cniVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
        "name": "vetch",
        "plugins": [{
            "type": "vetch-cni",
            "runDir": run_dir,
            "capabilities": capabilities,
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_that_says_what_is_served() {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("net.d");
        for host_ports in [true, false] {
            let path = write(&conf, Path::new("/run/v"), host_ports).unwrap();
            let read: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let plugin = &read["plugins"][0];
            assert_eq!(plugin["type"], "vetch-cni");
            assert_eq!(plugin["runDir"], "/run/v");
            let capabilities = plugin["capabilities"].as_object().unwrap();
            let said: Vec<&str> = capabilities.keys().map(String::as_str).collect();
            let more = host_ports.then_some("portMappings");
            let expected = ["bandwidth", "dns", "ips"].into_iter().chain(more);
            assert_eq!(said, expected.collect::<Vec<_>>());
            assert!(capabilities.values().all(|value| *value == true));
        }
        assert_eq!(fs::read_dir(&conf).unwrap().count(), 1);
    }
}
