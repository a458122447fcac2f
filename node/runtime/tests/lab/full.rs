//! Full disks: below the images, and below the logs. What does not fit is said, what had been there
//! goes on, and nothing that is half done stays.

use std::{fs, io};

use vetch_runtime::*;

use crate::guard::{Disk, Lab, entries, wait_for};
use crate::image::{Image, Layer, digest, header};
use crate::liar::{Liar, honest};
use crate::registry::{gzip, zstd};
use crate::specs::*;

const NO_SPACE: &str = "No space left on device (os error 28)";

/// A layer of one file of zeros: kilobytes when packed.
fn bomb(mebibytes: usize) -> Vec<u8> {
    let layer = Layer::new().file("big", 0o644, &vec![0; mebibytes << 20]);
    Image::new("bomb", serde_json::json!({}), vec![layer])
        .layers
        .remove(0)
}

fn image(layers: Vec<Vec<u8>>) -> Image {
    let named = Image::new("it", serde_json::json!({}), vec![]);
    let mut config: serde_json::Value = serde_json::from_slice(&named.config).unwrap();
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    config["rootfs"]["diff_ids"] = diff_ids.into();
    Image {
        config: config.to_string().into_bytes(),
        layers,
        ..named
    }
}

/// A tar with a file of holes, as GNU tar writes them: 512 bytes that say four gibibytes.
fn holes() -> Vec<u8> {
    let size: u64 = 4 << 30;
    let mut header = header(tar::EntryType::GNUSparse, 0o644, 0);
    header.set_path("holes").unwrap();
    let gnu = header.as_gnu_mut().unwrap();
    // Nothing of it is data: one part of no bytes, at its end.
    for (field, value) in [
        (&mut gnu.sparse[0].offset, size),
        (&mut gnu.sparse[0].numbytes, 0),
        (&mut gnu.realsize, size),
    ] {
        field.copy_from_slice(format!("{value:011o} ").as_bytes());
    }
    gnu.set_is_extended(false);
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&header, io::empty()).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn a_layer_that_does_not_fit_leaves_nothing() {
    let lab = Lab::enter();
    let disk = Disk::mount(&lab.config.root_dir, 16);
    lab.block_on(async {
        let images = ImageStore::open(&lab.config.root_dir).unwrap();
        let dir = lab.config.root_dir.join("images");
        let small = image(vec![bomb(1)]);
        let it = honest(&small, gzip(&small.layers[0]));
        let good = Liar::start(it.answers);
        let kept = images.pull(&good.name("1"), None).await.unwrap();
        let (layers, used) = (entries(&dir.join("layers")), disk.used());
        let big = bomb(64);
        for (what, layer, packed) in [
            ("gzip", big.clone(), gzip(&big)),
            ("zstd", big.clone(), zstd(&big)),
            ("holes", holes(), gzip(&holes())),
        ] {
            assert!(packed.len() < 4 << 20, "{what}: {} bytes", packed.len());
            let it = honest(&image(vec![layer]), packed);
            let liar = Liar::start(it.answers);
            let words = images.pull(&liar.name("1"), None).await.unwrap_err();
            let words = words.to_string();
            assert!(
                words.contains("failed to extract layer sha256:") && words.ends_with(NO_SPACE),
                "{what}: {words}"
            );
            wait_for("the unpacker", || entries(&dir.join("tmp")).is_empty());
            assert_eq!(entries(&dir.join("layers")), layers, "{what}");
            // A mark of a layer that did not come is a page at most.
            assert!(disk.used() <= used + 8192, "{what}: {}", disk.used());
        }
        assert_eq!(images.list().await, [kept]);
        // There is room again.
        let other = image(vec![bomb(2)]);
        let it = honest(&other, zstd(&other.layers[0]));
        let good = Liar::start(it.answers);
        images.pull(&good.name("1"), None).await.unwrap();
    });
}

