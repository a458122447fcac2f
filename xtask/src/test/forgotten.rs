//! That no test file is forgotten: one that no test program names is not compiled, and nobody misses what it
//! would have said.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// A crate with test programs of its own.
struct Crate {
    manifest: String,
    /// Below its `tests`, by paths from its folder.
    files: BTreeMap<PathBuf, String>,
}

impl Crate {
    fn forgotten(&self) -> Vec<&Path> {
        let files = self.files.keys().map(PathBuf::as_path);
        files
            .filter(|file| !self.is_program(file) && !self.is_module(file))
            .collect()
    }

    fn is_program(&self, file: &Path) -> bool {
        // Cargo's own: `tests/x.rs` and `tests/x/main.rs`.
        let folder = file.parent();
        let is_at_top = folder == Some(Path::new("tests"));
        let is_main =
            file.ends_with("main.rs") && folder.and_then(Path::parent) == Some(Path::new("tests"));
        let by_cargo = !self.manifest.contains("autotests = false");
        let named = format!("path = \"{}\"", file.display());
        by_cargo && (is_at_top || is_main) || self.manifest.contains(&named)
    }

    fn is_module(&self, file: &Path) -> bool {
        let (Some(folder), Some(name)) = (file.parent(), file.file_stem()) else {
            return false;
        };
        let line = format!("mod {};", name.display());
        let owners = [folder.join("main.rs"), folder.with_extension("rs")];
        let is_child = owners.iter().filter(|owner| *owner != file).any(|owner| {
            let lines = self
                .files
                .get(owner)
                .into_iter()
                .flat_map(|text| text.lines());
            lines
                .map(str::trim)
                .any(|one| one.trim_start_matches("pub ") == line)
        });
        is_child
            || self
                .files
                .iter()
                .any(|(owner, text)| leads_to(owner, text, file))
    }
}

/// By an attribute `path`, which begins where its own file is.
fn leads_to(owner: &Path, text: &str, file: &Path) -> bool {
    let folder = owner.parent().unwrap_or(Path::new(""));
    let mut paths = text.lines().filter_map(|line| {
        let path = line.trim().strip_prefix("#[path = \"")?;
        path.strip_suffix("\"]")
    });
    paths.any(|path| plain(&folder.join(path)) == file)
}

/// Without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// Of all below `folder`.
fn crates(folder: &Path, found: &mut BTreeMap<PathBuf, Crate>) {
    let tests = folder.join("tests");
    let manifest = fs::read_to_string(folder.join("Cargo.toml"));
    // `tests` may be the name of a crate.
    if let Ok(manifest) = manifest
        && !tests.join("Cargo.toml").exists()
    {
        let mut files = BTreeMap::new();
        read(folder, &tests, &mut files);
        found.insert(folder.to_owned(), Crate { manifest, files });
    }
    for (path, name) in entries(folder) {
        let is_ours = !name.starts_with('.') && name != "target";
        if path.is_dir() && is_ours {
            crates(&path, found);
        }
    }
}

fn read(of: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, String>) {
    for (path, name) in entries(folder) {
        if path.is_dir() {
            read(of, &path, files);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            files.insert(path.strip_prefix(of).unwrap().to_owned(), text);
        }
    }
}

fn entries(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (path, name)
        })
        .collect()
}

#[test]
fn no_test_file_is_forgotten() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = BTreeMap::new();
    crates(root, &mut found);
    for known in ["tests", "ebpf/tests", "control", "node/runtime"] {
        let files = found.get(&root.join(known)).map(|one| one.files.len());
        assert!(files > Some(3), "{known}: {files:?}");
    }
    for (folder, one) in &found {
        let forgotten = one.forgotten();
        let folder = folder.display();
        assert!(
            forgotten.is_empty(),
            "{folder}: {forgotten:?} are neither programs nor modules of one, and do not run"
        );
    }
}

#[test]
fn what_is_forgotten() {
    let of = |manifest: &str, files: &[(&str, &str)]| {
        let files = files
            .iter()
            .map(|(path, text)| ((*path).into(), (*text).to_owned()));
        let one = Crate {
            manifest: manifest.to_owned(),
            files: files.collect(),
        };
        let forgotten = one.forgotten();
        let names: Vec<_> = forgotten
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        names.join(" ")
    };
    for (manifest, files, want) in [
        ("", &[("tests/a.rs", ""), ("tests/b/main.rs", "")][..], ""),
        (
            "",
            &[("tests/b/main.rs", "mod c;"), ("tests/b/c.rs", "")],
            "",
        ),
        (
            "",
            &[("tests/b/main.rs", "mod other;"), ("tests/b/c.rs", "")],
            "tests/b/c.rs",
        ),
        (
            "",
            &[
                ("tests/a.rs", "pub mod c;"),
                ("tests/a/c.rs", "mod d;"),
                ("tests/a/c/d.rs", ""),
            ],
            "",
        ),
        (
            "",
            &[("tests/a.rs", "// mod c;"), ("tests/a/c.rs", "")],
            "tests/a/c.rs",
        ),
        (
            "",
            &[
                ("tests/a.rs", "#[path = \"a/c.rs\"]\nmod c;"),
                ("tests/a/c.rs", ""),
            ],
            "",
        ),
        (
            "",
            &[
                ("tests/a/main.rs", "#[path = \"../b/c.rs\"]\nmod c;"),
                ("tests/b/c.rs", ""),
            ],
            "",
        ),
        ("autotests = false", &[("tests/a.rs", "")], "tests/a.rs"),
        (
            "autotests = false",
            &[("tests/a/main.rs", "")],
            "tests/a/main.rs",
        ),
        (
            "autotests = false\npath = \"tests/main.rs\"",
            &[
                ("tests/main.rs", "mod a;"),
                ("tests/a.rs", ""),
                ("tests/b.rs", ""),
            ],
            "tests/b.rs",
        ),
    ] {
        assert_eq!(of(manifest, files), want, "{files:?}");
    }
}
