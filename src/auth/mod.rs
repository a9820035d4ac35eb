//! Contracts of authentication. Backends live beside this file; the core knows the traits only.
pub mod access;
pub mod acl;
pub mod backend;
pub mod bans;
pub mod crowd;
pub mod decision;
mod origin;
pub mod roles;
pub mod rule;
pub mod scram;
pub mod test_method;

pub use origin::Origin;

use crate::codec::ReasonCode;
use std::fmt::Debug;
use std::sync::Arc;

/// What one step of an enhanced authentication asks for (4.12).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Send AUTH 0x18 with this data and wait for the client's answer.
    Continue(Vec<u8>),
    /// The client is who it says.
    Success {
        /// Goes into CONNACK (or AUTH 0x00 when it authenticated again).
        data: Vec<u8>,
        /// The user name that it proved.
        user: Option<Box<str>>,
    },
    /// Refuse with this reason.
    Refuse(ReasonCode),
}

/// One client's exchange.
pub trait Exchange: Debug {
    /// The Authentication Data of CONNECT or AUTH, absent when the packet had none.
    fn handle_data(&mut self, data: Option<&[u8]>) -> Step;
}

/// An authentication method clients name in CONNECT.
pub trait Method: Send + Sync + Debug {
    /// Authentication Method.
    fn name(&self) -> &str;
    /// A new exchange.
    fn begin(&self) -> Box<dyn Exchange>;
}

/// The methods a broker offers.
pub type Methods = Arc<[Box<dyn Method>]>;
