//! Capabilities by the names Kubernetes uses.

use crate::Error;

/// In the kernel's order: the index is the number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// containerd's and Docker's.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The set a container gets, as a mask. A capability that is both added and
/// dropped by name is added, as in containerd.
pub fn mask(add: &[String], drop: &[String], privileged: bool) -> Result<u64, Error> {
    let add_mask = named(add)?;
    let drop_mask = named(drop)?;
    if privileged {
        return Ok(u64::MAX);
    }
    let base = if contains_all(add) {
        u64::MAX
    } else if contains_all(drop) {
        0
    } else {
        default_mask()
    };
    Ok(base & !drop_mask | add_mask)
}

/// The ambient set of a container that has `granted` beside it: `ALL` is all of these.
pub fn ambient(names: &[String], granted: u64) -> Result<u64, Error> {
    let named = named(names)?;
    Ok(if contains_all(names) {
        granted | named
    } else {
        named
    })
}

fn contains_all(names: &[String]) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case("ALL"))
}

fn default_mask() -> u64 {
    DEFAULT
        .iter()
        .filter_map(|name| number(name))
        .fold(0, |mask, n| mask | 1 << n)
}

/// Without `ALL`.
fn named(names: &[String]) -> Result<u64, Error> {
    names
        .iter()
        .filter(|name| !name.eq_ignore_ascii_case("ALL"))
        .try_fold(0, |mask, name| {
            let bit = number(name).ok_or_else(|| Error::UnknownCapability(name.clone()))?;
            Ok(mask | 1 << bit)
        })
}

pub fn number(name: &str) -> Option<usize> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    NAMES.iter().position(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn what_a_container_may() {
        let default = 0xa804_25fb;
        let table: [(&[&str], &[&str], bool, u64); 9] = [
            (&[], &[], false, default),
            (&["NET_ADMIN"], &[], false, default | 1 << 12),
            (&["cap_net_admin"], &[], false, default | 1 << 12),
            (&[], &["ALL"], false, 0),
            (&["NET_BIND_SERVICE"], &["ALL"], false, 1 << 10),
            (&[], &["CHOWN"], false, default & !1),
            (&["ALL"], &["SYS_ADMIN"], false, !(1 << 21)),
            (&["ALL"], &[], false, u64::MAX),
            (&[], &["ALL"], true, u64::MAX),
        ];
        for (add, drop, privileged, want) in table {
            let got = mask(&words(add), &words(drop), privileged).unwrap();
            assert_eq!(
                got, want,
                "add {add:?} drop {drop:?} privileged {privileged}"
            );
        }
        assert!(mask(&words(&["FLY"]), &[], false).is_err());
    }

    #[test]
    fn what_a_user_keeps() {
        let granted = 1 << 10 | 1 << 13;
        let table: [(&[&str], u64); 4] = [
            (&[], 0),
            (&["NET_BIND_SERVICE"], 1 << 10),
            (&["CAP_NET_ADMIN"], 1 << 12),
            (&["all", "CHOWN"], granted | 1),
        ];
        for (names, want) in table {
            assert_eq!(ambient(&words(names), granted).unwrap(), want, "{names:?}");
        }
        assert!(ambient(&words(&["FLY"]), granted).is_err());
    }
}
