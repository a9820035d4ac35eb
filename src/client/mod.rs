//! A small blocking MQTT client, and the commands `ringmq pub`, `ringmq sub` and `ringmq rr`.
//!
//! [`Client`] is one connection on one thread: [`Client::next`] waits for the socket, for a deadline and for whatever
//! else the caller names. The commands take the flags of `mosquitto_pub`, `mosquitto_sub` and `mosquitto_rr`.
//!
//! Exit codes are theirs, too: 0; 1 for a wrong command line, a file that cannot be read or no connection; the
//! CONNACK code if the broker refuses (1 to 5 before MQTT 5, else 128 and above); the DISCONNECT code if it ends the
//! connection; 2 if it breaks the protocol; 7 if the connection is lost; 27 if `-W` ran out.
//! SIGINT and SIGTERM end `sub` with 0, the others with 130.
mod arguments;
mod blocking;
mod calendar;
mod connection;
mod error;
mod format;
mod input;
mod json;
mod message;
mod options;
mod output;
mod property;
mod pub_command;
mod rr_command;
mod signals;
pub mod stream;
mod sub_command;
mod trace;
mod url;
mod window;

pub use blocking::{Client, Event, Granted};
pub use connection::Endpoint;
pub use error::ClientError;
pub use message::Message;
pub use pub_command::publish;
pub use rr_command::request;
pub use sub_command::subscribe;

use std::ffi::OsString;

// The words are taken as they stand, because `-h` and `-V` mean something else here, values may begin with a hyphen
// and `-D` takes three or four of them: `arguments` reads them.
macro_rules! words {
    ($($name:ident $options:path, $command:literal;)*) => {$(
        #[doc = concat!("The flags of `ringmq ", $command, "`.")]
        #[derive(clap::Args)]
        #[command(override_help = arguments::help::<$options>(concat!("ringmq ", $command)))]
        pub struct $name {
            /// The flags, as they stand.
            #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
            words: Vec<OsString>,
        }
    )*};
}

words! {
    PubArgs pub_command::PubOptions, "pub";
    SubArgs sub_command::SubOptions, "sub";
    RrArgs rr_command::RrOptions, "rr";
}
