//! What holds for any layer: run by `node/fuzz`, and by a short random test in the suite. Both as
//! root, on a file system with extended attributes.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use tar::{Builder, EntryType, Header};

use super::unpack;

const KINDS: [EntryType; 9] = [
    EntryType::Regular,
    EntryType::Directory,
    EntryType::Symlink,
    EntryType::Link,
    EntryType::Char,
    EntryType::Fifo,
    EntryType::XHeader,
    EntryType::GNULongName,
    EntryType::GNUSparse,
];
/// Few, so that entries meet.
const NAMES: [&str; 14] = [
    "a",
    "a/b",
    "a/b/c",
    "b",
    "..",
    "../outside",
    "../outside/there",
    "/",
    ".",
    "a/.wh.b",
    "a/.wh..wh..opq",
    ".wh...",
    "b/../a",
    "outside/there",
];

/// Nothing outside of a layer's directory is touched by unpacking the bytes, nor by unpacking the
/// archive that they spell: three bytes an entry.
pub fn fuzz_unpack(data: &[u8]) {
    let place = std::env::temp_dir().join(format!("vetch-fuzz-{}", uuid::Uuid::new_v4().simple()));
    let (layer, outside) = (place.join("layer"), place.join("outside"));
    fs::create_dir_all(&outside).expect("a temporary directory");
    let there = outside.join("there");
    fs::write(&there, "untouched").expect("a file in it");
    for tar in [data.to_vec(), spelled(data)] {
        fs::create_dir(&layer).expect("a directory for the layer");
        // Refused or done within: either is safe.
        let _ = unpack(&tar[..], &layer);
        let kept = fs::metadata(&there).expect("what was there");
        assert_eq!((kept.nlink(), kept.uid(), kept.size()), (1, 0, 9));
        let left = fs::read_dir(&outside).expect("the directory").count();
        assert_eq!(left, 1, "something was made outside");
        let around = fs::read_dir(&place).expect("the directory").count();
        assert_eq!(around, 2, "something was made beside");
        fs::remove_dir_all(&layer).expect("to remove a layer");
    }
    fs::remove_dir_all(&place).expect("to remove the directory");
}

fn spelled(data: &[u8]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    let of = |list: &[&'static str], byte: u8| list[usize::from(byte) % list.len()];
    for entry in data.as_chunks::<3>().0.iter().take(64) {
        let [kind, name, target] = *entry;
        let mut header = Header::new_gnu();
        header.set_entry_type(KINDS[usize::from(kind) % KINDS.len()]);
        header.set_mode(0o755);
        header.set_size(u64::from(target % 64));
        let bytes = header.as_old_mut();
        for (field, text) in [
            (&mut bytes.name, of(&NAMES, name)),
            (&mut bytes.linkname, of(&NAMES, target)),
        ] {
            field[..text.len()].copy_from_slice(text.as_bytes());
        }
        if kind % 2 == 0 {
            // Those of /dev/null; others have none.
            header.set_device_major(1).expect("a small number");
            header.set_device_minor(3).expect("a small number");
        }
        header.set_cksum();
        let content = vec![b'x'; usize::from(target % 64)];
        // Writing to a Vec does not fail.
        let _ = tar.append(&header, &content[..]);
    }
    tar.into_inner().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::Rng as _;
    use vetch_shim::testing::with_seeds;

    use super::*;

    #[test]
    fn any_layer_stays_within() {
        with_seeds(Duration::from_secs(1), |random| {
            let length = random.random_range(0..120);
            let data: Vec<u8> = (0..length).map(|_| random.random()).collect();
            fuzz_unpack(&data);
        });
    }
}
