//! Resources of pods and containers that run already, changed where they are.
//!
//! The kernel is written first and the record after it: cut short between the
//! two, the record still says what was, and the same update once more arrives.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Runtime;
use super::container::state_name;
use crate::record::{self, CONTAINER_FILE, SANDBOX_FILE};
use crate::types::*;
use crate::{Error, cgroup};

impl Runtime {
    /// What `resources` does not limit of CPU and memory has no limit afterwards; of
    /// all else what it does not say stays. `annotations` come beside those the container has, or replace them: what
    /// its owner wants to know of the update later. Idempotent.
    pub async fn update_container(
        &self,
        id: &ContainerId,
        resources: Resources,
        annotations: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let (runtime, id) = (self.clone(), id.clone());
        self.carry(async move {
            let (sandbox, _) = runtime.find(&id)?;
            let lock = runtime
                .lock(&sandbox)
                .ok_or_else(|| Error::SandboxNotFound(sandbox.clone()))?;
            let _held = lock.lock().await;
            let of = sandbox.clone();
            let writer = runtime.clone();
            // A limit below what is used takes the kernel its time.
            tokio::task::spawn_blocking(move || {
                writer.write_container(&of, &id, &resources, annotations)
            })
            .await??;
            runtime.changed(&sandbox);
            Ok(())
        })
        .await
    }

    /// Of the pod as a whole, around its containers. Idempotent.
    pub async fn update_sandbox_resources(
        &self,
        id: &SandboxId,
        resources: Resources,
    ) -> Result<(), Error> {
        let (runtime, id) = (self.clone(), id.clone());
        self.carry(async move {
            let lock = runtime
                .lock(&id)
                .ok_or_else(|| Error::SandboxNotFound(id.clone()))?;
            let _held = lock.lock().await;
            let (writer, of) = (runtime.clone(), id.clone());
            tokio::task::spawn_blocking(move || writer.write_sandbox(&of, &resources)).await??;
            runtime.changed(&id);
            Ok(())
        })
        .await
    }

    /// Of all pods of a class together; Guaranteed stands for all pods. Written
    /// where a controller heeds it, idempotent, and forgotten.
    pub async fn update_class(&self, qos: QosClass, resources: Resources) -> Result<(), Error> {
        let runtime = self.clone();
        let write = move || runtime.inner.cgroups.apply_to_class(qos, &resources);
        tokio::task::spawn_blocking(write).await?
    }

    fn write_container(
        &self,
        sandbox: &SandboxId,
        id: &ContainerId,
        resources: &Resources,
        annotations: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let (_, status) = self.find(id)?;
        if !matches!(
            status.state,
            ContainerState::Created | ContainerState::Running
        ) {
            return Err(Error::WrongState {
                id: id.clone(),
                state: state_name(status.state),
                wanted: "created or running",
            });
        }
        let known = self
            .sandboxes()
            .get(sandbox)
            .and_then(|sandbox| sandbox.containers.get(id))
            .map(|container| container.record.clone());
        let mut record = known.ok_or_else(|| Error::ContainerNotFound(id.clone()))?;
        let resources = changed(&record.spec.resources, resources);
        self.inner.cgroups.update(&record.cgroup, &resources)?;
        record.spec.resources = resources;
        record.spec.annotations.extend(annotations);
        let path = self.container_dir(sandbox, id).join(CONTAINER_FILE);
        record::write(&path, &record)?;
        if let Some(sandbox) = self.sandboxes().get_mut(sandbox)
            && let Some(container) = sandbox.containers.get_mut(id)
        {
            container.record = record;
        }
        Ok(())
    }

