//! What jobs came to.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Worker;
use super::job::{Kind, Outcome};
use super::start::StartFailure;
use crate::pods::plan::{Hold, image_pull_back_off};
use crate::pods::status::Waiting;
use crate::pods::volumes::{MountedVolumes, is_device};
use crate::pods::{image, spec};

/// The kubelet looks again at a container it could not make after this.
const CONFIG_RETRY: Duration = Duration::from_secs(10);
/// An image that is not there and may not be pulled.
const NEVER_RETRY: Duration = Duration::from_secs(60);
/// Another name has to come first.
const NAME_RETRY: Duration = Duration::from_secs(3600);
/// So long a failed pull is shown as such, before it is shown as waiting.
const ERROR_SHOWN: Duration = Duration::from_secs(5);

impl Worker {
    pub(super) fn take_outcome(&mut self, kind: Kind, outcome: Option<Outcome>) {
        let now = Timestamp::now();
        match (kind, outcome) {
            (Kind::Sandbox, Some(Outcome::Sandbox(Ok((id, ips))))) => {
                self.sandboxes.insert(id);
                self.pod_ips = ips;
                self.sandbox_retry.succeeded();
            }
            (Kind::Sandbox, Some(Outcome::Attached(Ok(ips)))) => {
                self.pod_ips = ips;
                self.sandbox_retry.succeeded();
            }
            (Kind::Sandbox, Some(Outcome::Sandbox(Err(words)) | Outcome::Attached(Err(words)))) => {
                self.sandbox_retry.failed(now);
                let message = format!("Failed to create pod sandbox: {words}");
                let teller = self.context.recorder.pod(&self.pod);
                teller.warning("FailedCreatePodSandBox", message);
            }
            (Kind::Volumes, Some(Outcome::Volumes(Some(made)))) => {
                self.tokens = Some(made.tokens);
                self.volumes_print = made.print;
                self.take_volumes(made.mounted, now);
            }
            (Kind::Volumes, _) => {
                // It was stopped, and its tokens with it.
                self.tokens.get_or_insert_default();
            }
            (Kind::Start(name), Some(Outcome::Started(Ok(())))) => {
                self.failures.remove(&name);
                self.forget_pulls(&name, None);
            }
            (Kind::Start(name), Some(Outcome::Started(Err(failure)))) => {
                self.take_start_failure(&name, failure, now);
            }
            (Kind::Update, Some(Outcome::Updated { generation, result })) => {
                self.take_updated(generation, result, now);
            }
            (Kind::End, Some(Outcome::Ended(result))) => self.take_end(result, now),
            (Kind::Clean, Some(Outcome::Cleaned(result))) => self.take_clean(result, now),
            (Kind::Delete, Some(Outcome::Deleted(result))) => self.take_delete(result),
            _ => {}
        }
    }

    fn take_volumes(
        &mut self,
        mounted: Result<MountedVolumes, Vec<(String, String)>>,
        now: Timestamp,
    ) {
        match mounted {
            Ok(mounted) => {
                self.volumes = Some(Arc::new(mounted));
                self.volumes_retry.succeeded();
            }
            Err(failed) => {
                self.volumes_retry.failed(now);
                let teller = self.context.recorder.pod(&self.pod);
                for (volume, words) in failed {
                    let (reason, step) = match is_device(&self.pod, &volume) {
                        true => ("FailedMapVolume", "MapVolume.SetUpDevice"),
                        false => ("FailedMount", "MountVolume.SetUp"),
                    };
                    let message = format!("{step} failed for volume \"{volume}\" : {words}");
                    teller.warning(reason, message);
                }
            }
        }
    }

    /// Of a container's images, which are there: all, or those before the one that is not.
    fn forget_pulls(&mut self, container: &str, before: Option<&str>) {
        let Some(container) = spec::any_container(&self.pod, container) else {
            return;
        };
        let images = image::needed(&self.pod, &container).map(|needed| needed.reference);
        for image in images.take_while(|image| Some(*image) != before) {
            self.pulls.forget(image);
            self.pull_errors.remove(image);
        }
    }

    fn take_start_failure(&mut self, name: &str, failure: StartFailure, now: Timestamp) {
        let until = |pause: Duration| now.saturating_add(pause).unwrap_or(now);
        let hold = |waiting, pause| Hold {
            until: until(pause),
            waiting,
            later: None,
        };
        let held = match failure {
            StartFailure::Image(failure) if failure.is_pull() => {
                let image = failure.image;
                self.forget_pulls(name, Some(&image));
                self.pulls.next(&image, now, now);
                let end = self.pulls.until_since_update(&image, now);
                let later = image_pull_back_off(&image, &failure.message);
                self.pull_errors.insert(image, failure.message.clone());
                Hold {
                    until: end.unwrap_or(now),
                    waiting: Waiting::new(failure.reason, failure.message),
                    later: Some((until(ERROR_SHOWN), later)),
                }
            }
            StartFailure::Image(failure) => {
                let pause = if failure.is_name() {
                    NAME_RETRY
                } else {
                    NEVER_RETRY
                };
                hold(Waiting::new(failure.reason, failure.message), pause)
            }
            StartFailure::Config(words) => {
                self.config_held.insert(name.to_owned());
                let waiting = Waiting::new("CreateContainerConfigError", words);
                hold(waiting, CONFIG_RETRY)
            }
            StartFailure::Create(words) => {
                let waiting = Waiting::new("CreateContainerError", words);
                hold(waiting, CONFIG_RETRY)
            }
            StartFailure::Stopped => return,
            // The container is there: its exit says the rest.
            StartFailure::Run(words) => {
                let waiting = Waiting::new("RunContainerError", words);
                self.failures.insert(name.to_owned(), waiting);
                return;
            }
            StartFailure::PostStart(words) => {
                let waiting = Waiting::new("PostStartHookError", words);
                self.failures.insert(name.to_owned(), waiting);
                return;
            }
        };
        self.holds.insert(name.to_owned(), held);
    }
}
