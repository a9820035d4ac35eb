//! One publishing connection: its streams, its window, its acknowledgements.
use super::conn::Conn;
use super::error::BenchError;
use super::ledger::Ledger;
use super::payload::{Pattern, Stamp};
use super::plan::{Pace, Plan};
use super::wire::{self, Template, kind};
use std::collections::VecDeque;

/// Nanoseconds without a delivery after which a full window is given up as lost.
const STALL: u64 = 2_000_000_000;
/// Bytes encoded before they are written.
const BATCH_BYTES: usize = 256 * 1024;

/// Where an acknowledged message is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Await {
    Nothing,
    /// PUBACK at QoS 1, PUBREC at QoS 2.
    First,
    PubComp,
}

/// The packet identifiers of one publisher, taken in turn.
struct Identifiers {
    free: VecDeque<u16>,
    state: Vec<Await>,
}

impl Identifiers {
    fn new(count: usize) -> Self {
        let count = count.clamp(1, u16::MAX as usize) as u16;
        Self { free: (1..=count).collect(), state: vec![Await::Nothing; count as usize + 1] }
    }

    fn in_flight(&self) -> usize {
        self.state.len() - 1 - self.free.len()
    }
}

struct Outgoing {
    stream: u32,
    template: Template,
    next: u64,
}

/// One publisher.
pub struct Publisher {
    /// Its number in the plan.
    pub index: usize,
    /// Its connection, until that ends.
    pub conn: Option<Conn>,
    streams: Vec<Outgoing>,
    turn: usize,
    fan_out: u64,
    window: usize,
    identifiers: Option<Identifiers>,
    sent: u64,
    written_off: u64,
    due: VecDeque<u64>,
    progress: (u64, u64),
}

/// Who a message is sent at what time, and where encoded bytes go.
pub struct Sending<'a> {
    /// Makes payloads.
    pub pattern: &'a Pattern,
    /// Scratch space of the thread.
    pub out: &'a mut Vec<u8>,
    /// Now, in ns since the epoch of the run.
    pub now: u64,
}

/// What acknowledgements did.
#[derive(Default, Clone, Copy)]
pub struct Acknowledged {
    /// Messages finished.
    pub finished: u64,
    /// Reason codes of failure, and acknowledgements of nothing.
    pub faults: u64,
}

impl Publisher {
    /// A publisher on an open connection whose broker allows `receive_maximum` messages in flight.
    pub fn new(plan: &Plan, index: usize, conn: Conn, receive_maximum: u16) -> Self {
        let streams = index * plan.topics_each..(index + 1) * plan.topics_each;
        let in_flight = plan.in_flight.min(receive_maximum as usize);
        Self {
            index,
            conn: Some(conn),
            streams: streams
                .map(|stream| Outgoing {
                    stream: stream as u32,
                    template: Template::new(
                        plan.target.version,
                        plan.qos,
                        false,
                        &plan.topics[stream],
                        plan.payload,
                    ),
                    next: 0,
                })
                .collect(),
            turn: 0,
            fan_out: plan.fan_out as u64,
            window: match plan.pace {
                Pace::Window(window) => window,
                Pace::Rate(_) => usize::MAX,
            },
            identifiers: (plan.qos > 0).then(|| Identifiers::new(in_flight)),
            sent: 0,
            written_off: 0,
            due: VecDeque::new(),
            progress: (0, 0),
        }
    }

    /// Messages that may be sent now.
    fn room(&self, ledger: &Ledger) -> usize {
        let identifiers = self.identifiers.as_ref().map_or(usize::MAX, |ids| ids.free.len());
        identifiers.min(if self.window == usize::MAX {
            usize::MAX
        } else {
            self.window.saturating_sub(self.outstanding(ledger).div_ceil(self.fan_out) as usize)
        })
    }

    /// Deliveries that are still to come, less those given up.
    fn outstanding(&self, ledger: &Ledger) -> u64 {
        (self.sent * self.fan_out).saturating_sub(ledger.delivered(self.index) + self.written_off)
    }

