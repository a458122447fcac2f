//! One file a kind.

pub mod certificate_signing_request;
pub mod config_map;
pub mod controller_revision;
pub mod deployment;
pub mod endpoint_slice;
pub mod endpoints;
pub mod event;
pub mod ip_address;
pub mod lease;
pub mod namespace;
pub mod network_policy;
pub mod node;
pub mod persistent_volume;
pub mod persistent_volume_claim;
pub mod pod;
pub mod pod_disruption_budget;
pub mod replica_set;
pub mod review;
pub mod runtime_class;
pub mod secret;
pub mod selector;
pub mod service;
pub mod service_account;
pub mod service_cidr;
mod storage;
pub mod storage_class;
mod workload;
