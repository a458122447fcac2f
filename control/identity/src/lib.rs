//! Who a client is, and what it may do.

mod user;

pub use user::User;
