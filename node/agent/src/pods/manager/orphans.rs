//! What pods left on the node that the API server has no more: deleted while
//! no daemon was here. Looked for once, after the first whole list.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use vetch_runtime::{Owner, SandboxStatus};

use crate::pods::context::Context;
use crate::pods::termination::MIN_GRACE;
use crate::pods::text::chain;
use crate::pods::volumes;
use crate::pods::worker::{remove_log_directory, remove_orphan};

/// Before one that would not go is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// `pods` are the uids that are not orphans.
pub async fn end(context: &Arc<Context>, pods: &BTreeSet<String>, tasks: &mut JoinSet<()>) {
    let mut with_sandbox = BTreeSet::new();
    for sandbox in context.runtime.list().await {
        let uid = &sandbox.spec.pod_uid;
        with_sandbox.insert(uid.clone());
        if !pods.contains(uid) && sandbox.spec.owner == Owner::Node {
            tracing::info!(
                sandbox = %sandbox.id,
                pod = sandbox.spec.name,
                namespace = sandbox.spec.namespace,
                "ending a pod that was deleted while no daemon was here"
            );
            tasks.spawn(end_sandbox(context.clone(), sandbox));
        }
    }
    let known = |uid: &str| pods.contains(uid) || with_sandbox.contains(uid);
    for uid in names(&context.config.pod_dir) {
        if !known(&uid) {
            remove_dir(context, &uid);
        }
    }
    for name in names(&context.config.pod_log_dir) {
        if uid_of_logs(&name).is_some_and(|uid| !known(uid)) {
            tell(remove_log_directory(
                &context.config.pod_log_dir.join(&name),
            ));
        }
    }
}

/// Its stop signals are heard, then it goes with all it had.
async fn end_sandbox(context: Arc<Context>, sandbox: SandboxStatus) {
    let stops = sandbox
        .containers
        .iter()
        .map(|container| context.runtime.stop_container(&container.id, MIN_GRACE));
    for result in futures::future::join_all(stops).await {
        tell(result.map_err(|error| chain(&error)));
    }
    while let Err(words) = remove_orphan(&context, &sandbox.id).await {
        tracing::warn!(sandbox = %sandbox.id, "{words}");
        tokio::time::sleep(RETRY).await;
    }
    remove_dir(&context, &sandbox.spec.pod_uid);
    tell(remove_log_directory(&sandbox.spec.log_directory));
}

fn remove_dir(context: &Context, uid: &str) {
    let dir = volumes::pod_dir(&context.config.pod_dir, uid);
    tell(volumes::remove(&dir).map_err(|error| chain(&error)));
}

fn tell(result: Result<(), String>) {
    if let Err(words) = result {
        tracing::warn!("cleaning up after a pod that is gone: {words}");
    }
}

/// A directory that is not there has no names.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// `namespace_name_uid`; neither of the three has an underscore.
fn uid_of_logs(name: &str) -> Option<&str> {
    let mut parts = name.split('_');
    let (_namespace, _pod, uid) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_pods_are_looked_at() {
        assert_eq!(uid_of_logs("shop_web_1-2"), Some("1-2"));
        for other in ["", "shop", "shop_web", "a_b_c_d"] {
            assert_eq!(uid_of_logs(other), None, "{other}");
        }
    }
}
