//! Images: every call of ImageService.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use k8s_cri::v1::image_service_server::ImageService;
use k8s_cri::v1::{
    AuthConfig, FilesystemIdentifier, FilesystemUsage, Image, ImageFsInfoRequest,
    ImageFsInfoResponse, ImageSpec, ImageStatusRequest, ImageStatusResponse, Int64Value,
    ListImagesRequest, ListImagesResponse, PullImageRequest, PullImageResponse, RemoveImageRequest,
    RemoveImageResponse, UInt64Value,
};
use serde_json::json;
use tonic::{Request, Response, Status};
use vetch_runtime::{DiskUsage, ImageError, ImageStatus, RegistryAuth};

use crate::error::unsupported;
use crate::{Cri, error};

#[tonic::async_trait]
impl ImageService for Cri {
    async fn list_images(
        &self,
        request: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let filter = request.into_inner().filter.and_then(|filter| filter.image);
        let images = match filter
            .map(|image| image.image)
            .filter(|name| !name.is_empty())
        {
            Some(name) => self
                .runtime
                .images()
                .status(&name)
                .await
                .into_iter()
                .collect(),
            None => self.runtime.images().list().await,
        };
        let images = images.iter().map(image).collect();
        Ok(Response::new(ListImagesResponse { images }))
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
        let auth = request.auth.map(auth).transpose()?.flatten();
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

fn named(image: Option<ImageSpec>) -> Result<String, Status> {
    let name = image.map(|image| image.image).unwrap_or_default();
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

/// None for one that says nothing.
fn auth(given: AuthConfig) -> Result<Option<RegistryAuth>, Status> {
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
    fn ways_to_say_who_one_is() {
        let pair = |auth: AuthConfig| {
            let made = super::auth(auth).map_err(|refused| refused.code())?;
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
