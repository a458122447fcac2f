//! Events of what goes on for longer, once each time it begins.

use super::Worker;
use crate::pods::plan::{BackingOff, Plan};
use crate::pods::text::{go_quote, pod_text};
use crate::pods::{image, spec};

impl Worker {
    pub(super) fn tell(&mut self, plan: &Plan) {
        for backing_off in &plan.backing_off {
            let key = (backing_off.waiting.reason.clone(), backing_off.until);
            if self.told.get(&backing_off.container) != Some(&key) {
                self.told.insert(backing_off.container.clone(), key);
                self.tell_back_off(backing_off);
            }
        }
        if plan.network_missing && !self.told_network {
            let message = "network is not ready: container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:the node has no pod CIDR yet";
            let teller = self.context.recorder.pod(&self.pod);
            teller.warning("NetworkNotReady", message);
        }
        self.told_network = plan.network_missing;
    }

    fn tell_back_off(&self, backing_off: &BackingOff) {
        let name = &backing_off.container;
        let reason = &backing_off.waiting.reason;
        let teller = self.context.recorder.container(&self.pod, name);
        if reason == "CrashLoopBackOff" {
            let pod = pod_text(&self.pod);
            let message = format!("Back-off restarting failed container {name} in pod {pod}");
            return teller.warning("BackOff", message);
        }
        let container = spec::any_container(&self.pod, name);
        let mut images = container.iter().flat_map(|container| {
            image::needed(&self.pod, container).map(|needed| needed.reference)
        });
        let failed = images.find(|image| self.pull_errors.contains_key(*image));
        if let Some(image) = failed {
            let message = format!("Back-off pulling image {}", go_quote(image));
            teller.normal("BackOff", message);
        }
        teller.warning("Failed", format!("Error: {reason}"));
    }
}
