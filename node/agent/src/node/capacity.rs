//! What the node has, and what of it pods may ask for.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::machine::Machine;
use super::pressure::{Eviction, Signal};

pub type ResourceList = BTreeMap<String, Quantity>;

pub fn capacity(machine: &Machine, max_pods: u32) -> ResourceList {
    let mut list = ResourceList::from([
        ("cpu".into(), millis(cpu_millis(machine))),
        ("memory".into(), binary(memory(machine))),
        ("ephemeral-storage".into(), binary(machine.disk_bytes)),
        ("pods".into(), Quantity(max_pods.to_string())),
    ]);
    for (name, bytes) in &machine.hugepages {
        list.insert(name.clone(), binary(*bytes));
    }
    list
}

/// Without what the node keeps, so that pods within it never cross a hard
/// threshold; memory that huge pages have is theirs.
pub fn allocatable(machine: &Machine, max_pods: u32, eviction: &Eviction) -> ResourceList {
    let huge: u64 = machine.hugepages.iter().map(|(_, bytes)| bytes).sum();
    let mut list = capacity(machine, max_pods);
    let memory = memory(machine);
    let memory = memory
        .saturating_sub(eviction.reserve(Signal::MemoryAvailable, memory))
        .saturating_sub(huge);
    list.insert("memory".into(), binary(memory));
    let disk = machine.disk_bytes;
    let disk = disk - eviction.reserve(Signal::NodefsAvailable, disk);
    list.insert("ephemeral-storage".into(), binary(disk));
    list
}

fn cpu_millis(machine: &Machine) -> u64 {
    let all = machine.cpus * 1000;
    machine
        .limits
        .cpu_millis
        .map_or(all, |limit| limit.min(all))
}

/// Bytes of memory that the node's processes may have together.
pub fn memory(machine: &Machine) -> u64 {
    let limit = machine.limits.memory_bytes.unwrap_or(u64::MAX);
    machine.memory_bytes.min(limit)
}

fn millis(value: u64) -> Quantity {
    Quantity(match value % 1000 {
        0 => (value / 1000).to_string(),
        _ => format!("{value}m"),
    })
}

/// The largest suffix that leaves a whole number: the canonical form, in which
/// an API server gives it back.
pub fn binary(bytes: u64) -> Quantity {
    let units = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut value = bytes;
    let mut unit = 0;
    while value != 0 && value.is_multiple_of(1024) && unit + 1 < units.len() {
        value /= 1024;
        unit += 1;
    }
    Quantity(format!("{value}{}", units[unit]))
}

#[cfg(test)]
mod tests {
    use super::super::machine::Limits;
    use super::*;

    fn shown(list: &ResourceList) -> Vec<String> {
        list.iter()
            .map(|(name, quantity)| format!("{name}={}", quantity.0))
            .collect()
    }

    #[test]
    fn tables() {
        let machine = Machine {
            cpus: 4,
            memory_bytes: 8 << 30,
            disk_bytes: 20 << 30,
            hugepages: vec![
                ("hugepages-1Gi".into(), 0),
                ("hugepages-2Mi".into(), 64 << 20),
            ],
            ..Machine::default()
        };
        assert_eq!(
            shown(&capacity(&machine, 110)),
            [
                "cpu=4",
                "ephemeral-storage=20Gi",
                "hugepages-1Gi=0",
                "hugepages-2Mi=64Mi",
                "memory=8Gi",
                "pods=110"
            ]
        );
        assert_eq!(
            shown(&allocatable(&machine, 110, &Eviction::default())),
            [
                "cpu=4",
                "ephemeral-storage=18Gi",
                "hugepages-1Gi=0",
                "hugepages-2Mi=64Mi",
                "memory=8028Mi",
                "pods=110"
            ]
        );

        let limited = Machine {
            limits: Limits {
                memory_bytes: Some(1 << 30),
                cpu_millis: Some(1500),
                pids: None,
            },
            hugepages: vec![],
            ..machine.clone()
        };
        assert_eq!(
            shown(&allocatable(&limited, 250, &Eviction::default())),
            [
                "cpu=1500m",
                "ephemeral-storage=18Gi",
                "memory=924Mi",
                "pods=250"
            ]
        );
        // A limit above what there is limits nothing.
        let loose = Machine {
            limits: Limits {
                memory_bytes: Some(1 << 40),
                cpu_millis: Some(64_000),
                pids: None,
            },
            ..machine.clone()
        };
        assert_eq!(capacity(&loose, 110), capacity(&machine, 110));
        let none = Eviction {
            hard: Vec::new(),
            ..Eviction::default()
        };
        assert_eq!(allocatable(&loose, 110, &none)["memory"].0, "8128Mi");
        assert_eq!(
            allocatable(&loose, 110, &none)["ephemeral-storage"].0,
            "20Gi"
        );
    }
}