/// The layer that came before the one that did not goes, too: nobody else knows of it.
#[test]
fn an_import_that_does_not_fit_leaves_nothing() {
    let lab = Lab::enter();
    let _disk = Disk::mount(&lab.config.root_dir, 16);
    lab.block_on(async {
        let images = ImageStore::open(&lab.config.root_dir).unwrap();
        let dir = lab.config.root_dir.join("images");
        let tar = lab.path("big.tar");
        image(vec![bomb(1), bomb(32)]).save(&tar);
        let words = images.import(&tar).await.unwrap_err().to_string();
        assert!(words.ends_with(NO_SPACE), "{words}");
        for place in ["tmp", "layers", "blobs/sha256"] {
            assert_eq!(entries(&dir.join(place)), [""; 0], "{place}");
        }
        assert_eq!(images.list().await, []);
    });
}

/// While one fills the disk that all share, the others run, and the daemon can end it.
#[test]
fn a_container_that_fills_the_disk_hurts_itself_alone() {
    let lab = Lab::enter();
    let disk = Disk::mount(&lab.config.root_dir, 32);
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let pod = runtime
            .create_sandbox(sandbox(&lab.logs, "pod"))
            .await
            .unwrap();
        let other = run(&runtime, &pod.id, sleeper()).await;
        let used = disk.used();
        let (code, said) = outcome(
            &runtime,
            &pod,
            shell("dd if=/dev/zero of=/fill bs=1M count=64; echo $?"),
        )
        .await;
        assert_eq!(code, 0);
        assert!(
            said.contains("No space left on device") && said.lines().any(|line| line == "1"),
            "{said}"
        );
        // An image that comes now is refused, and those that are there stay.
        let more = image(vec![bomb(1)]);
        let it = honest(&more, gzip(&more.layers[0]));
        let liar = Liar::start(it.answers);
        let words = runtime.images().pull(&liar.name("1"), None).await;
        let words = words.unwrap_err().to_string();
        assert!(words.contains(NO_SPACE), "{words}");
        assert_eq!(runtime.images().list().await.len(), 1);
        let echo = ["echo", "here"].map(str::to_owned).into();
        let output = runtime
            .exec(&other, echo, std::time::Duration::from_secs(20))
            .await
            .unwrap();
        assert_eq!(output.stdout, b"here\n");
        // What filled it goes with its container.
        for container in runtime.sandbox(&pod.id).await.unwrap().containers {
            if container.id != other {
                runtime.remove_container(&container.id).await.unwrap();
            }
        }
        assert!(disk.used() <= used + 65536, "{} of {used}", disk.used());
        runtime.images().pull(&liar.name("1"), None).await.unwrap();
        runtime.remove_sandbox(&pod.id).await.unwrap();
        lab.assert_nothing_left();
    });
}

#[test]
fn a_full_disk_below_the_logs_costs_lines_and_no_container() {
    let lab = Lab::enter();
    let _disk = Disk::mount(&lab.logs, 4);
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let pod = runtime
            .create_sandbox(sandbox(&lab.logs, "pod"))
            .await
            .unwrap();
        let id = run(&runtime, &pod.id, shell("seq 1 300000; exit 5")).await;
        let end = exited(&runtime, &id).await;
        assert_eq!(end.exit_code, Some(5));
        let log = lab.logs.join("pod/app/0.log");
        let text = fs::read(&log).unwrap();
        assert_eq!(text.last(), Some(&b'\n'), "the last line is torn");
        let written = lines(&log);
        assert!((1000..300_000).contains(&written.len()));
        let mut before = 0;
        for line in &written {
            let number: u32 = line
                .text
                .parse()
                .unwrap_or_else(|_| panic!("torn: {line:?}"));
            assert!(
                line.tag == "F" && number > before,
                "torn: {line:?} after {before}"
            );
            before = number;
        }
        // With room again, what is said is written again.
        runtime.remove_container(&id).await.unwrap();
        fs::remove_file(&log).unwrap();
        let (code, said) = outcome(&runtime, &pod, shell("echo again")).await;
        assert_eq!((code, said.as_str()), (0, "again"));
        runtime.remove_sandbox(&pod.id).await.unwrap();
        lab.assert_nothing_left();
    });
}
