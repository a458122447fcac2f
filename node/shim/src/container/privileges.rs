//! User, groups and capabilities.

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
    set_capabilities, set_keep_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};
use vetch_shim::protocol::{Bundle, Identity};

use crate::failure::{Context, Failure};
use crate::sys;

/// Leaves the bundle's capabilities in the permitted, effective and bounding
/// sets. A user that is not root loses the first two at exec, but for what the
/// bundle has ambient (4.3): only that is inheritable, and nothing where it says
/// nothing (CVE-2022-29162), as containerd has them.
pub fn drop_to(identity: &Identity, bundle: &Bundle) -> Result<(), Failure> {
    let wanted = bundle.capabilities;
    for capability in 0..64 {
        match sys::bounding_set_has(capability) {
            None => break,
            Some(has) if has && wanted & (1 << capability) == 0 => {
                sys::drop_from_bounding_set(capability)
                    .context(|| "dropping capabilities".into())?;
            }
            Some(_) => {}
        }
    }
    set_keep_capabilities(true).context(|| "keeping capabilities".into())?;
    let groups: Vec<Gid> = identity
        .groups
        .iter()
        .map(|gid| Gid::from_raw(*gid))
        .collect();
    set_thread_groups(&groups).context(|| "supplementary groups".into())?;
    let gid = Gid::from_raw(identity.gid);
    set_thread_res_gid(gid, gid, gid).context(|| format!("group {}", identity.gid))?;
    let uid = Uid::from_raw(identity.uid);
    set_thread_res_uid(uid, uid, uid).context(|| format!("user {}", identity.uid))?;
    let step = || "setting capabilities".to_owned();
    // The node itself may lack some.
    let held = capabilities(None).context(step)?.permitted;
    let granted = (CapabilitySet::from_bits_retain(wanted) | until_exec(bundle)) & held;
    let ambient = CapabilitySet::from_bits_retain(bundle.ambient) & held;
    set_capabilities(
        None,
        CapabilitySets {
            effective: granted,
            permitted: granted,
            inheritable: ambient,
        },
    )
    .context(step)?;
    // Changing the user has cleared them.
    for capability in ambient.iter() {
        configure_capability_in_ambient_set(capability, true)
            .context(|| "raising ambient capabilities".into())?;
    }
    if bundle.no_new_privs {
        set_no_new_privs(true).context(|| "no_new_privs".into())?;
    }
    Ok(())
}

/// What seccomp(2) wants where no_new_privs does not do. A program never has it:
/// exec makes its sets from the bounding and the inheritable one.
fn until_exec(bundle: &Bundle) -> CapabilitySet {
    if bundle.seccomp.is_some() && !bundle.no_new_privs {
        CapabilitySet::SYS_ADMIN
    } else {
        CapabilitySet::empty()
    }
}
