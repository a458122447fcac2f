//! The images a container needs in the store: looked up or pulled, by their pull policies.

mod credentials;
mod needed;

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use vetch_runtime::{ImageError, ImageStatus, ImageStore};

use super::events::Teller;
use super::text::{go_duration, go_quote};

pub use credentials::registry_auths;
pub use needed::{Needed, needed, of_volumes, own};

/// Why there is no image: the reason a container waits, and the words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFailure {
    /// As the pod names it.
    pub image: String,
    pub reason: &'static str,
    pub message: String,
}

impl ImageFailure {
    /// Whether trying again later may help, by the kubelet's back-off.
    pub fn is_pull(&self) -> bool {
        self.reason == ERR_IMAGE_PULL
    }

    /// Whether the name has to be changed first.
    pub fn is_name(&self) -> bool {
        self.reason == "InvalidImageName"
    }
}

pub const ERR_IMAGE_PULL: &str = "ErrImagePull";

/// Events are recorded on the way, as the kubelet does.
pub async fn ensure(
    store: &ImageStore,
    teller: &Teller<'_>,
    needed: &Needed<'_>,
    secrets: &[std::sync::Arc<Secret>],
) -> Result<ImageStatus, ImageFailure> {
    let image = needed.reference;
    let quoted = go_quote(image);
    let failed = |reason, message| ImageFailure {
        image: image.to_owned(),
        reason,
        message,
    };
    if needed.policy != "Always" {
        if let Some(status) = store.status(image).await {
            let message = format!(
                "Container image {quoted} already present on machine and can be accessed by the pod"
            );
            teller.normal("Pulled", message);
            return Ok(status);
        }
        if needed.policy == "Never" {
            let message =
                format!("Container image {quoted} is not present with pull policy of Never");
            teller.warning("ErrImageNeverPull", message.clone());
            return Err(failed("ErrImageNeverPull", message));
        }
    }
    teller.normal("Pulling", format!("Pulling image {quoted}"));
    let began = Instant::now();
    match pull(store, image, secrets).await {
        Ok(status) => {
            let took = go_duration(whole_millis(began.elapsed()));
            let message = format!(
                "Successfully pulled image {quoted} in {took} ({took} including waiting). Image size: {} bytes.",
                status.size_bytes
            );
            teller.normal("Pulled", message);
            Ok(status)
        }
        Err(ImageError::InvalidReference { reference, message }) => {
            let message = format!(
                "Failed to apply default image tag {quoted}: couldn't parse image name {}: {message}",
                go_quote(&reference)
            );
            teller.warning("InspectFailed", message.clone());
            Err(failed("InvalidImageName", message))
        }
        Err(error) => {
            let message = error.to_string();
            teller.warning(
                "Failed",
                format!("Failed to pull image {quoted}: {message}"),
            );
            Err(failed(ERR_IMAGE_PULL, message))
        }
    }
}

fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// With each of the credentials for its registry, then with none.
async fn pull(
    store: &ImageStore,
    image: &str,
    secrets: &[std::sync::Arc<Secret>],
) -> Result<ImageStatus, ImageError> {
    let mut last = None;
    for auth in registry_auths(secrets, image) {
        match store.pull(image, Some(auth)).await {
            Ok(status) => return Ok(status),
            Err(error @ ImageError::InvalidReference { .. }) => return Err(error),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(error),
        None => store.pull(image, None).await,
    }
}
