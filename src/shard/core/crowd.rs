//! Bounds on the connections of one address and of one user.
use super::Core;
use crate::auth::Origin;
use crate::auth::access::Access;
use crate::auth::crowd::{Member, Seat};
use crate::time::Time;

/// What a connection takes up, where that is bounded; free again when the connection is forgotten.
#[derive(Default, Debug)]
pub(super) struct Seats {
    pub address: Option<Seat>,
    pub user: Option<Seat>,
}

/// There are as many connections as there may be.
pub(super) struct Crowded;

impl Core {
    /// A place for a connection from there, if such are counted.
    pub(super) fn seat_at(&mut self, origin: &Origin) -> Result<Option<Seat>, Crowded> {
        let number = self.profiles.number(Some(origin.listener), None);
        let most = self.profiles[number].limits.max_connections_per_address;
        let Some(peer) = origin.peer.filter(|_| most > 0) else { return Ok(None) };
        self.seated(Member::at(peer.ip()), most).map(Some)
    }

    /// Whether a connection from there comes no faster than others before it allow. Asked before anything is made for it,
    /// or as soon as a proxy has told where it comes from.
    pub fn may_come(&mut self, now: Time, origin: &Origin) -> bool {
        let number = self.profiles.number(Some(origin.listener), None);
        let limits = &self.profiles[number].limits;
        let (rate, burst) = (limits.max_connection_rate_per_address, limits.connection_burst_per_address);
        let Some(peer) = origin.peer.filter(|_| rate > 0) else { return true };
        let may_come = self.policy.crowd.admits(now, peer.ip(), rate, burst);
        self.counters.refused_too_fast += u64::from(!may_come);
        may_come
    }

    fn seated(&mut self, member: Member, most: u32) -> Result<Seat, Crowded> {
        let seat = self.policy.crowd.seat(member, most);
        self.counters.refused_crowded += u64::from(seat.is_none());
        seat.ok_or(Crowded)
    }

    /// A connection comes from somewhere else than was thought, for the transport knows more by now.
    pub(super) fn reseat(&mut self, slot: u32, origin: &Origin) -> Result<(), Crowded> {
        let known = self.connections[slot as usize].extras().seats.as_mut();
        let seat = known.and_then(|seats| seats.address.take());
        let member = origin.peer.map(|peer| Member::at(peer.ip()));
        let seat = match seat.filter(|seat| Some(&seat.member) == member.as_ref()) {
            Some(seat) => Some(seat),
            None => self.seat_at(origin)?,
        };
        self.take_seat(slot, seat);
        Ok(())
    }

    /// A connection takes its place.
    pub(super) fn take_seat(&mut self, slot: u32, seat: Option<Seat>) {
        if let Some(seat) = seat {
            self.connections[slot as usize].extras().seats.get_or_insert_default().address = Some(seat);
        }
    }

    /// A client is about to be let in as this user. Whoever takes over a connection of the same user takes its place.
    pub(super) fn seat_user(
        &mut self,
        slot: u32,
        client_id: &str,
        access: Option<&Access>,
    ) -> Result<(), Crowded> {
        let most = self.limits_of(slot).max_connections_per_user;
        let Some(user) = access.and_then(|access| access.user.as_deref()).filter(|_| most > 0) else {
            return Ok(());
        };
        let member = Member::User(user.into());
        let before =
            self.find_session(client_id).and_then(|session| self.sessions[session as usize].connection);
        let seats = before.and_then(|before| self.connections[before as usize].extras().seats.as_mut());
        let inherited = seats.and_then(|seats| seats.user.take_if(|seat| seat.member == member));
        let seat = match inherited {
            Some(seat) => seat,
            None => self.seated(member, most)?,
        };
        self.connections[slot as usize].extras().seats.get_or_insert_default().user = Some(seat);
        Ok(())
    }
}
