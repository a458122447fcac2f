//! The program over loopback: a server and a client of ours, or one of them against a peer that
//! misbehaves on purpose. Each test has addresses of its own in 127.0.0.0/8.

mod asking;
mod failing;
mod following;
mod loading;
mod pacing;
mod program;
mod serving;
