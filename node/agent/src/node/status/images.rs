//! Images as the scheduler reads them.

use k8s_openapi::api::core::v1::ContainerImage;
use vetch_runtime::ImageStatus;

/// The kubelet's nodeStatusMaxImages.
const MAX_IMAGES: usize = 50;
/// Names per image, as the kubelet has it.
const MAX_NAMES: usize = 5;

/// The largest first.
pub fn list(stored: &[ImageStatus]) -> Vec<ContainerImage> {
    let mut images: Vec<&ImageStatus> = stored.iter().collect();
    images.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then(a.id.cmp(&b.id)));
    images.truncate(MAX_IMAGES);
    images
        .into_iter()
        .map(|image| ContainerImage {
            names: Some(
                image
                    .repo_digests
                    .iter()
                    .chain(&image.repo_tags)
                    .take(MAX_NAMES)
                    .cloned()
                    .collect(),
            ),
            size_bytes: i64::try_from(image.size_bytes).ok(),
        })
        .collect()
}
