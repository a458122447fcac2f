//! Single packets through the programs: one program of all these files, for each would link aya once more.

mod events;
mod flows;
mod forward;
mod fragments;
mod from_net;
mod from_pod;
mod from_wire;
mod icmp;
mod least;
mod masquerade;
mod neighbour;
mod policy;
mod refuse;
mod sweep;
#[path = "tunnel/main.rs"]
mod tunnel;
mod wire;
