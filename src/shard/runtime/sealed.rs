//! Connections with a transport between the socket and the core: TLS, WebSocket, a proxy's header.
use super::Shard;
use crate::auth::Origin;
use crate::net::accept;
use crate::net::connections::Connections;
use crate::net::event::Input;
use crate::net::handoff::Accepted;
use crate::net::send::Sent;
use crate::net::transport::{Flow, Sink};
use crate::net::transports::Transports;
use crate::shard::core::{CloseCause, ConnId, Core};
use crate::shard::output::Output;
use crate::time::Time;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Time of one turn for handshakes that compute; connections that come later wait for the next turn, so that those
/// which are open already keep their latency.
const HANDSHAKES_PER_TURN: Duration = Duration::from_micros(500);

/// Hands on to the core what comes out of a transport.
struct ToCore<'a> {
    core: &'a mut Core,
    conn: ConnId,
    now: Time,
    /// Something was handed on: the rest came with it.
    is_begun: bool,
}

impl Sink for ToCore<'_> {
    fn learn(&mut self, origin: Origin) {
        self.core.handle_origin(self.now, self.conn, origin);
    }
    fn take(&mut self, plain: &[u8]) {
        if std::mem::replace(&mut self.is_begun, true) {
            self.core.handle_more_bytes(self.now, self.conn, plain);
        } else {
            self.core.handle_bytes(self.now, self.conn, plain);
        }
    }
}

impl Shard {
    /// A listener accepted a socket. At the limits of connections, and when the broker stops, it is closed here.
    pub(super) fn take_accepted(&mut self, socket: OwnedFd, listener: u16) {
        if !self.connections.admit(listener, self.limits.max_connections, self.now) {
            return;
        }
        let origin = accept::origin(&socket, listener);
        let door = self.connections.door(listener).state();
        if !door.awaits_address(&origin) && !self.core.may_come(self.now, &origin) {
            self.too_fast.say(self.now, || {
                let from = origin.peer.map_or_else(String::new, |peer| peer.ip().to_string());
                format!(
                    "connections from {from} come faster than max-connection-rate-per-address and are closed"
                )
            });
            return self.connections.leave(listener);
        }
        // Its error is one of our own settings, which were tried at start.
        let Ok(transport) = door.transport(&origin) else {
            return self.connections.leave(listener);
        };
        let origin = match &transport {
            Some(transport) if transport.awaits_address() => Origin { peer: None, ..origin },
            _ => origin,
        };
        match self.core.handle_accept(self.now, origin) {
            Some(conn) => {
                adopt(
                    &mut self.connections,
                    &mut self.transports,
                    conn,
                    Accepted { socket, listener, transport },
                );
            }
            None => self.connections.leave(listener),
        }
    }

    /// Bytes of a connection that has a transport.
    pub(super) fn take_sealed(&mut self, conn: ConnId, input: Input) {
        let is_late = self.handshake_time >= HANDSHAKES_PER_TURN;
        let bytes = self.connections.bytes(&input);
        match self.transports.get(conn) {
            Some((transport, _)) if is_late && transport.is_handshaking() => {
                self.transports.park(conn, bytes);
                self.connections.recycle(input);
                self.connections.pause(conn);
            }
            _ => {
                let flow = receive(
                    &mut self.core,
                    &mut self.transports,
                    conn,
                    bytes,
                    self.now,
                    &mut self.handshake_time,
                );
                self.connections.recycle(input);
                self.go_on(conn, flow);
            }
        }
    }

    /// Handshakes that had to wait, as many as this turn has time for.
    pub(super) fn take_parked(&mut self) {
        while self.handshake_time < HANDSHAKES_PER_TURN
            && let Some((conn, bytes)) = self.transports.unpark()
        {
            // First, since these bytes may hold a CONNECT, for which the core pauses the connection.
            self.connections.resume(conn);
            let Shard { core, transports, handshake_time, now, .. } = self;
            let flow = receive(core, transports, conn, &bytes, *now, handshake_time);
            self.go_on(conn, flow);
        }
    }

