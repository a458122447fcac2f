//! Needs root: owners, device nodes and overlayfs's attributes.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::fs::lgetxattr;
use tar::{Builder, Header};

use super::*;

/// An entry: kind, path, mode, and content or target.
type Item<'a> = (EntryType, &'a str, u32, &'a str);

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const SYM: EntryType = EntryType::Symlink;
const LINK: EntryType = EntryType::Link;
const CHAR: EntryType = EntryType::Char;
const FIFO: EntryType = EntryType::Fifo;

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(12);
    header.set_gid(34);
    header.set_mtime(1_000_000_000);
    header.set_size(size as u64);
    header
}

/// Paths go in as they are: the tar crate itself would refuse the bad ones.
fn archive(items: &[Item<'_>]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (kind, path, mode, text) in items {
        let content = if *kind == FILE { text.as_bytes() } else { &[] };
        let mut header = header(*kind, *mode, content.len());
        let ustar = header.as_ustar_mut().unwrap();
        ustar.name[..path.len()].copy_from_slice(path.as_bytes());
        if *kind == LINK || *kind == SYM {
            ustar.linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        if *kind == CHAR {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn unpacked(items: &[Item<'_>]) -> (tempfile::TempDir, io::Result<()>) {
    let dir = tempfile::tempdir().unwrap();
    // A way out must have somewhere to lead to.
    fs::create_dir_all(dir.path().join("outside")).unwrap();
    fs::create_dir(dir.path().join("layer")).unwrap();
    let outcome = unpack(&archive(items)[..], &dir.path().join("layer"));
    (dir, outcome)
}

fn layer(items: &[Item<'_>]) -> tempfile::TempDir {
    let (dir, outcome) = unpacked(items);
    outcome.unwrap();
    dir
}

fn is_whiteout(path: &Path) -> bool {
    let metadata = fs::symlink_metadata(path).unwrap();
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 8];
    lgetxattr(path, "trusted.overlay.opaque", &mut value[..]).is_ok_and(|n| &value[..n] == b"y")
}

#[test]
fn entries_are_what_their_headers_say() {
    let dir = layer(&[
        (DIR, "./", 0o711, ""),
        (DIR, "d/", 0o1750, ""),
        (FILE, "d/setuid", 0o6755, "content"),
        (SYM, "d/sym", 0o777, "/nowhere/at/all"),
        (LINK, "hard", 0, "d/setuid"),
        (CHAR, "null", 0o666, ""),
        (FIFO, "fifo", 0o600, ""),
        (FILE, "/absolute", 0o644, ""),
        (FILE, "not/listed/before", 0o644, ""),
        (FILE, "d/later", 0o644, ""),
    ]);
    let root = dir.path().join("layer");
    for (path, mode) in [
        ("", 0o711),
        ("d", 0o1750),
        ("d/setuid", 0o6755),
        ("null", 0o666),
        ("fifo", 0o600),
        ("absolute", 0o644),
        ("not/listed", 0o755),
    ] {
        let metadata = fs::symlink_metadata(root.join(path)).unwrap();
        assert_eq!(metadata.mode() & 0o7777, mode, "{path}");
        if path != "not/listed" {
            assert_eq!((metadata.uid(), metadata.gid()), (12, 34), "{path}");
            assert_eq!(metadata.mtime(), 1_000_000_000, "{path}");
        }
    }
    assert_eq!(fs::read(root.join("hard")).unwrap(), b"content");
    assert_eq!(
        fs::metadata(root.join("hard")).unwrap().ino(),
        fs::metadata(root.join("d/setuid")).unwrap().ino()
    );
    let link = fs::symlink_metadata(root.join("d/sym")).unwrap();
    assert_eq!((link.uid(), link.mtime()), (12, 1_000_000_000));
    let null = fs::metadata(root.join("null")).unwrap();
    assert_eq!(null.rdev(), makedev(1, 3));
    assert!(
        fs::metadata(root.join("fifo"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
}

#[test]
fn what_a_layer_takes_away() {
    let dir = layer(&[
        (DIR, "etc", 0o755, ""),
        (FILE, "etc/.wh.gone", 0, ""),
        (DIR, "whole", 0o755, ""),
        (FILE, "whole/.wh..wh..opq", 0, ""),
        (FILE, "whole/new", 0o644, ""),
        // Without its directory, and the mark after what is new.
        (FILE, "late/new", 0o644, ""),
        (FILE, "late/.wh..wh..opq", 0, ""),
        // Taken away and made anew, in either order.
        (FILE, ".wh.again", 0, ""),
        (DIR, "again", 0o755, ""),
        (DIR, "before", 0o755, ""),
        (FILE, ".wh.before", 0, ""),
        (FILE, ".wh.file", 0, ""),
        (FILE, "file", 0o644, "new"),
        (FILE, "other", 0o644, "new"),
        (FILE, ".wh.other", 0, ""),
        // aufs's own.
        (FILE, ".wh..wh.aufs", 0, ""),
    ]);
    let root = dir.path().join("layer");
    assert!(is_whiteout(&root.join("etc/gone")));
    assert!(!is_opaque(&root.join("etc")));
    for name in ["whole", "late", "again", "before"] {
        assert!(is_opaque(&root.join(name)), "{name}");
    }
    for name in ["file", "other"] {
        assert_eq!(fs::read(root.join(name)).unwrap(), b"new", "{name}");
    }
    for path in ["whole", "late", "etc", ""] {
        for entry in fs::read_dir(root.join(path)).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(!name.as_bytes().starts_with(b".wh."), "{path}/{name:?}");
        }
    }
}

#[test]
fn the_last_entry_of_a_name_wins() {
    let dir = layer(&[
        (DIR, "a", 0o755, ""),
        (FILE, "a/inner", 0o644, "x"),
        (FILE, "a", 0o644, "a file now"),
        (SYM, "b", 0o777, "a"),
        (DIR, "b", 0o700, ""),
        (FILE, "b/inner", 0o644, "x"),
        (FILE, "c", 0o644, "first"),
        (LINK, "d", 0o644, "c"),
        (FILE, "c", 0o644, "second"),
        (DIR, "e", 0o755, ""),
        (DIR, "e", 0o700, ""),
    ]);
    let root = dir.path().join("layer");
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    assert_eq!(text("a"), "a file now");
    assert_eq!(text("b/inner"), "x");
    // Not written through the link.
    assert_eq!(
        (text("c").as_str(), text("d").as_str()),
        ("second", "first")
    );
    assert_eq!(fs::metadata(root.join("e")).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn nothing_leads_out_of_the_layer() {
    let table: [&[Item<'_>]; 12] = [
        &[(FILE, "../outside/x", 0o644, "x")],
        &[(FILE, "a/../../outside/x", 0o644, "x")],
        &[
            (SYM, "out", 0o777, "../outside"),
            (FILE, "out/x", 0o644, "x"),
        ],
        &[(SYM, "out", 0o777, "../outside"), (DIR, "out/x", 0o755, "")],
        &[
            (SYM, "out", 0o777, "../outside"),
            (FILE, "out/.wh.x", 0, ""),
        ],
        &[
            (SYM, "out", 0o777, "../outside"),
            (FILE, "out/.wh..wh..opq", 0, ""),
        ],
        &[
            (SYM, "out", 0o777, "../outside"),
            (CHAR, "out/x", 0o666, ""),
        ],
        &[
            (SYM, "out", 0o777, "../outside/x"),
            (FILE, "out", 0o644, "x"),
        ],
        &[(LINK, "in", 0o644, "../outside/there")],
        &[
            (SYM, "out", 0o777, "../outside"),
            (LINK, "in", 0o644, "out/there"),
        ],
        &[
            (SYM, "out", 0o777, "../outside/there"),
            (LINK, "in", 0o644, "out"),
            (FILE, "in", 0o600, "x"),
        ],
        &[(FILE, ".wh...", 0, "")],
    ];
    for items in table {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("there"), "untouched").unwrap();
        fs::create_dir(dir.path().join("layer")).unwrap();
        // Refused or done within: either is safe.
        let _ = unpack(&archive(items)[..], &dir.path().join("layer"));
        let left: Vec<_> = fs::read_dir(&outside)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["there"], "{items:?}");
        let there = fs::metadata(outside.join("there")).unwrap();
        assert_eq!(
            (there.nlink(), there.uid(), there.size()),
            (1, 0, 9),
            "{items:?}"
        );
        assert!(!is_opaque(&outside), "{items:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_in_words() {
    for (items, words) in [
        (
            &[(FILE, "a/../b", 0o644, "")][..],
            "path \"a/../b\" leads out of the layer",
        ),
        (&[(LINK, "a", 0o644, "a")], "a: hard link to itself"),
        (
            &[(LINK, "a", 0o644, "missing")],
            "a: No such file or directory (os error 2)",
        ),
        (&[(LINK, "a", 0o644, "/")], "a: hard link to the root"),
        (&[(FILE, ".wh..", 0, "")], ".wh..: whiteout of nothing"),
        (&[(FILE, ".wh...", 0, "")], ".wh...: whiteout of nothing"),
        (&[(FILE, ".wh.", 0, "")], ".wh.: whiteout of nothing"),
        (&[(SYM, "s", 0o777, "")], "s: symlink without a target"),
        (
            &[(SYM, "s", 0o777, "s"), (FILE, "s/x", 0o644, "")],
            "s/x: Too many levels of symbolic links (os error 40)",
        ),
        (
            &[(FILE, "f", 0o644, ""), (FILE, "f/g", 0o644, "")],
            "f/g: Not a directory (os error 20)",
        ),
    ] {
        let (_dir, outcome) = unpacked(items);
        assert_eq!(outcome.unwrap_err().to_string(), words);
    }
}

#[test]
fn extended_attributes_and_long_names() {
    let mut tar = Builder::new(Vec::new());
    // VFS_CAP_REVISION_2, net_bind_service permitted and effective.
    let capability =
        b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    tar.append_pax_extensions([
        ("SCHILY.xattr.security.capability", &capability[..]),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
    ])
    .unwrap();
    let mut file = header(FILE, 0o755, 0);
    tar.append_data(&mut file, "server", &[][..]).unwrap();
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    let mut file = header(FILE, 0o644, 4);
    tar.append_data(&mut file, &long, &b"long"[..]).unwrap();
    tar.append_pax_extensions([("uid", &b"70000"[..]), ("gid", b"80000")])
        .unwrap();
    let mut file = header(FILE, 0o644, 0);
    tar.append_data(&mut file, "owned", &[][..]).unwrap();

    let dir = tempfile::tempdir().unwrap();
    unpack(&tar.into_inner().unwrap()[..], dir.path()).unwrap();
    let server = dir.path().join("server");
    let mut value = [0; 64];
    let length = lgetxattr(&server, "security.capability", &mut value[..]).unwrap();
    assert_eq!(&value[..length], capability);
    for name in ["trusted.overlay.redirect", "trusted.overlay.opaque"] {
        assert!(lgetxattr(&server, name, &mut value[..]).is_err(), "{name}");
    }
    assert_eq!(fs::read(dir.path().join(long)).unwrap(), b"long");
    let owned = fs::metadata(dir.path().join("owned")).unwrap();
    assert_eq!((owned.uid(), owned.gid()), (70_000, 80_000));
}

#[test]
fn fields_that_nobody_filled_are_zero() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(1);
    header.set_path("bare").unwrap();
    header.set_cksum();
    let mut tar = Builder::new(Vec::new());
    tar.append(&header, &b"x"[..]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    unpack(&tar.into_inner().unwrap()[..], dir.path()).unwrap();
    let metadata = fs::metadata(dir.path().join("bare")).unwrap();
    assert_eq!(
        (metadata.uid(), metadata.gid(), metadata.mtime()),
        (0, 0, 0)
    );
}

/// A tar whose entry has `length` bytes of extensions before it, of a kind that is kept in memory.
fn described(kind: EntryType, length: usize) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    let bytes = vec![b'x'; length];
    let mut header = Header::new_gnu();
    header.set_path("././@LongLink").unwrap();
    header.set_entry_type(kind);
    header.set_size(length as u64);
    header.set_cksum();
    tar.append(&header, &bytes[..]).unwrap();
    tar.append(&self::header(FILE, 0o644, 0), &[][..]).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn what_describes_an_entry_is_no_larger_than_memory_bears() {
    for kind in [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
    ] {
        let dir = tempfile::tempdir().unwrap();
        let tar = described(kind, 5 << 20);
        let refused = unpack(&tar[..], dir.path()).unwrap_err().to_string();
        assert_eq!(
            refused, "an entry is described by over 4194304 bytes",
            "{kind:?}"
        );
    }
    // One that the tar crate does not take for a description would be read as an entry's own.
    let mut old = Header::new_old();
    old.set_path("x").unwrap();
    old.set_entry_type(EntryType::XHeader);
    old.set_size(0);
    old.set_cksum();
    let mut tar = Builder::new(Vec::new());
    tar.append(&old, &[][..]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let refused = unpack(&tar.into_inner().unwrap()[..], dir.path()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "x: extensions in a header of an unknown format"
    );
    // What an entry contains is none of it, whatever its kind.
    let mut tar = Builder::new(Vec::new());
    for (kind, name) in [(FILE, "file"), (DIR, "dir"), (FILE, ".wh.gone")] {
        let mut header = header(kind, 0o755, 5 << 20);
        header.set_path(name).unwrap();
        header.set_cksum();
        tar.append(&header, &vec![7; 5 << 20][..]).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    unpack(&tar.into_inner().unwrap()[..], dir.path()).unwrap();
    assert_eq!(
        fs::metadata(dir.path().join("file")).unwrap().len(),
        5 << 20
    );
    assert!(dir.path().join("dir").is_dir() && is_whiteout(&dir.path().join("gone")));
}

#[test]
fn names_that_no_file_system_has_are_refused() {
    let long = "n".repeat(256);
    let deep = "d/".repeat(2100);
    let nul = "a\0b";
    for (name, words) in [
        (&long[..], "File name too long (os error 36)"),
        (&deep, "File name too long (os error 36)"),
        (nul, "Invalid argument (os error 22)"),
    ] {
        let mut tar = Builder::new(Vec::new());
        let record = |value: &str| {
            // The length counts itself.
            let rest = value.len() + " path=\n".len();
            let digits = (rest + 4).to_string().len();
            format!("{} path={value}\n", rest + digits).into_bytes()
        };
        let record = record(name);
        let mut extension = header(EntryType::XHeader, 0o644, record.len());
        extension.set_path("x").unwrap();
        extension.set_cksum();
        tar.append(&extension, &record[..]).unwrap();
        let mut file = header(FILE, 0o644, 0);
        file.set_path("short").unwrap();
        file.set_cksum();
        tar.append(&file, &[][..]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let refused = unpack(&tar.into_inner().unwrap()[..], dir.path()).unwrap_err();
        assert!(refused.to_string().ends_with(words), "{refused}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn the_root_is_the_layers_own() {
    let dir = layer(&[
        (SYM, "root", 0o777, "/"),
        (FILE, "root/inner/x", 0o644, "x"),
        (SYM, "up", 0o777, "../../../.."),
        (FILE, "up/y", 0o644, "y"),
        (LINK, "z", 0o644, "up/root/y"),
        (DIR, "loop", 0o755, ""),
        (DIR, "loop/deep", 0o755, ""),
        (SYM, "loop", 0o777, "loop"),
        (FILE, ".wh..wh..opq", 0, ""),
    ]);
    let root = dir.path().join("layer");
    for (path, text) in [("inner/x", "x"), ("y", "y"), ("z", "y")] {
        assert_eq!(fs::read_to_string(root.join(path)).unwrap(), text, "{path}");
    }
    assert!(is_opaque(&root));
    assert_eq!(fs::read_link(root.join("loop")).unwrap(), Path::new("loop"));
    assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 0);
}
