//! The thread that reads queues back, so that nobody who wants to read waits for a flush.
use super::heal::Shared;
use super::load::sentence;
use crate::shard::core::{Command, ShardId};
use crate::shard::mesh::CommandSender;
use crate::store::queue::Wanted;
use crate::store::record::Wall;
use crossbeam_channel::Receiver;
use std::sync::Arc;

/// What the thread works with.
pub struct Reader {
    engine: Arc<Shared>,
    wall: Wall,
    shards: Vec<CommandSender<Command>>,
}

impl Reader {
    /// A reader for these shards.
    pub fn new(engine: Arc<Shared>, wall: Wall, shards: Vec<CommandSender<Command>>) -> Reader {
        Reader { engine, wall, shards }
    }

    /// Reads until no shard is left. The error is one sentence.
    pub fn run(self, wishes: &Receiver<(ShardId, Wanted)>) -> Result<(), String> {
        for (shard, wanted) in wishes {
            let (found, damaged) = self.engine.read(|engine| engine.find(self.wall, &wanted)).map_err(|error| {
                let error = sentence(&error);
                format!("reading back what is queued failed: {error}; the broker ends so that it can start again from what is intact")
            })?;
            for (position, why) in damaged {
                eprintln!(
                    "ringmq: message {position} of session {:x} cannot be read back and is lost: {why}",
                    wanted.session
                );
            }
            // A shard that has ended wants nothing any more.
            let _ = self.shards[usize::from(shard)].send_patiently(Command::Found(found));
        }
        Ok(())
    }
}
