//! Images: every call of ImageService.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use tonic::{Request, Response, Status};
use vetch_cri_proto::v1::image_service_server::ImageService;
use vetch_cri_proto::v1::{
    AuthConfig, FilesystemIdentifier, FilesystemUsage, Image, ImageFilter, ImageFsInfoRequest,
    ImageFsInfoResponse, ImageSpec, ImageStatusRequest, ImageStatusResponse, Int64Value,
    ListImagesRequest, ListImagesResponse, PullImageRequest, PullImageResponse, RemoveImageRequest,
    RemoveImageResponse, StreamImagesRequest, StreamImagesResponse, UInt64Value,
};
use vetch_runtime::{DiskUsage, ImageError, ImageStatus, RegistryAuth};

use crate::error::unsupported;
use crate::parts::{Parts, parts};
use crate::sandbox::check_handler;
use crate::{Cri, error};

#[tonic::async_trait]
impl ImageService for Cri {
    async fn list_images(
        &self,
        request: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let images = self.images(request.into_inner().filter).await;
        Ok(Response::new(ListImagesResponse { images }))
    }

    type StreamImagesStream = Parts<StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        let all = self.images(request.into_inner().filter).await;
        Ok(parts(all, |images| StreamImagesResponse { images }))
    }

    /// One that is not there is no error.
    async fn image_status(
        &self,
        request: Request<ImageStatusRequest>,
    ) -> Result<Response<ImageStatusResponse>, Status> {
        let request = request.into_inner();
        let name = named(request.image)?;
        let found = self.runtime.images().status(&name).await;
        let info = found.as_ref().filter(|_| request.verbose).map(|status| {
            let info = json!({ "image": status });
            ("info".to_owned(), info.to_string())
        });
        Ok(Response::new(ImageStatusResponse {
            image: found.as_ref().map(image),
            info: info.into_iter().collect(),
        }))
    }

    async fn pull_image(
        &self,
        request: Request<PullImageRequest>,
    ) -> Result<Response<PullImageResponse>, Status> {
        let request = request.into_inner();
        let name = named(request.image)?;
        let auth = request.auth.filter(|auth| is_for(auth, &name));
        let auth = auth.map(auth_of).transpose()?.flatten();
        let pulled = self.runtime.images().pull(&name, auth).await;
        Ok(Response::new(PullImageResponse {
            image_ref: pulled.map_err(error::image)?.id,
        }))
    }

    /// With all its names; one that is not there is removed.
    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Result<Response<RemoveImageResponse>, Status> {
        let name = named(request.into_inner().image)?;
        let images = self.runtime.images();
        if let Some(status) = images.status(&name).await {
            match images.remove(&status.id).await {
                // Somebody else was faster.
                Ok(()) | Err(ImageError::NotFound(_)) => {}
                Err(failed) => return Err(error::image(failed)),
            }
        }
        Ok(Response::new(RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _: Request<ImageFsInfoRequest>,
    ) -> Result<Response<ImageFsInfoResponse>, Status> {
        let (images, containers) = self.runtime.disk_usage().await.map_err(error::status)?;
        let dir = self.runtime.root_dir().display().to_string();
        Ok(Response::new(ImageFsInfoResponse {
            image_filesystems: vec![filesystem(&dir, images)],
            container_filesystems: vec![filesystem(&dir, containers)],
        }))
    }
}

impl Cri {
    async fn images(&self, filter: Option<ImageFilter>) -> Vec<Image> {
        let name = filter.and_then(|filter| filter.image);
        let name = name
            .map(|image| image.image)
            .filter(|name| !name.is_empty());
        let images = self.runtime.images();
        let found = match name {
            Some(name) => images.status(&name).await.into_iter().collect(),
            None => images.list().await,
        };
        found.iter().map(image).collect()
    }
}

/// All handlers have the same images.
fn named(image: Option<ImageSpec>) -> Result<String, Status> {
    let image = image.unwrap_or_default();
    check_handler(&image.runtime_handler)?;
    let name = image.image;
    if name.is_empty() {
        return Err(Status::invalid_argument("image.image is empty"));
    }
    Ok(name)
}

pub fn filesystem(mountpoint: &str, usage: DiskUsage) -> FilesystemUsage {
    let number = |value| Some(UInt64Value { value });
    FilesystemUsage {
        timestamp: crate::now(),
        fs_id: Some(FilesystemIdentifier {
            mountpoint: mountpoint.to_owned(),
        }),
        used_bytes: number(usage.bytes),
        inodes_used: number(usage.inodes),
    }
}

fn image(status: &ImageStatus) -> Image {
    let (uid, username) = user(&status.user);
    Image {
        id: status.id.clone(),
        repo_tags: status.repo_tags.clone(),
        repo_digests: status.repo_digests.clone(),
        size: status.size_bytes,
        uid: uid.map(|value| Int64Value { value }),
        username,
        spec: None,
        pinned: false,
    }
}

/// A number is a uid, anything else a name; a group is not reported.
fn user(text: &str) -> (Option<i64>, String) {
    let user = text.split(':').next().unwrap_or_default();
    match user.parse() {
        Ok(uid) => (Some(uid), String::new()),
        Err(_) => (None, user.to_owned()),
    }
}

/// Who one is to one registry is nothing to another.
fn is_for(auth: &AuthConfig, image: &str) -> bool {
    if auth.server_address.is_empty() {
        return true;
    }
    let address = auth.server_address.as_str();
    let address = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = address.split('/').next().unwrap_or_default();
    hub(host) == hub(registry(image))
}

/// Of an image's name, by the rule of distribution's references.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// Docker's has several names.
fn hub(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

/// None for one that says nothing.
fn auth_of(given: AuthConfig) -> Result<Option<RegistryAuth>, Status> {
    if !given.identity_token.is_empty() || !given.registry_token.is_empty() {
        return Err(unsupported("identity_token and registry_token are"));
    }
    if !given.username.is_empty() {
        return Ok(Some(RegistryAuth {
            username: given.username,
            password: given.password,
        }));
    }
    if given.auth.is_empty() {
        return Ok(None);
    }
    let invalid = || Status::invalid_argument("auth: `auth` must be base64 of username:password");
    let text = BASE64_STANDARD.decode(given.auth).map_err(|_| invalid())?;
    let text = String::from_utf8(text).map_err(|_| invalid())?;
    let (username, password) = text.split_once(':').ok_or_else(invalid)?;
    Ok(Some(RegistryAuth {
        username: username.to_owned(),
        // Docker pads it.
        password: password.trim_matches('\0').to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn users_of_images() {
        for (text, uid, name) in [
            ("", None, ""),
            ("1002", Some(1002), ""),
            ("1002:5", Some(1002), ""),
            ("www-data", None, "www-data"),
            ("www-data:web", None, "www-data"),
        ] {
            assert_eq!(user(text), (uid, name.to_owned()), "{text}");
        }
    }

    #[test]
    fn who_one_is_to_a_registry() {
        for (address, image, is) in [
            ("", "r.example/a", true),
            ("r.example", "r.example/a:1", true),
            ("https://r.example:5000/v2/", "r.example:5000/a", true),
            ("https://r.example:5000", "r.example/a", false),
            ("other.example", "r.example/a", false),
            ("https://index.docker.io/v1/", "busybox", true),
            ("docker.io", "library/busybox:1", true),
            ("r.example", "library/busybox", false),
            ("localhost", "localhost/a", true),
        ] {
            let auth = AuthConfig {
                server_address: address.into(),
                ..AuthConfig::default()
            };
            assert_eq!(is_for(&auth, image), is, "{address} {image}");
        }
    }

    #[test]
    fn ways_to_say_who_one_is() {
        let pair = |auth: AuthConfig| {
            let made = auth_of(auth).map_err(|refused| refused.code())?;
            Ok::<_, Code>(made.map(|auth| (auth.username, auth.password)))
        };
        let basic = |text: &str| AuthConfig {
            auth: BASE64_STANDARD.encode(text),
            ..AuthConfig::default()
        };
        let me = |password: &str| Ok(Some(("me".to_owned(), password.to_owned())));
        assert_eq!(pair(AuthConfig::default()), Ok(None));
        assert_eq!(pair(basic("me:secret:more\0")), me("secret:more"));
        let given = AuthConfig {
            username: "me".into(),
            password: "secret".into(),
            ..AuthConfig::default()
        };
        assert_eq!(pair(given), me("secret"));
        assert_eq!(pair(basic("nobody")), Err(Code::InvalidArgument));
        let token = AuthConfig {
            identity_token: "t".into(),
            ..AuthConfig::default()
        };
        assert_eq!(pair(token), Err(Code::Unimplemented));
    }
}
