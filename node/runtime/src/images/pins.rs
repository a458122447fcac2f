//! What containers keep of the store, as files, so that no process that
//! removes images takes a layer from under them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::ImageError;

fn file(store: &Path, container: &str) -> PathBuf {
    store.join("pins").join(container)
}

/// To be called while layers are in use (`layer::using`).
pub fn add(store: &Path, container: &str, layers: &[String]) -> Result<(), ImageError> {
    let path = file(store, container);
    fs::write(&path, layers.join("\n")).map_err(ImageError::store("writing", &path))
}

/// Returns what it kept.
pub fn remove(store: &Path, container: &str) -> Result<Vec<String>, ImageError> {
    let path = file(store, container);
    let layers = read(&path)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ImageError::store("removing", &path)(error))
        }
        _ => Ok(layers),
    }
}

/// Removes those of other containers.
pub fn retain(store: &Path, containers: &BTreeSet<String>) -> Result<(), ImageError> {
    for name in names(store)? {
        if !containers.contains(&name) {
            remove(store, &name)?;
        }
    }
    Ok(())
}

/// All layers kept by any.
pub fn layers(store: &Path) -> Result<BTreeSet<String>, ImageError> {
    let mut all = BTreeSet::new();
    for name in names(store)? {
        all.extend(read(&file(store, &name))?);
    }
    Ok(all)
}

fn read(path: &Path) -> Result<Vec<String>, ImageError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(ImageError::store("reading", path)(error)),
    }
}

fn names(store: &Path) -> Result<Vec<String>, ImageError> {
    let dir = store.join("pins");
    let entries = fs::read_dir(&dir).map_err(ImageError::store("reading", &dir))?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_stay_as_long_as_any_container_wants_them() {
        let store = tempfile::tempdir().unwrap();
        let store = store.path();
        fs::create_dir(store.join("pins")).unwrap();
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        add(store, "a", &words(&["1", "2"])).unwrap();
        add(store, "b", &words(&["2", "3"])).unwrap();
        add(store, "c", &[]).unwrap();
        assert_eq!(
            layers(store).unwrap(),
            words(&["1", "2", "3"]).into_iter().collect()
        );
        retain(store, &words(&["b"]).into_iter().collect()).unwrap();
        assert_eq!(
            layers(store).unwrap(),
            words(&["2", "3"]).into_iter().collect()
        );
        assert_eq!(remove(store, "b").unwrap(), ["2", "3"]);
        assert_eq!(remove(store, "b").unwrap(), [""; 0]);
        assert!(layers(store).unwrap().is_empty());
    }
}
