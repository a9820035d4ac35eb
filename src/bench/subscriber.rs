//! One subscribing connection: verifies what arrives and acknowledges it.
use super::conn::Conn;
use super::error::BenchError;
use super::ledger::ThreadCounters;
use super::payload::Pattern;
use super::verify::Verifier;
use super::wire::{self, kind};
use crate::codec::Version;
use hdrhistogram::Histogram;

/// One subscriber.
pub struct Subscriber {
    /// Its number in the plan.
    pub index: usize,
    /// Its connection, until that ends.
    pub conn: Option<Conn>,
    /// Checks its deliveries.
    pub verifier: Verifier,
}

/// What a thread lends to its subscribers while they receive.
pub struct Receiving<'a> {
    /// Protocol version.
    pub version: Version,
    /// Verifies payloads.
    pub pattern: &'a Pattern,
    /// Topic of every stream.
    pub topics: &'a [String],
    /// Topics of each publisher.
    pub topics_each: usize,
    /// The thread's counters.
    pub counters: &'a ThreadCounters,
    /// Latencies of the measured window.
    pub latency: &'a mut Histogram<u64>,
    /// The measured window: send times from, to.
    pub measured: (u64, u64),
    /// Acknowledgements on their way out.
    pub out: &'a mut Vec<u8>,
}

/// Deliveries in a row with the same stream and time, accounted together.
#[derive(Default)]
struct Run {
    stream: u32,
    time: u64,
    count: u64,
}

impl Run {
    #[inline]
    fn account(&mut self, now: u64, receiving: &mut Receiving<'_>) {
        if self.count > 0 {
            let publisher = self.stream as usize / receiving.topics_each;
            receiving.counters.delivered[publisher].add(self.count);
            if (receiving.measured.0..receiving.measured.1).contains(&self.time) {
                receiving.latency.saturating_record_n(now.saturating_sub(self.time).max(1), self.count);
            }
            self.count = 0;
        }
    }
}

impl Subscriber {
    /// Reads until nothing is left, verifies and acknowledges. `now` tells the time.
    ///
    /// # Errors
    /// The connection is gone, or the broker ends it.
    pub fn receive(
        &mut self,
        buffer: &mut Vec<u8>,
        receiving: &mut Receiving<'_>,
        now: impl Fn() -> u64,
    ) -> Result<(), BenchError> {
        let Some(conn) = &mut self.conn else { return Ok(()) };
        while let Some(filled) = conn.fill(buffer)? {
            let before = self.verifier.findings;
            receiving.out.clear();
            let end = take(&mut self.verifier, &buffer[..filled.len], receiving, now())?;
            conn.keep(&buffer[end..filled.len]);
            if !receiving.out.is_empty() {
                conn.send(receiving.out)?;
            }
            let after = &self.verifier.findings;
            receiving.counters.received.add(after.received - before.received);
            if after.faults() != before.faults() {
                receiving.counters.faults.add(after.faults().saturating_sub(before.faults()));
            }
            if !filled.more {
                break;
            }
        }
        Ok(())
    }
}

/// Takes every whole packet of a buffer; returns where the incomplete one begins.
fn take(
    verifier: &mut Verifier,
    bytes: &[u8],
    receiving: &mut Receiving<'_>,
    now: u64,
) -> Result<usize, BenchError> {
    let mut at = 0;
    let mut run = Run::default();
    while let Some(packet) = wire::cut(&bytes[at..])? {
        at += packet.bytes.len();
        match packet.first >> 4 {
            kind::PUBLISH => {
                let Some(message) = wire::publish(receiving.version, packet.first, packet.body) else {
                    verifier.findings.corrupt += 1;
                    continue;
                };
                match message.qos {
                    0 => {}
                    1 => wire::push_ack(kind::PUBACK, message.id, receiving.out),
                    _ => wire::push_ack(kind::PUBREC, message.id, receiving.out),
                }
                let Some(stamp) = verifier.check(receiving.pattern, receiving.topics, &message) else {
                    continue;
                };
                if stamp.stream != run.stream || stamp.time != run.time {
                    run.account(now, receiving);
                    run = Run { stream: stamp.stream, time: stamp.time, count: 0 };
                }
                run.count += 1;
            }
            kind::PUBREL => match wire::acknowledgement(packet.body) {
                Some((id, _)) => wire::push_ack(kind::PUBCOMP, id, receiving.out),
                None => verifier.findings.corrupt += 1,
            },
            kind::DISCONNECT => return Err(BenchError::Closed("of a subscriber with DISCONNECT")),
            _ => {}
        }
    }
    run.account(now, receiving);
    Ok(at)
}
