//! The API server as `vetch-control` puts it together, over a real etcd: guard, plugins, connectors, TLS.

mod browsers;
mod cluster;
mod logs;
mod proxy;
mod reviews;
mod streams;
mod tls;
mod tokens;
