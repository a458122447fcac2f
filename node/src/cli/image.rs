//! What people ask of the image store, and how registries are spoken to.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Reads images from a tar: an OCI layout, or what `docker save` writes
    Import {
        #[command(flatten)]
        root: RootDir,
        /// The tar
        file: PathBuf,
    },
    /// Lists the images
    #[command(alias = "list")]
    Ls {
        #[command(flatten)]
        root: RootDir,
    },
    /// Pulls an image from its registry, or its mirrors
    Pull {
        #[command(flatten)]
        root: RootDir,
        #[command(flatten)]
        registries: Registries,
        /// For the registry
        #[arg(
            long,
            value_name = "USER:PASSWORD",
            env = "VETCH_REGISTRY_CREDS",
            hide_env_values = true
        )]
        creds: Option<String>,
        /// Such as docker.io/library/busybox:1.37
        #[arg(value_name = "IMAGE")]
        reference: String,
    },
    /// Removes images, or one of their names where they have several. What containers have of them
    /// stays until these are gone
    Rm {
        #[command(flatten)]
        root: RootDir,
        /// Names, digests or ids
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub struct RootDir {
    /// The node's root directory
    #[arg(long, env = "VETCH_ROOT_DIR", default_value = "/var/lib/vetch")]
    pub root_dir: PathBuf,
}

/// How registries are spoken to.
#[derive(Clone, Debug, Args)]
pub struct Registries {
    /// A registry that speaks plain HTTP
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "VETCH_INSECURE_REGISTRY",
        value_delimiter = ','
    )]
    pub insecure_registry: Vec<String>,
    /// Mirrors and certificates of registries, in containerd's format: REGISTRY/hosts.toml below it
    #[arg(
        long,
        value_name = "DIR",
        env = "VETCH_REGISTRY_CONFIG_PATH",
        default_value = "/etc/vetch/certs.d"
    )]
    pub registry_config_path: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::super::testing::parse;
    use super::super::{Command, ImageCommand};

    #[test]
    fn an_image_is_imported_without_a_node() {
        let cli = parse(&["vetch-node", "image", "import", "--root-dir", "/r", "x.tar"]).unwrap();
        let Some(Command::Image(ImageCommand::Import { root, file })) = cli.command else {
            panic!("{cli:?}");
        };
        assert_eq!((root.root_dir, file), ("/r".into(), "x.tar".into()));
    }

    #[test]
    fn removing_needs_an_image() {
        assert!(parse(&["vetch-node", "image", "rm"]).is_err());
        let cli = parse(&["vetch-node", "image", "rm", "a", "b"]).unwrap();
        let Some(Command::Image(ImageCommand::Rm { images, .. })) = cli.command else {
            panic!("{cli:?}");
        };
        assert_eq!(images, ["a", "b"]);
    }
}
