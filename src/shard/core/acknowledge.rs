//! PUBACK, PUBREC, PUBREL and PUBCOMP from a client.
use super::Core;
use crate::codec::{Ack, PacketType, ReasonCode};
use crate::session::outgoing::Acknowledged;
use crate::time::Time;

impl Core {
    /// QoS 1 towards the client is finished, whatever the code says ([MQTT-4.4.0-2], [MQTT-4.8.2-6]).
    pub(super) fn handle_puback(&mut self, now: Time, slot: u32, ack: &Ack<'_>) {
        let session_slot = self.connections[slot as usize].session;
        let session = &mut self.sessions[session_slot as usize];
        let Some(outgoing) = &mut session.outgoing else { return };
        let stored = if session.is_stored { outgoing.stored(ack.packet_id) } else { None };
        let is_finished = outgoing.handle_puback(ack.packet_id) == Acknowledged::Finished;
        let goes_on = is_finished && (outgoing.has_waiting() || session.scans > 0);
        if let Some(stored) = stored.filter(|_| is_finished) {
            self.store_finished(session_slot, stored);
        }
        if goes_on {
            self.pump_more(now, slot);
        }
    }

    /// QoS 2 towards the client, first half. An unknown id is released, so that the client does not wait for it.
    pub(super) fn handle_pubrec(&mut self, now: Time, slot: u32, ack: &Ack<'_>) {
        let session_slot = self.connections[slot as usize].session;
        let session = &mut self.sessions[session_slot as usize];
        let outgoing = session.outgoing.as_ref().filter(|_| session.is_stored);
        let stored = outgoing.and_then(|outgoing| outgoing.stored(ack.packet_id));
        let refused = ack.reason.is_error();
        let acknowledged = session
            .outgoing
            .as_mut()
            .map_or(Acknowledged::Unknown, |outgoing| outgoing.handle_pubrec(ack.packet_id, refused));
        match acknowledged {
            Acknowledged::Release => {
                if let Some(stored) = stored {
                    self.store_released(slot, stored, ack.packet_id);
                }
                self.write_ack(slot, PacketType::PubRel, ack.packet_id, ReasonCode::Success)
            }
            Acknowledged::Finished => {
                if let Some(stored) = stored {
                    self.store_finished(session_slot, stored);
                }
                self.pump_more(now, slot);
            }
            Acknowledged::Unknown if refused => {}
            Acknowledged::Unknown => {
                self.write_ack(slot, PacketType::PubRel, ack.packet_id, ReasonCode::PacketIdentifierNotFound);
            }
        }
    }

    /// QoS 2 towards the client, second half.
    pub(super) fn handle_pubcomp(&mut self, now: Time, slot: u32, ack: &Ack<'_>) {
        let session_slot = self.connections[slot as usize].session;
        let session = &mut self.sessions[session_slot as usize];
        let Some(outgoing) = &mut session.outgoing else { return };
        let stored = if session.is_stored { outgoing.stored(ack.packet_id) } else { None };
        if outgoing.handle_pubcomp(ack.packet_id) == Acknowledged::Finished {
            if let Some(stored) = stored {
                self.store_finished(session_slot, stored);
            }
            self.pump_more(now, slot);
        }
    }

    /// QoS 2 from the client, second half ([MQTT-4.3.3-11]).
    pub(super) fn handle_pubrel(&mut self, slot: u32, ack: &Ack<'_>) {
        let session = &mut self.sessions[self.connections[slot as usize].session as usize];
        let known = session.incoming.as_mut().is_some_and(|incoming| incoming.release(ack.packet_id));
        let reason = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        if self.store.is_some() {
            if known {
                self.store_incoming_released(slot, ack.packet_id);
            }
            self.gate_if_stored(slot);
        }
        self.write_ack(slot, PacketType::PubComp, ack.packet_id, reason);
    }

    /// The window has room again, perhaps for something that waits.
    pub(super) fn pump_waiting(&mut self, now: Time, slot: u32) {
        let session = &self.sessions[self.connections[slot as usize].session as usize];
        let has_waiting = session.outgoing.as_ref().is_some_and(|outgoing| outgoing.has_waiting());
        if has_waiting || session.scans > 0 {
            self.pump_more(now, slot);
        }
    }

    /// The window has room again.
    pub(super) fn pump_more(&mut self, now: Time, slot: u32) {
        self.pump(now, slot);
        self.continue_scans(now, slot);
    }
}
