//! `open()` and `mknod()` of a device by a container.

use aya_ebpf::{macros::cgroup_device, programs::DeviceContext};
use vetch_ebpf_common::DeviceRequest;

/// 0 is EPERM. A cgroup without this program reaches every device.
#[cgroup_device]
pub fn devices(ctx: DeviceContext) -> i32 {
    // SAFETY: the verifier lets a device program read the three fields.
    let request = unsafe {
        let device = ctx.device;
        DeviceRequest::new((*device).access_type, (*device).major, (*device).minor)
    };
    i32::from(request.allowed())
}
