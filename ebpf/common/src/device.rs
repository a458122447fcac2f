//! Which devices a container that is not privileged may use.

/// What a process asks for, as the kernel puts it to a program of type
/// `BPF_PROG_TYPE_CGROUP_DEVICE` (`struct bpf_cgroup_dev_ctx`, 4.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRequest {
    /// The kind of device in the lower 16 bits, what to do with it above.
    access_type: u32,
    major: u32,
    minor: u32,
}

const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;

const MAKE: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;

impl DeviceRequest {
    #[inline(always)]
    pub const fn new(access_type: u32, major: u32, minor: u32) -> Self {
        Self {
            access_type,
            major,
            minor,
        }
    }

    /// By runc's list, to which containerd and the kubelet add nothing of their
    /// own: a node may be made of any device, those of no harm may be used.
    #[inline(always)]
    pub const fn allowed(self) -> bool {
        let granted = match self.access_type & 0xffff {
            CHARACTER if harmless(self.major, self.minor) => MAKE | READ | WRITE,
            CHARACTER | BLOCK => MAKE,
            _ => 0,
        };
        // Nothing at all is asked for when a path is only looked at.
        (self.access_type >> 16) & !granted == 0
    }
}

#[inline(always)]
const fn harmless(major: u32, minor: u32) -> bool {
    match major {
        // null, zero, full, random, urandom.
        1 => matches!(minor, 3 | 5 | 7 | 8 | 9),
        // tty, console, ptmx.
        5 => matches!(minor, 0..=2),
        // tun: runc 1.2.0 took it off its list and 1.2.4 put it back, because
        // VPNs in pods make the node themselves and Kubernetes has no field to
        // ask for it. What it gives still needs CAP_NET_ADMIN.
        // https://github.com/opencontainers/runc/pull/4555
        10 => minor == 200,
        // pts.
        136 => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_no_harm_are_used_and_any_is_made() {
        let (b, c) = (BLOCK, CHARACTER);
        let all = MAKE | READ | WRITE;
        let table = [
            ("null", c, 1, 3, all),
            ("zero", c, 1, 5, all),
            ("full", c, 1, 7, all),
            ("random", c, 1, 8, all),
            ("urandom", c, 1, 9, all),
            ("tty", c, 5, 0, all),
            ("console", c, 5, 1, all),
            ("ptmx", c, 5, 2, all),
            ("net/tun", c, 10, 200, all),
            ("pts/0", c, 136, 0, all),
            ("pts/1048575", c, 136, 1_048_575, all),
            ("mem", c, 1, 1, MAKE),
            ("kmem", c, 1, 2, MAKE),
            ("port", c, 1, 4, MAKE),
            ("kmsg", c, 1, 11, MAKE),
            ("tty0", c, 4, 0, MAKE),
            ("ttyprintk", c, 5, 3, MAKE),
            ("fuse", c, 10, 229, MAKE),
            ("kvm", c, 10, 232, MAKE),
            ("loop-control", c, 10, 237, MAKE),
            ("next to pts", c, 137, 0, MAKE),
            ("zero's numbers as a disk", b, 1, 5, MAKE),
            ("pts' numbers as a disk", b, 136, 0, MAKE),
            ("loop0", b, 7, 0, MAKE),
            ("sda", b, 8, 0, MAKE),
            ("vda", b, 254, 0, MAKE),
            ("nothing the kernel has", 3, 1, 3, 0),
        ];
        for (name, kind, major, minor, granted) in table {
            for access in 0..=all {
                let request = DeviceRequest::new(access << 16 | kind, major, minor);
                assert_eq!(
                    request.allowed(),
                    access & granted == access,
                    "{name}: {access:03b}"
                );
            }
        }
    }
}
