//! Sandboxes, containers and images from kernel parts, in CRI's shapes.
//!
//! SKELETON of the interface (bodies by the runtime builder):
//! ```ignore
//! #[derive(Clone)] pub struct Runtime { .. }                       // Arc inside
//! impl Runtime {
//!   pub async fn open(config: RuntimeConfig) -> Result<Runtime, Error>;   // adopts living shims
//!   pub fn images(&self) -> &ImageStore;
//!   /// Starts the shim, makes the pod's namespaces. The netns exists when this returns.
//!   pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxStatus, Error>;
//!   /// Kills what still runs in it, releases namespaces. Idempotent.
//!   pub async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error>;
//!   /// Removes every trace (logs stay). Idempotent.
//!   pub async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error>;
//!   pub async fn create_container(&self, sandbox: &SandboxId, spec: ContainerSpec) -> Result<ContainerId, Error>;
//!   pub async fn start_container(&self, id: &ContainerId) -> Result<(), Error>;
//!   /// Stop signal, then SIGKILL to the whole container after `grace`. Returns when it is dead. Idempotent.
//!   pub async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), Error>;
//!   pub async fn remove_container(&self, id: &ContainerId) -> Result<(), Error>;
//!   pub async fn list(&self) -> Vec<SandboxStatus>;                  // from memory, cheap
//!   pub async fn sandbox(&self, id: &SandboxId) -> Option<SandboxStatus>;
//!   pub fn subscribe(&self) -> tokio::sync::broadcast::Receiver<RuntimeEvent>;
//!   pub async fn exec(&self, id: &ContainerId, argv: Vec<String>, timeout: Duration) -> Result<ExecOutput, Error>;
//!   /// Words for a node condition: cgroup controllers that are missing here.
//!   pub fn missing_controllers(&self) -> Vec<String>;
//! }
//! impl ImageStore {
//!   pub async fn pull(&self, reference: &str, auth: Option<RegistryAuth>) -> Result<ImageStatus, ImageError>; // always asks the registry
//!   pub async fn status(&self, reference_or_id: &str) -> Option<ImageStatus>;                                // local only
//!   pub async fn list(&self) -> Vec<ImageStatus>;
//!   pub async fn remove(&self, reference_or_id: &str) -> Result<(), ImageError>;
//!   pub async fn import(&self, tar: &Path) -> Result<Vec<ImageStatus>, ImageError>;
//! }
//! // ImageError::InvalidReference {..} must be distinguishable (InvalidImageName), Display carries the registry's words.
//! ```

pub mod types;
