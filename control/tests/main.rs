//! The whole daemon, in this process or as the program: one program of all these files, for each would link all of it
//! once more.

mod access;
#[path = "admission/main.rs"]
mod admission;
mod binary;
#[path = "connect/main.rs"]
mod connect;
