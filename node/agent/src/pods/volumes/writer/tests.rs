use super::super::payload::Entry;
use super::*;

fn payload(files: &[(&str, &str, u32)]) -> Payload {
    files
        .iter()
        .map(|(path, data, mode)| {
            let entry = Entry {
                data: data.as_bytes().to_vec(),
                mode: *mode,
                owner: None,
            };
            (PathBuf::from(path), entry)
        })
        .collect()
}

/// Sorted names in the volume.
fn names(volume: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(volume)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn put(volume: &Path, stamp: &str, files: &[(&str, &str, u32)]) -> bool {
    write(volume, &payload(files), stamp, |_| Ok(())).unwrap()
}

#[test]
fn files_are_replaced_as_one() {
    let volume = tempfile::tempdir().unwrap();
    let volume = volume.path();
    assert!(put(
        volume,
        "1",
        &[("a", "one", 0o644), ("d/e", "deep", 0o400)]
    ));
    assert_eq!(names(volume), ["..1", "..data", "a", "d"]);
    assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "one");
    assert_eq!(fs::read_to_string(volume.join("d/e")).unwrap(), "deep");
    let mode = |path: &str| fs::metadata(volume.join(path)).unwrap().mode() & 0o777;
    assert_eq!((mode("a"), mode("d/e"), mode("..1")), (0o644, 0o400, 0o755));

    // A reader inside the old set keeps it whole.
    let held = fs::File::open(volume.join("..data/a")).unwrap();
    assert!(put(
        volume,
        "2",
        &[("a", "two", 0o644), ("b", "new", 0o644)]
    ));
    assert_eq!(names(volume), ["..2", "..data", "a", "b"]);
    assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "two");
    assert_eq!(io::read_to_string(held).unwrap(), "one");
    assert_eq!(
        fs::read_link(volume.join("b")).unwrap(),
        Path::new("..data/b")
    );
}

#[test]
fn the_same_content_is_left_alone() {
    let volume = tempfile::tempdir().unwrap();
    let volume = volume.path();
    let files = [("a", "one", 0o644)];
    assert!(put(volume, "1", &files));
    assert!(!put(volume, "2", &files));
    // A link somebody removed comes back.
    fs::remove_file(volume.join("a")).unwrap();
    assert!(!put(volume, "3", &files));
    assert_eq!(names(volume), ["..1", "..data", "a"]);
    // The mode is content as well.
    assert!(put(volume, "4", &[("a", "one", 0o755)]));
    assert!(put(volume, "5", &[]));
    assert_eq!(names(volume), ["..5", "..data"]);
}

#[test]
fn what_an_earlier_daemon_left_half_done_is_in_nobodys_way() {
    let volume = tempfile::tempdir().unwrap();
    let volume = volume.path();
    assert!(put(volume, "1", &[("a", "one", 0o644)]));
    fs::create_dir(volume.join("..half")).unwrap();
    symlink("..half", volume.join("..data_tmp")).unwrap();
    assert!(put(volume, "2", &[("a", "two", 0o644)]));
    assert_eq!(names(volume), ["..2", "..data", "a"]);
}

#[test]
fn a_failing_finish_changes_nothing_visible() {
    let volume = tempfile::tempdir().unwrap();
    let volume = volume.path();
    assert!(put(volume, "1", &[("a", "one", 0o644)]));
    let refused = write(volume, &payload(&[("a", "two", 0o644)]), "2", |dir| {
        Err(VolumeError::Path(dir.display().to_string()))
    });
    assert!(refused.is_err());
    assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "one");
}
