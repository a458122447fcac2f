//! The registry of resources: one row a kind, and everything that can be derived from the types' schemas.
//! Pure: nothing here does IO or reads the clock.

pub mod csr;
pub mod decode;
pub mod field;
pub mod ip;
pub mod kinds;
pub mod merge;
pub mod meta;
pub mod names;
pub mod openapi;
pub mod print;
pub mod registry;
pub mod resource;
pub mod schema;
pub mod time;
mod value;

pub use registry::{find, registry};
pub use vetch_quantity as quantity;
