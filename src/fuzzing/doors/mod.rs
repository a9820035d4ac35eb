//! What stands before the core, under the same question: what must hold for any bytes? Transports, and the files and
//! messages that say who may come in.
mod files;
mod transports;

pub use files::{acl_file, config_file, dynsec, password_file, token};
pub use transports::{proxy, tls, websocket};
