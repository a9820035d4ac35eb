//! Writes down what happens to clients. Nothing here waits: a line goes into a bounded queue or is counted.
use crate::auth::Origin;
use crate::shard::core::{CloseCause, Core, Notice, Parting, Who};
use crate::time::Time;
use std::collections::HashMap;
use tracing::level_filters::LevelFilter;
use tracing::{info, warn};

/// Lines about clients that one shard writes in a second; further ones are counted. A storm of connections is told by
/// its beginning and its number.
const LINES_PER_SECOND: u32 = 200;

/// What one shard remembers to write.
#[derive(Default)]
pub(super) struct Chronicle {
    /// Who is connected, by slot, while lines about that are wanted.
    connected: HashMap<u32, Who>,
    second: u64,
    lines: u32,
    left_out: u64,
}

/// An address, for a line.
fn address(origin: &Origin) -> String {
    origin.peer.map_or_else(|| "local".to_string(), |peer| peer.to_string())
}

fn user(who: &Who) -> &str {
    who.user.as_deref().unwrap_or("-")
}

fn reason(parting: Parting) -> &'static str {
    match parting {
        Parting::Lost(CloseCause::Eof) => "closed without DISCONNECT",
        Parting::Lost(CloseCause::Error) => "the connection failed",
        Parting::Ours(reason) => reason.text(),
        Parting::Theirs(reason) if reason.is_error() => reason.text(),
        Parting::Theirs(_) => "DISCONNECT",
        Parting::Wordless => "closed without a word",
    }
}

impl Chronicle {
    /// Takes what the core has to tell.
    pub(super) fn write(&mut self, core: &mut Core, now: Time) {
        let is_wanted = LevelFilter::current() >= LevelFilter::WARN;
        core.want_notices(is_wanted);
        if !is_wanted && self.connected.is_empty() {
            return;
        }
        while let Some(notice) = core.poll_notice() {
            self.take(notice, now);
        }
        self.left_out += core.take_lost_notices();
        if self.left_out > 0 && now.0 / 1000 != self.second {
            self.second = now.0 / 1000;
            self.lines = 0;
            warn!(
                lines = std::mem::take(&mut self.left_out),
                "more happened to clients than is written down"
            );
        }
    }

    /// A transport came to a bad end.
    pub(super) fn transport_failed(&mut self, origin: &Origin, why: &str, now: Time) {
        if self.has_room(now) {
            warn!(address = address(origin), listener = origin.listener, reason = why, "connection ended");
        }
    }

    /// Whether one more line may be written in this second.
    fn has_room(&mut self, now: Time) -> bool {
        let second = now.0 / 1000;
        if second != self.second && self.left_out == 0 {
            (self.second, self.lines) = (second, 0);
        }
        self.lines += 1;
        let has_room = self.lines <= LINES_PER_SECOND;
        self.left_out += u64::from(!has_room);
        has_room
    }

    fn take(&mut self, notice: Notice, now: Time) {
        match notice {
            Notice::Connected { conn, who, version } => {
                if self.has_room(now) {
                    let listener = who.origin.listener;
                    let (address, version) = (address(&who.origin), format!("{version:?}"));
                    info!(
                        client = &*who.client,
                        user = user(&who),
                        address,
                        listener,
                        version,
                        "client connected"
                    );
                }
                self.connected.insert(conn.slot, who);
            }
            Notice::Refused { who, reason } => {
                if self.has_room(now) {
                    let (listener, address) = (who.origin.listener, address(&who.origin));
                    let reason = reason.text();
                    warn!(
                        client = &*who.client,
                        user = user(&who),
                        address,
                        listener,
                        reason,
                        "client refused"
                    );
                }
            }
            Notice::Closed { conn, client, parting } => {
                let who = self.connected.remove(&conn.slot).unwrap_or(Who { client, ..Who::default() });
                if self.has_room(now) {
                    let (address, reason) = (address(&who.origin), reason(parting));
                    info!(client = &*who.client, user = user(&who), address, reason, "client disconnected");
                }
            }
        }
    }
}
