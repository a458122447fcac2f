//! From what the runtime knows of a container to CRI's messages.

use std::collections::HashMap;

use serde_json::json;
use vetch_cri_proto::v1::{
    Container, ContainerMetadata, ContainerResources, ContainerState as CriState, ContainerStatus,
    ContainerUser, ImageSpec, LinuxContainerUser, Mount as CriMount, MountPropagation,
};
use vetch_runtime::{
    ContainerSpec, ContainerState, ContainerStatus as Observed, ImageStatus, Mount, Propagation,
    SandboxId, SandboxSpec,
};

use super::{Known, report_signal};
use crate::files::Files;
use crate::filter::to_map;
use crate::{nanos, resources};

pub fn state(container: &Observed) -> i32 {
    match container.state {
        ContainerState::Created => CriState::ContainerCreated,
        ContainerState::Running => CriState::ContainerRunning,
        ContainerState::Exited => CriState::ContainerExited,
        ContainerState::Unknown => CriState::ContainerUnknown,
    }
    .into()
}

pub fn metadata(spec: &ContainerSpec) -> ContainerMetadata {
    ContainerMetadata {
        name: spec.name.clone(),
        attempt: spec.attempt,
    }
}

pub fn labels(spec: &ContainerSpec) -> HashMap<String, String> {
    to_map(&spec.labels)
}

fn image(spec: &ContainerSpec) -> ImageSpec {
    ImageSpec {
        image: spec.image_id.clone(),
        user_specified_image: spec.image.clone(),
        ..ImageSpec::default()
    }
}

pub fn listed(sandbox: &SandboxId, spec: &ContainerSpec, container: &Observed) -> Container {
    Container {
        id: container.id.0.clone(),
        pod_sandbox_id: sandbox.0.clone(),
        metadata: Some(metadata(spec)),
        image: Some(image(spec)),
        image_ref: spec.image_id.clone(),
        state: state(container),
        created_at: nanos(container.created_at),
        labels: labels(spec),
        annotations: to_map(&spec.annotations),
        image_id: spec.image_id.clone(),
    }
}

/// What a kubelet shows as a container's image and imageID, in this order: a name, and the digest in its
/// repository; the id where the image has neither, or is gone.
fn names(spec: &ContainerSpec, image: Option<&ImageStatus>) -> (String, String) {
    let (tags, digests) = image.map_or((&[][..], &[][..]), |image| {
        (image.repo_tags.as_slice(), image.repo_digests.as_slice())
    });
    let asked = Some(&spec.image).filter(|name| !name.is_empty() && !is_id(name));
    let name = asked.or(tags.first()).or(digests.first());
    let same =
        |digest: &&String| name.is_some_and(|name| is_of(repository(digest), repository(name)));
    let digest = digests.iter().find(same).or(digests.first());
    let or_id = |found: Option<&String>| found.unwrap_or(&spec.image_id).clone();
    (or_id(name), or_id(digest))
}

fn repository(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// People leave the registry out.
fn is_of(whole: &str, said: &str) -> bool {
    let rest = whole.strip_suffix(said);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

/// Kubelets ask by the id that a pull or an image's status gave them.
fn is_id(name: &str) -> bool {
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// Times of what has not happened are 0. `image` is its image, as long as that is there.
pub fn whole(
    known: &Known,
    sandbox: &SandboxSpec,
    files: &Files,
    image: Option<&ImageStatus>,
) -> ContainerStatus {
    let (spec, container) = (&known.spec, &known.status);
    let (name, digest) = names(spec, image);
    ContainerStatus {
        id: container.id.0.clone(),
        metadata: Some(metadata(spec)),
        state: state(container),
        created_at: nanos(container.created_at),
        started_at: container.started_at.map_or(0, nanos),
        finished_at: container.finished_at.map_or(0, nanos),
        exit_code: container.exit_code.unwrap_or(0),
        image: Some(ImageSpec {
            image: name,
            user_specified_image: spec.image.clone(),
            ..ImageSpec::default()
        }),
        image_ref: digest,
        reason: container.reason.clone().unwrap_or_default(),
        message: container.message.clone().unwrap_or_default(),
        labels: labels(spec),
        annotations: to_map(&spec.annotations),
        mounts: spec
            .mounts
            .iter()
            .filter(|mount| !files.has(mount))
            .map(mount)
            .collect(),
        log_path: sandbox
            .log_directory
            .join(&spec.log_path)
            .display()
            .to_string(),
        resources: Some(ContainerResources {
            linux: Some(resources::report(&spec.resources)),
        }),
        image_id: spec.image_id.clone(),
        user: container.user.as_ref().map(|user| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: user.uid.into(),
                gid: user.gid.into(),
                supplemental_groups: user.groups.iter().map(|group| (*group).into()).collect(),
            }),
        }),
        stop_signal: report_signal(known.stop_signal).into(),
    }
}