    fn write_sandbox(&self, id: &SandboxId, resources: &Resources) -> Result<(), Error> {
        let known = self
            .sandboxes()
            .get(id)
            .map(|sandbox| (sandbox.record.clone(), sandbox.supervised));
        let (mut record, supervised) = known.ok_or_else(|| Error::SandboxNotFound(id.clone()))?;
        if !supervised {
            return Err(Error::SandboxNotReady(id.clone()));
        }
        let resources = changed(&record.spec.resources, resources);
        // Only noted of a place that is its client's.
        if record.spec.cgroup_parent.is_none() {
            let cgroup = self.pod_cgroup(&record.spec);
            self.inner.cgroups.update(&cgroup, &resources)?;
        }
        record.spec.resources = resources;
        record::write(&self.dir(id).join(SANDBOX_FILE), &record)?;
        if let Some(sandbox) = self.sandboxes().get_mut(id) {
            sandbox.record = record;
        }
        Ok(())
    }

    /// What a container holds of memory and could not give back at once, in
    /// bytes; `None` where nobody counts.
    pub fn memory_of_container(&self, id: &ContainerId) -> Option<u64> {
        let (sandbox, _) = self.find_container(id)?;
        self.memory_in(|sandboxes| {
            let container = sandboxes.get(&sandbox)?.containers.get(id)?;
            Some(container.record.cgroup.clone())
        })
    }

    /// The same of a whole pod.
    pub fn memory_of_sandbox(&self, id: &SandboxId) -> Option<u64> {
        self.memory_in(|sandboxes| Some(self.pod_cgroup(&sandboxes.get(id)?.record.spec)))
    }

    fn memory_in(
        &self,
        find: impl FnOnce(&BTreeMap<SandboxId, super::Sandbox>) -> Option<PathBuf>,
    ) -> Option<u64> {
        let path = find(&self.sandboxes())?;
        cgroup::working_set(&path)
    }
}

/// What is known and not said anew stays, but for limits of CPU and memory; scores are not
/// updated.
fn changed(known: &Resources, new: &Resources) -> Resources {
    let mut unified = known.unified.clone();
    unified.extend(new.unified.clone());
    let text =
        |new: &Option<String>, known: &Option<String>| new.as_ref().or(known.as_ref()).cloned();
    Resources {
        cpu_weight: new.cpu_weight,
        cpu_max: new.cpu_max,
        memory_max: new.memory_max,
        memory_min: new.memory_min,
        memory_low: new.memory_low,
        memory_high: new.memory_high,
        swap_max: new.swap_max.or(known.swap_max),
        hugetlb_max: new
            .hugetlb_max
            .as_ref()
            .or(known.hugetlb_max.as_ref())
            .cloned(),
        pids_max: new.pids_max.or(known.pids_max),
        oom_score_adj: known.oom_score_adj,
        cpuset_cpus: text(&new.cpuset_cpus, &known.cpuset_cpus),
        cpuset_mems: text(&new.cpuset_mems, &known.cpuset_mems),
        unified,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(file, value): &(&str, &str)| ((*file).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn an_update_leaves_the_rest() {
        let known = Resources {
            cpu_weight: Some(1),
            cpu_max: Some((1000, 100_000)),
            memory_max: Some(1),
            memory_min: Some(1),
            memory_low: None,
            memory_high: Some(1),
            swap_max: Some(0),
            hugetlb_max: Some([(2 << 20, 0)].into()),
            pids_max: Some(7),
            oom_score_adj: Some(-5),
            cpuset_cpus: Some("0".into()),
            cpuset_mems: Some("0".into()),
            unified: files(&[("memory.low", "1"), ("memory.high", "9")]),
        };
        let new = Resources {
            cpu_weight: Some(2),
            memory_max: Some(2),
            swap_max: Some(5),
            oom_score_adj: Some(9),
            cpuset_cpus: Some("1".into()),
            unified: files(&[("memory.high", "8")]),
            ..Resources::default()
        };
        let want = Resources {
            cpu_weight: Some(2),
            cpu_max: None,
            memory_max: Some(2),
            memory_min: None,
            memory_high: None,
            swap_max: Some(5),
            cpuset_cpus: Some("1".into()),
            unified: files(&[("memory.low", "1"), ("memory.high", "8")]),
            ..known.clone()
        };
        assert_eq!(changed(&known, &new), want);
    }
}
