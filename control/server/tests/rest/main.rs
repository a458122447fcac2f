//! The REST API over a real etcd, called in process.

mod cluster;
mod conformance;
mod deletes;
mod outputs;
mod patches;
mod reads;
mod refusals;
mod serving;
mod subresources;
mod views;
mod watches;
mod writes;