    /// Sends what the transport answered, and ends what it does not want to go on with.
    fn go_on(&mut self, conn: ConnId, flow: Flow) {
        self.act();
        match flow {
            Flow::Open => self.send_answers(conn),
            // What the core has not handled yet comes first.
            Flow::Ended if self.connections.end_when_resumed(conn) => {}
            Flow::Ended => self.end_sealed(conn, CloseCause::Eof),
            Flow::Failed(why) => {
                if let Some((transport, _)) = self.transports.get(conn) {
                    self.chronicle.transport_failed(transport.origin(), &why, self.now);
                }
                self.end_sealed(conn, CloseCause::Error);
            }
        }
    }

    /// Ends a connection whose transport came to an end.
    fn end_sealed(&mut self, conn: ConnId, cause: CloseCause) {
        let Some(transport) = self.transports.remove(conn) else { return };
        let output = self.core.output(conn).map(std::mem::take).unwrap_or_default();
        let last = transport.finish(output, &mut self.transports.scratch);
        self.core.handle_close(self.now, conn, cause);
        self.connections.close(conn, last, self.now);
        self.act();
    }

    /// Sends what a transport has to send beside the core's output.
    pub(super) fn send_answers(&mut self, conn: ConnId) {
        if let Some((transport, _)) = self.transports.get(conn)
            && !transport.wire().is_empty()
        {
            self.send(conn);
        }
    }
}

/// Registers a socket, with its transport if it has one.
pub(super) fn adopt(
    connections: &mut Connections,
    transports: &mut Transports,
    conn: ConnId,
    accepted: Accepted,
) {
    let Accepted { socket, listener, transport } = accepted;
    connections.adopt(conn, socket, listener, transport.is_some());
    if let Some(transport) = transport {
        if transport.has_ended {
            connections.end_adopted(conn);
        }
        transports.insert(conn, transport);
    }
}

/// Gives received bytes to a connection's transport, and adds the time of a handshake to `spent`.
fn receive(
    core: &mut Core,
    transports: &mut Transports,
    conn: ConnId,
    bytes: &[u8],
    now: Time,
    spent: &mut Duration,
) -> Flow {
    let Some((transport, scratch)) = transports.get(conn) else { return Flow::Open };
    let begun = transport.is_handshaking().then(Instant::now);
    let flow = transport.receive(bytes, scratch, &mut ToCore { core, conn, now, is_begun: false });
    transport.has_ended |= flow == Flow::Ended;
    *spent += begun.map_or(Duration::ZERO, |begun| begun.elapsed());
    flow
}

/// Sends as much of `output` as goes through the transport and into the socket.
pub(super) fn send_sealed(
    connections: &mut Connections,
    transports: &mut Transports,
    conn: ConnId,
    output: &mut Output,
) -> Sent {
    let Some((transport, scratch)) = transports.get(conn) else { return Sent::Broken };
    loop {
        if let Some(announced) = transport.announce(output, scratch) {
            let before = output.len();
            let sent = connections.send_both(conn, transport.wire(), output, announced);
            if sent == Sent::Broken {
                return sent;
            }
            transport.follow(before - output.len());
            if sent == Sent::Blocked {
                return sent;
            }
            if output.is_empty() && transport.wire().is_empty() {
                transport.drained(scratch);
                return sent;
            }
            continue;
        }
        if !transport.wire().is_empty() {
            let sent = connections.send(conn, transport.wire());
            if sent == Sent::Broken {
                output.advance(output.len());
            }
            if sent != Sent::All {
                return sent;
            }
        }
        if output.is_empty() {
            transport.drained(scratch);
            return Sent::All;
        }
        if !transport.seal(output, scratch) {
            // The core says nothing before CONNECT, so the handshake is over: the transport carries nothing any more.
            transport.drained(scratch);
            output.advance(output.len());
            return Sent::Broken;
        }
    }
}
