//! Which kernel modules an initramfs needs, and in which order they are loaded.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// Paths below the kernel's module directory, each after what it needs.
///
/// `dependencies` and `builtin` are the texts of `modules.dep` and `modules.builtin`: modules.dep(5).
/// What is built into the kernel needs no loading.
pub fn in_order(dependencies: &str, builtin: &str, wanted: &[&str]) -> Result<Vec<String>> {
    let table: BTreeMap<&str, Vec<&str>> = dependencies
        .lines()
        .filter_map(|line| {
            let (module, needs) = line.split_once(':')?;
            Some((module, needs.split_whitespace().collect()))
        })
        .collect();
    let mut order = Vec::new();
    for name in wanted {
        let found = table.keys().find(|path| name_of(path) == *name);
        match found {
            Some(path) => add(&table, path, &mut order),
            None if builtin.lines().any(|path| name_of(path) == *name) => {}
            None => bail!("the kernel has no module {name}"),
        }
    }
    Ok(order)
}

fn add(table: &BTreeMap<&str, Vec<&str>>, path: &str, order: &mut Vec<String>) {
    // depmod lists all a module needs, the deepest last.
    let needs = table.get(path).into_iter().flatten().rev().copied();
    for module in needs.chain([path]) {
        if !order.iter().any(|loaded| loaded == module) {
            order.push(module.to_owned());
        }
    }
}

/// `virtio_blk` for `kernel/drivers/block/virtio_blk.ko.xz`; the kernel takes - for _.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/block/virtio_blk.ko: kernel/virtio/virtio_ring.ko kernel/virtio/virtio.ko\n\
        kernel/virtio/virtio_ring.ko: kernel/virtio/virtio.ko\n\
        kernel/virtio/virtio.ko:\n\
        kernel/net/virtio-net.ko.xz: kernel/virtio/virtio_ring.ko kernel/virtio/virtio.ko\n";

    #[test]
    fn a_module_comes_after_what_it_needs_and_once() {
        let order = in_order(DEP, "", &["virtio_blk", "virtio_net"]).unwrap();
        let names: Vec<String> = order.iter().map(|path| name_of(path)).collect();
        assert_eq!(names, ["virtio", "virtio_ring", "virtio_blk", "virtio_net"]);
    }

    #[test]
    fn what_is_built_in_is_not_loaded_and_what_is_nowhere_is_an_error() {
        let builtin = "kernel/fs/ext4/ext4.ko\n";
        assert!(in_order(DEP, builtin, &["ext4"]).unwrap().is_empty());
        let error = in_order(DEP, builtin, &["xfs"]).unwrap_err().to_string();
        assert!(error.contains("xfs"), "{error}");
    }
}