    /// Sends what the window allows, in batches of at least a quarter of it. Returns how many.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn saturate(&mut self, ledger: &Ledger, sending: &mut Sending<'_>) -> Result<u64, BenchError> {
        let mut total = 0;
        while self.conn.as_ref().is_some_and(Conn::is_flushed) {
            let room = self.room(ledger);
            let whole =
                self.identifiers.as_ref().map_or(self.window, |ids| self.window.min(ids.state.len() - 1));
            if room < (whole / 4).max(1) {
                break;
            }
            let n = room.min((BATCH_BYTES / self.streams[0].template.bytes.len()).max(1));
            sending.out.clear();
            for _ in 0..n {
                self.encode(sending.now, sending);
            }
            if let Some(conn) = &mut self.conn {
                conn.send(sending.out)?;
            }
            self.sent += n as u64;
            total += n as u64;
        }
        Ok(total)
    }

    /// Gives up what is outstanding when nothing has arrived for two seconds although the window is
    /// full; returns the deliveries given up. They still count as lost unless they come.
    pub fn give_up(&mut self, ledger: &Ledger, now: u64) -> u64 {
        let delivered = ledger.delivered(self.index);
        if self.progress.0 != delivered || self.outstanding(ledger) == 0 || self.progress.1 == 0 {
            self.progress = (delivered, now);
        } else if now.saturating_sub(self.progress.1) > STALL && self.room(ledger) == 0 {
            self.progress.1 = now;
            let lost = self.outstanding(ledger);
            self.written_off += lost;
            return lost;
        }
        0
    }

    /// One more message is due at this time (open loop).
    pub fn schedule(&mut self, due: u64) {
        self.due.push_back(due);
    }

    /// Whether messages are due that could not be sent yet.
    pub fn is_behind(&self) -> bool {
        !self.due.is_empty()
    }

    /// Sends what is due, as far as packet identifiers and the socket allow; tells how late each is.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send_due(
        &mut self,
        ledger: &Ledger,
        sending: &mut Sending<'_>,
        mut late: impl FnMut(u64),
    ) -> Result<u64, BenchError> {
        if !self.conn.as_ref().is_some_and(Conn::is_flushed) {
            return Ok(0);
        }
        let n = self.due.len().min(self.room(ledger));
        if n == 0 {
            return Ok(0);
        }
        sending.out.clear();
        for _ in 0..n {
            if let Some(due) = self.due.pop_front() {
                late(sending.now.saturating_sub(due));
                self.encode(due, sending);
            }
        }
        self.sent += n as u64;
        if let Some(conn) = &mut self.conn {
            conn.send(sending.out)?;
        }
        Ok(n as u64)
    }

    #[inline]
    fn encode(&mut self, time: u64, sending: &mut Sending<'_>) {
        let count = self.streams.len();
        let outgoing = &mut self.streams[self.turn];
        self.turn = if self.turn + 1 == count { 0 } else { self.turn + 1 };
        let at = sending.out.len();
        sending.out.extend_from_slice(&outgoing.template.bytes);
        let packet = &mut sending.out[at..];
        if let (Some(ids), Some(id_at)) = (&mut self.identifiers, outgoing.template.id_at) {
            let id = ids.free.pop_front().expect("the caller asked for room");
            ids.state[id as usize] = Await::First;
            packet[id_at..id_at + 2].copy_from_slice(&id.to_be_bytes());
        }
        let stamp = Stamp { stream: outgoing.stream, sequence: outgoing.next, time };
        sending.pattern.write(stamp, &mut packet[outgoing.template.payload_at..]);
        outgoing.next += 1;
    }

    /// Takes what the broker answered.
    ///
    /// # Errors
    /// The connection is gone, or the broker ends it.
    pub fn receive(&mut self, buffer: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<Acknowledged, BenchError> {
        let mut result = Acknowledged::default();
        let Some(conn) = &mut self.conn else { return Ok(result) };
        while let Some(filled) = conn.fill(buffer)? {
            let mut at = 0;
            out.clear();
            while let Some(packet) = wire::cut(&buffer[at..filled.len])? {
                at += packet.bytes.len();
                acknowledge(&mut self.identifiers, packet.first >> 4, packet.body, out, &mut result)?;
            }
            conn.keep(&buffer[at..filled.len]);
            if !out.is_empty() {
                conn.send(out)?;
            }
            if !filled.more {
                break;
            }
        }
        Ok(result)
    }

    /// Messages sent in each of its streams, and messages never acknowledged.
    pub fn totals(&self) -> (Vec<u64>, usize) {
        let unfinished = self.identifiers.as_ref().map_or(0, Identifiers::in_flight);
        (self.streams.iter().map(|outgoing| outgoing.next).collect(), unfinished)
    }
}

#[inline]
fn acknowledge(
    identifiers: &mut Option<Identifiers>,
    packet: u8,
    body: &[u8],
    out: &mut Vec<u8>,
    result: &mut Acknowledged,
) -> Result<(), BenchError> {
    let (expected, next) = match packet {
        kind::PUBACK | kind::PUBREC => {
            (Await::First, if packet == kind::PUBREC { Await::PubComp } else { Await::Nothing })
        }
        kind::PUBCOMP => (Await::PubComp, Await::Nothing),
        kind::DISCONNECT => return Err(BenchError::Closed("of a publisher with DISCONNECT")),
        _ => return Ok(()),
    };
    let (Some(ids), Some((id, reason))) = (identifiers, wire::acknowledgement(body)) else {
        result.faults += 1;
        return Ok(());
    };
    let failed = reason >= 0x80;
    match ids.state.get_mut(id as usize) {
        Some(state) if *state == expected => {
            *state = if failed { Await::Nothing } else { next };
            result.faults += u64::from(failed);
            if *state == Await::Nothing {
                ids.free.push_back(id);
                result.finished += 1;
            } else {
                wire::push_ack(kind::PUBREL, id, out);
            }
        }
        _ => result.faults += 1,
    }
    Ok(())
}
