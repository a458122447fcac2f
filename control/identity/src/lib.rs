//! Who a client is: the cluster's CA and the certificates it signs, service-account tokens, kubeconfigs.
//!
//! Nothing here knows HTTP or the store: whether the account behind a token still exists is asked by whoever
//! holds the store.

mod files;
mod kept;
mod kubeconfig;
mod pki;
mod sign;
mod tls;
mod token;
mod user;

pub use files::{FileError, write as write_secret};
pub use kept::{Kept, KeptError, Usage, Wanted};
pub use kubeconfig::kubeconfig;
pub use pki::{Issued, Pki, PkiError};
pub use sign::{SignError, Signer, public_key_hash};
pub use tls::{TlsError, client_config, proxy_config, server_config};
pub use token::{API_AUDIENCE, Bound, Claims, TokenError, TokenRequest, Tokens};
pub use user::User;
