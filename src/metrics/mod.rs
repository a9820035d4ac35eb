//! What the broker counts, and the `$SYS` topics that tell it.
//!
//! [`Counters`] is the one table; [`SysTree`] is one export of it. A further export needs [`Counters::iter`] only.
mod counters;
mod packets;
mod sys_tree;

pub use counters::{Counters, Kind, Label, Metric};
pub use packets::PACKET_NAMES;
pub use sys_tree::SysTree;
