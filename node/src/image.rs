//! `vetch-node image`: the store of a node, whether its daemon runs or not.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use vetch_runtime::images::PullConfig;
use vetch_runtime::{ImageStatus, ImageStore, RegistryAuth};

use crate::cli::ImageCommand;

mod show;

pub fn main(command: ImageCommand) -> Result<()> {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    tokio.block_on(async {
        match command {
            ImageCommand::Import { root, file } => {
                let store = ImageStore::open(&root.root_dir)?;
                let images = store.import(&file).await?;
                store.settle().await?;
                write_lines(images.iter().map(|image| {
                    let names = names(image);
                    format!("imported {} ({})", names.join(", "), image.id)
                }))
            }
            ImageCommand::Ls { root } => {
                let store = ImageStore::open(&root.root_dir)?;
                let images = store.list().await;
                write_lines(images.iter().flat_map(lines))
            }
            ImageCommand::Pull {
                root,
                registries,
                creds,
                reference,
            } => {
                let config = PullConfig {
                    insecure_registries: registries.insecure_registry,
                    hosts_dir: Some(registries.registry_config_path),
                    ..PullConfig::default()
                };
                let store = ImageStore::open_with(&root.root_dir, config)?;
                let auth = creds.as_deref().map(credentials).transpose()?;
                let image = show::pull(&store, &reference, auth).await?;
                store.settle().await?;
                write_lines([format!("pulled {reference} ({})", image.id)].into_iter())
            }
            ImageCommand::Rm { root, images } => {
                let store = ImageStore::open(&root.root_dir)?;
                for image in images {
                    store.remove(&image).await?;
                    write_lines([format!("removed {image}")].into_iter())?;
                }
                Ok(())
            }
        }
    })
}

fn credentials(text: &str) -> Result<RegistryAuth> {
    let (username, password) = text
        .split_once(':')
        .filter(|(user, _)| !user.is_empty())
        .context("credentials are USER:PASSWORD")?;
    Ok(RegistryAuth {
        username: username.to_owned(),
        password: password.to_owned(),
    })
}

fn names(image: &ImageStatus) -> Vec<String> {
    if image.repo_tags.is_empty() && image.repo_digests.is_empty() {
        return vec!["<none>".into()];
    }
    if image.repo_tags.is_empty() {
        return image.repo_digests.clone();
    }
    image.repo_tags.clone()
}

/// Name, id, bytes; a line for each name.
fn lines(image: &ImageStatus) -> Vec<String> {
    names(image)
        .into_iter()
        .map(|name| format!("{name}\t{}\t{}", image.id, image.size_bytes))
        .collect()
}

fn write_lines(lines: impl Iterator<Item = String>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}").context("write to standard output")?;
    }
    Ok(())
}
