//! The profile of containers that name none: as strong as containerd's. It is the second fence behind
//! capabilities, masked paths and the seccomp filter, for root in a container: no mounts, no writes to
//! the kernel's settings, no looks into other programs.

pub const NAME: &str = "vetch-default";

/// Rules as apparmor.d(5) has them; a denial comes before all that is allowed. `abi`: the machine has
/// the file of ABI 3.0, so that a newer kernel does not mediate what the rules say nothing of.
pub fn text(abi: bool) -> String {
    let abi = if abi { "abi <abi/3.0>,\n" } else { "" };
    let mut rules = vec![
        // What capabilities, seccomp and the file system's own modes decide.
        "network,".to_owned(),
        "capability,".to_owned(),
        "file,".to_owned(),
        "umount,".to_owned(),
        "deny mount,".to_owned(),
        // From the supervisor and the node; among themselves.
        "signal (receive) peer=unconfined,".to_owned(),
        format!("signal (send, receive) peer={NAME},"),
        format!("ptrace (trace, read, tracedby, readby) peer={NAME},"),
    ];
    rules.extend(
        DENIED
            .iter()
            .map(|(path, access)| format!("deny {path} {access},")),
    );
    format!(
        "{abi}profile {NAME} flags=(attach_disconnected, mediate_deleted) {{\n  {}\n}}\n",
        rules.join("\n  ")
    )
}

/// Paths in AppArmor's patterns: `*` ends at a slash, `**` does not, `[^k]` is one other character.
const DENIED: [(&str, &str); 14] = [
    // Files of /proc itself; what is below a number, or below sys, comes after.
    ("/proc/*", "w"),
    ("/proc/{[^1-9s],[^1-9s][^0-9]*,s[^y]*,sy[^s]*}/**", "w"),
    // Of /proc/sys only kernel/shm*, which is the pod's own.
    ("/proc/sys/[^k]**", "w"),
    ("/proc/sys/kernel/{?,??,[^s]*,s[^h]*,sh[^m]*}", "w"),
    ("/proc/sys/kernel/*/**", "w"),
    // The kernel's memory and its console.
    ("/proc/sysrq-trigger", "rwklx"),
    ("/proc/{kmem,mem}", "rwklx"),
    ("/proc/kcore", "rwklx"),
    // Of /sys only fs/cgroup, where the container's own cgroup may be given to it.
    ("/sys/[^f]*/**", "wklx"),
    ("/sys/f[^s]*/**", "wklx"),
    ("/sys/fs/{[^c]*,c[^g]*,cg[^r]*}/**", "wklx"),
    ("/sys/firmware/**", "rwklx"),
    ("/sys/devices/virtual/powercap/**", "rwklx"),
    ("/sys/kernel/security/**", "rwklx"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_profile() {
        let text = text(true);
        assert!(
            text.starts_with("abi <abi/3.0>,\nprofile vetch-default flags="),
            "{text}"
        );
        assert_eq!(text.matches(['{', '}']).count() % 2, 0);
        assert_eq!(text.matches('{').count(), text.matches('}').count());
        let rules = text.lines().filter(|line| line.starts_with("  "));
        for rule in rules {
            assert!(rule.ends_with(','), "{rule}");
        }
        assert!(super::text(false).starts_with("profile vetch-default "));
    }
}
