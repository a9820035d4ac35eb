//! The threads that answer the shards' questions.
use super::Backends;
use crate::shard::core::Command;
use crate::shard::mesh::CommandSender;
use crate::shard::runtime::Asked;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io;
use std::sync::Arc;

/// Where questions wait until a thread has time. A question that finds it full is not taken, and its CONNECT refused.
pub struct Pool {
    receiver: Receiver<Asked>,
}

impl Pool {
    /// Room for `most` questions, and the way to it.
    pub fn new(most: usize) -> (Sender<Asked>, Pool) {
        let (sender, receiver) = bounded(most);
        (sender, Pool { receiver })
    }

    /// Starts the threads. They end with the last shard.
    pub fn start(
        self,
        threads: usize,
        backends: &Arc<Backends>,
        shards: &[CommandSender<Command>],
    ) -> io::Result<()> {
        backends.attach(shards)?;
        for number in 0..threads {
            let (receiver, backends, shards) = (self.receiver.clone(), backends.clone(), shards.to_vec());
            std::thread::Builder::new().name(format!("ringmq-auth-{number}")).spawn(move || {
                for Asked { shard, conn, question } in receiver {
                    let answer = backends.answer(question);
                    // Refused only by a shard that has ended, and nobody waits there.
                    let _ = shards[usize::from(shard)].send_patiently(Command::Answer { conn, answer });
                }
            })?;
        }
        Ok(())
    }
}
