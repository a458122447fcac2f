//! From a runtime's call to what it is answered.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};
use vetch_cni_proto::v1::{
    AddRequest, Attachment, CheckRequest, CollectRequest, DeleteRequest, ReadyRequest,
};
use vetch_cni_proto::{Failure, RECORDS, code};

use crate::config::{self, Config};
use crate::environment::{self, Command, Environment};
use crate::failure::{chain, object};
use crate::version::{SUPPORTED, Version};
use crate::{daemon, result};

pub struct Answer {
    /// For stdout.
    pub output: String,
    pub ok: bool,
}

pub fn answer(input: io::Result<Vec<u8>>, variable: impl Fn(&str) -> Option<String>) -> Answer {
    // Errors are of the version that was asked for, if that is known.
    let mut version = Version::NEWEST;
    match run(input, variable, &mut version) {
        Ok(output) => Answer {
            output: output.map_or(String::new(), |value| format!("{value}\n")),
            ok: true,
        },
        Err(told) => Answer {
            output: format!("{}\n", object(&told, version.name())),
            ok: false,
        },
    }
}

fn run(
    input: io::Result<Vec<u8>>,
    variable: impl Fn(&str) -> Option<String>,
    version: &mut Version,
) -> Result<Option<Value>, Failure> {
    let environment = environment::parse(variable)?;
    let unreadable = |error: io::Error| {
        Failure::new(code::IO, "cannot read the configuration from stdin")
            .with_details(error.to_string())
    };
    let document = config::document(&input.map_err(unreadable)?)?;
    if environment.command == Command::Version {
        return Ok(Some(versions(&document)));
    }
    *version = config::version(&document)?;
    version.check(environment.command)?;
    let config = Config::read(document)?;
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(code::IO, "cannot start the async runtime").with_details(error.to_string())
        })?;
    let done = tokio.block_on(act(*version, environment, config));
    // Nothing that is left waits for anybody.
    tokio.shutdown_background();
    done
}

/// In the version of the document, if it has one that is spoken here.
fn versions(document: &Value) -> Value {
    let version = config::version(document).unwrap_or(Version::NEWEST);
    json!({
        "cniVersion": version.name(),
        "supportedVersions": SUPPORTED.map(Version::name),
    })
}

async fn act(
    version: Version,
    environment: Environment,
    config: Config,
) -> Result<Option<Value>, Failure> {
    match environment.command {
        Command::Add => add(version, &environment, &config).await.map(Some),
        Command::Del => delete(&environment, &config).await.map(|()| None),
        Command::Check => check(&environment, &config).await.map(|()| None),
        Command::Gc => collect(config).await.map(|()| None),
        Command::Status => ready(&config).await.map(|()| None),
        Command::Version => Ok(None),
    }
}

async fn add(
    version: Version,
    environment: &Environment,
    config: &Config,
) -> Result<Value, Failure> {
    let wanted = config.wanted(&environment.args)?;
    check_netns(environment)?;
    let request = AddRequest {
        attachment: Some(attachment(environment, config)),
        port_mappings: wanted.port_mappings,
        ips: wanted.ips.iter().map(ToString::to_string).collect(),
        pod: Some(environment.args.pod()),
        bandwidth: wanted.bandwidth,
    };
    let added = async {
        let mut daemon = daemon::connect(&config.run_dir).await?;
        Ok::<_, daemon::Error>(daemon.add(request).await?.into_inner())
    };
    let reply = added
        .await
        .map_err(|error| error.failure(code::TRY_AGAIN))?;
    let before = config.prev_result.as_ref();
    let netns = &environment.netns;
    Ok(result::shape(version, before, &reply, netns, config.dns()))
}

/// Its daemon knows best; without one, what can be done is done, and the rest marked for the next.
async fn delete(environment: &Environment, config: &Config) -> Result<(), Failure> {
    let attachment = attachment(environment, config);
    let request = DeleteRequest {
        attachment: Some(attachment.clone()),
    };
    let deleted = async {
        let mut daemon = daemon::connect(&config.run_dir).await?;
        daemon.delete(request).await?;
        Ok::<_, daemon::Error>(())
    };
    let absent = match deleted.await {
        Ok(()) => return Ok(()),
        Err(daemon::Error::Said(failure)) => return Err(failure),
        Err(daemon::Error::Absent(why)) => why,
    };
    let attachment = vetch_network::Attachment {
        network: attachment.network,
        container_id: attachment.container_id,
        ifname: attachment.ifname,
        netns: attachment.netns.into(),
    };
    let records = config.run_dir.join(RECORDS);
    let detached = vetch_network::detach_offline(&records, &attachment).await;
    detached.map_err(|error| {
        let words = format!("{}, and the node's daemon does not answer", chain(&error));
        Failure::new(code::LINKS, words).with_details(absent)
    })
}

async fn check(environment: &Environment, config: &Config) -> Result<(), Failure> {
    let ips = config.believed()?;
    check_netns(environment)?;
    let request = CheckRequest {
        attachment: Some(attachment(environment, config)),
        ips: ips.iter().map(ToString::to_string).collect(),
    };
    let checked = async {
        let mut daemon = daemon::connect(&config.run_dir).await?;
        daemon.check(request).await?;
        Ok::<_, daemon::Error>(())
    };
    checked
        .await
        .map_err(|error| error.failure(code::TRY_AGAIN))
}

async fn collect(config: Config) -> Result<(), Failure> {
    let run_dir = config.run_dir.clone();
    let network = config.name.clone();
    let valid = config.valid()?.into_iter().map(|one| Attachment {
        network: network.clone(),
        container_id: one.container_id,
        ifname: one.ifname,
        netns: String::new(),
    });
    let request = CollectRequest {
        valid: valid.collect(),
        network,
    };
    let collected = async {
        let mut daemon = daemon::connect(&run_dir).await?;
        daemon.collect(request).await?;
        Ok::<_, daemon::Error>(())
    };
    collected
        .await
        .map_err(|error| error.failure(code::TRY_AGAIN))
}

/// Containers that are there go on without a daemon.
async fn ready(config: &Config) -> Result<(), Failure> {
    let answered = async {
        let mut daemon = daemon::connect(&config.run_dir).await?;
        daemon.ready(ReadyRequest {}).await?;
        Ok::<_, daemon::Error>(())
    };
    answered
        .await
        .map_err(|error| error.failure(code::NOT_AVAILABLE))
}

fn attachment(environment: &Environment, config: &Config) -> Attachment {
    Attachment {
        network: config.name.clone(),
        container_id: environment.container_id.clone(),
        ifname: environment.ifname.clone(),
        netns: environment.netns.clone(),
    }
}

/// One that is there, and another than the plugin's own unless somebody insists.
fn check_netns(environment: &Environment) -> Result<(), Failure> {
    let netns = &environment.netns;
    let identity = |path: &str| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let there = identity(netns).map_err(|error| {
        let words = format!("CNI_NETNS: {netns} cannot be found");
        Failure::new(code::INVALID_NETNS, words).with_details(error.to_string())
    })?;
    if !environment.netns_override && identity("/proc/self/ns/net").is_ok_and(|own| own == there) {
        let words = format!("CNI_NETNS: {netns} is the network namespace of the plugin itself");
        return Err(Failure::new(code::INVALID_NETNS, words));
    }
    Ok(())
}
