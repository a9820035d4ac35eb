//! Publishing a given number of messages, and collecting a given number of deliveries.
use super::conn::Conn;
use super::error::BenchError;
use super::ledger::ThreadCounters;
use super::open::{Client, Filters, Opened, Pacing, Spec, Target, open_all};
use super::payload::{Pattern, Stamp};
use super::poll::{Poll, Ready};
use super::subscriber::{Receiving, Subscriber};
use super::wire::{self, PINGREQ, Template, kind};
use super::worker::histogram;
use std::time::{Duration, Instant};

/// Longest wait for one acknowledgement.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest single wait for sockets.
const TICK: Duration = Duration::from_millis(100);

/// Opens one connection.
///
/// # Errors
/// It could not be opened.
pub fn open_one(target: &Target, client: Client, filters: Filters, qos: u8) -> Result<Opened, BenchError> {
    let mut opened = None;
    let spec = Spec { tag: 0, client, filters, qos };
    open_all(target, Pacing { at_once: 1, rate: None }, std::iter::once(spec), |one| {
        opened = Some(one?);
        Ok(())
    })?;
    opened.ok_or(BenchError::Closed("while it was opened"))
}

/// What is published, one message after the other, each on its topic.
pub struct Outbox<'a> {
    /// QoS of the publishes.
    pub qos: u8,
    /// Messages under way at the same time.
    pub window: usize,
    /// How many messages.
    pub count: usize,
    /// Writes message `n` except for its identifier.
    pub write: &'a mut dyn FnMut(usize) -> Template,
}

/// Publishes everything and waits for every acknowledgement; at QoS 0 a PINGREQ behind each window
/// stands for them. Returns how many were refused.
///
/// # Errors
/// The connection ended, or an acknowledgement did not come within 30 s.
pub fn publish_all(opened: Opened, outbox: Outbox<'_>) -> Result<u64, BenchError> {
    let mut conn = opened.conn;
    let window = outbox.window.clamp(1, usize::from(opened.receive_maximum));
    let mut poll = Poll::new()?;
    poll.add(conn.stream(), 0)?;
    let (mut sent, mut refused, mut under_way) = (0, 0, 0_usize);
    let (mut buffer, mut out, mut ready) = (Vec::new(), Vec::new(), Vec::<Ready>::new());
    let mut progress = Instant::now();
    let mut next_id = 1_u16;
    while sent < outbox.count || under_way > 0 {
        out.clear();
        while conn.is_flushed() && sent < outbox.count && under_way < window {
            let mut template = (outbox.write)(sent);
            if let Some(at) = template.id_at {
                template.bytes[at..at + 2].copy_from_slice(&next_id.to_be_bytes());
                next_id = next_id.checked_add(1).unwrap_or(1);
            }
            out.extend_from_slice(&template.bytes);
            sent += 1;
            under_way += 1;
            if outbox.qos == 0 && (under_way == window || sent == outbox.count) {
                out.extend_from_slice(&PINGREQ);
            }
        }
        if !out.is_empty() {
            conn.send(&out)?;
        }
        ready.clear();
        poll.wait(TICK, &mut ready)?;
        if ready.is_empty() && progress.elapsed() > PATIENCE {
            return Err(BenchError::Timeout {
                what: "waiting for acknowledgements",
                seconds: PATIENCE.as_secs(),
            });
        }
        conn.flush()?;
        while let Some(filled) = conn.fill(&mut buffer)? {
            progress = Instant::now();
            let mut at = 0;
            out.clear();
            while let Some(packet) = wire::cut(&buffer[at..filled.len])? {
                at += packet.bytes.len();
                let (id, reason) = wire::acknowledgement(packet.body).unwrap_or((0, 0));
                match packet.first >> 4 {
                    kind::PINGRESP => under_way = 0,
                    kind::PUBREC if reason < 0x80 => wire::push_ack(kind::PUBREL, id, &mut out),
                    kind::PUBACK | kind::PUBREC | kind::PUBCOMP => {
                        under_way = under_way
                            .checked_sub(1)
                            .ok_or(BenchError::Protocol("an acknowledgement of nothing"))?;
                        refused += u64::from(reason >= 0x80);
                    }
                    kind::DISCONNECT => return Err(BenchError::Closed("of a publisher with DISCONNECT")),
                    _ => {}
                }
            }
            conn.keep(&buffer[at..filled.len]);
            if !out.is_empty() {
                conn.send(&out)?;
            }
        }
    }
    conn.send(&wire::DISCONNECT)?;
    Ok(refused)
}

/// A packet with a verified payload, for [`Outbox::write`].
pub fn stamped(mut template: Template, pattern: &Pattern, stamp: Stamp) -> Template {
    let payload_at = template.payload_at;
    pattern.write(stamp, &mut template.bytes[payload_at..]);
    template
}

/// Receives until `total` deliveries are there or none came for `quiet`; returns how long it took
/// to the last one, and how many connections ended.
///
/// # Errors
/// What is not about one connection.
pub fn collect(
    target: &Target,
    subscribers: &mut [Subscriber],
    pattern: &Pattern,
    topics: &[String],
    total: u64,
    quiet: Duration,
) -> Result<(Duration, u64), BenchError> {
    let mut poll = Poll::new()?;
    for (token, subscriber) in subscribers.iter().enumerate() {
        if let Some(conn) = &subscriber.conn {
            poll.add(conn.stream(), token as u64)?;
        }
    }
    let counters =
        ThreadCounters { delivered: Box::new([super::ledger::Counter::default()]), ..Default::default() };
    let (mut latency, mut out, mut buffer) = (histogram(), Vec::new(), Vec::new());
    let mut receiving = Receiving {
        version: target.version,
        pattern,
        topics,
        topics_each: topics.len(),
        counters: &counters,
        latency: &mut latency,
        measured: (0, 0),
        out: &mut out,
    };
    let begin = Instant::now();
    let (mut last, mut closed) = ((0, begin), 0);
    // The first turn takes what came with the answer to CONNECT: no event will tell of it.
    let mut ready: Vec<Ready> = (0..subscribers.len())
        .map(|token| Ready { token: token as u64, readable: true, writable: true })
        .collect();
    loop {
        for event in &ready {
            let subscriber = &mut subscribers[event.token as usize];
            let flushed = subscriber.conn.as_mut().map_or(Ok(()), Conn::flush);
            let result = flushed.and_then(|()| subscriber.receive(&mut buffer, &mut receiving, || 0));
            if result.is_err() && subscriber.conn.take().is_some() {
                closed += 1;
            }
        }
        let received = counters.received.get();
        if received > last.0 {
            last = (received, Instant::now());
        }
        if received >= total || last.1.elapsed() > quiet {
            return Ok((last.1 - begin, closed));
        }
        ready.clear();
        poll.wait(TICK, &mut ready)?;
    }
}
