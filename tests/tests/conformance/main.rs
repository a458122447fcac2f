//! What Kubernetes' conformance suite promises of Services, where traffic is needed to see it: each test is named
//! after the entry of the suite whose promise it holds, and its first line is that entry's name.
//!
//! What can be seen at the API alone is asked of the server and the controllers, in their own tests of such names.
//! Names are looked up where names are the promise; elsewhere addresses are dialled.

mod affinity;
mod dns;
mod endpoints;
mod fixture;
mod host_port;
mod master;
mod networking;
mod policies;
mod proxy;
mod slices;
mod types;