fn mount(mount: &Mount) -> CriMount {
    let propagation = match mount.propagation {
        Propagation::Private => MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => MountPropagation::PropagationBidirectional,
    };
    CriMount {
        container_path: mount.container_path.display().to_string(),
        host_path: mount
            .host_path()
            .map_or_else(String::new, |path| path.display().to_string()),
        image: mount.image().map(|image| ImageSpec {
            image: image.id.clone(),
            image_ref: image.id.clone(),
            ..ImageSpec::default()
        }),
        image_sub_path: mount
            .image()
            .and_then(|image| image.sub_path.as_ref())
            .map_or_else(String::new, |path| path.display().to_string()),
        readonly: mount.readonly,
        recursive_read_only: mount.recursive_readonly,
        propagation: propagation.into(),
        ..CriMount::default()
    }
}

/// For people: `crictl inspect`.
pub fn info(
    sandbox: &SandboxId,
    spec: &ContainerSpec,
    container: &Observed,
) -> HashMap<String, String> {
    let info = json!({
        "sandboxID": sandbox,
        "pid": container.pid,
        "config": spec,
    });
    [("info".to_owned(), info.to_string())].into()
}

#[cfg(test)]
mod tests {
    use vetch_runtime::{ImageMount, MountSource};

    use super::*;
    use crate::container::tests::plain;

    #[test]
    fn a_status_names_the_image_and_its_digest() {
        const ID: &str = "sha256:00000000000000000000000000000000000000000000000000000000000000aa";
        let image = |tags: &[&str], digests: &[&str]| ImageStatus {
            id: ID.into(),
            repo_tags: tags.iter().map(|name| (*name).to_owned()).collect(),
            repo_digests: digests.iter().map(|name| (*name).to_owned()).collect(),
            size_bytes: 0,
            entrypoint: vec![],
            cmd: vec![],
            env: vec![],
            working_dir: String::new(),
            user: String::new(),
            stop_signal: None,
        };
        let both = image(
            &["example.com/a:1", "example.com:5000/b:1"],
            &["example.com/a@sha256:1", "example.com:5000/b@sha256:2"],
        );
        let none = image(&[], &[]);
        for (asked, image, name, digest) in [
            (
                "example.com/a:1",
                Some(&both),
                "example.com/a:1",
                "example.com/a@sha256:1",
            ),
            (
                "example.com:5000/b",
                Some(&both),
                "example.com:5000/b",
                "example.com:5000/b@sha256:2",
            ),
            ("b:1", Some(&both), "b:1", "example.com:5000/b@sha256:2"),
            ("c:1", Some(&both), "c:1", "example.com/a@sha256:1"),
            (ID, Some(&both), "example.com/a:1", "example.com/a@sha256:1"),
            (
                &ID[7..],
                Some(&both),
                "example.com/a:1",
                "example.com/a@sha256:1",
            ),
            ("", Some(&both), "example.com/a:1", "example.com/a@sha256:1"),
            (ID, Some(&none), ID, ID),
            ("example.com/a:1", None, "example.com/a:1", ID),
            ("", None, ID, ID),
        ] {
            let spec = ContainerSpec {
                image: asked.into(),
                image_id: ID.into(),
                ..plain()
            };
            let want = (name.to_owned(), digest.to_owned());
            assert_eq!(names(&spec, image), want, "{asked}");
        }
    }

    #[test]
    fn a_mount_says_what_it_shows() {
        let of = |source| {
            mount(&Mount {
                source,
                container_path: "/c".into(),
                readonly: true,
                recursive_readonly: false,
                propagation: Propagation::Private,
            })
        };
        let host = of(MountSource::Host("/h".into()));
        assert_eq!((host.host_path.as_str(), host.image), ("/h", None));
        let image = of(MountSource::Image(ImageMount {
            id: "sha256:1".into(),
            sub_path: Some("etc".into()),
        }));
        assert_eq!(image.host_path, "");
        assert_eq!(image.image_sub_path, "etc");
        let shown = image.image.unwrap();
        assert_eq!(
            (shown.image.as_str(), shown.image_ref.as_str()),
            ("sha256:1", "sha256:1")
        );
    }
}
