//! Keeps the cgroups above pods at what their pods ask for together: on every
//! pod that comes, goes or changes its size, and once a minute whatever happens,
//! as the kubelet does.

use std::sync::Arc;
use std::time::Duration;

use vetch_runtime::QosClass;

use super::context::Context;
use super::resources;
use super::text::chain;

const AGAIN: Duration = Duration::from_secs(60);

pub async fn keep(context: Arc<Context>) {
    let mut load = context.load();
    let mut told = None;
    loop {
        let failure = write(&context).await.err();
        // Once for as long as it is the same.
        if let Some(words) = failure.as_ref().filter(|_| failure != told) {
            tracing::warn!("cgroups of the QoS classes: {words}");
        }
        told = failure;
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            // Its sender is in the context, which is here.
            _ = load.changed() => {}
        }
    }
}

async fn write(context: &Context) -> Result<(), String> {
    let wanted = resources::classes(
        &context.config.capacity,
        &context.requests_of(QosClass::Guaranteed),
        &context.requests_of(QosClass::Burstable),
        context.config.memory_qos.as_ref(),
    );
    for (qos, resources) in wanted {
        let written = context.runtime.update_class(qos, resources).await;
        written.map_err(|error| chain(&error))?;
    }
    Ok(())
}
