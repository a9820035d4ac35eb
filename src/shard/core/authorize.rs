//! Who may do what with a topic: the rules of [`crate::auth::access::Policy`], asked at publish, subscribe and
//! delivery. Where there are none, the question is one look at a flag.
use super::input::Flow;
use super::{Action, Core};
use crate::auth::access::{ANSWERS, Access, Judgement, Policy};
use crate::auth::decision::{Answer, ControlRequest, Question, Wish};
use crate::auth::rule::{Operation, RuleName};
use crate::codec::{Publish, QoS, ReasonCode, Subscribe};
use crate::router::Route;
use crate::session::Session;
use crate::session::message::{Message, Publication, SessionKey};
use crate::time::Time;
use crate::topic::parse_shared;
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// The part of the topic space whose messages are for the broker itself.
const CONTROL_TOPICS: &str = "$CONTROL/";
/// Denials that are told one by one in a second; the rest are counted only.
const DENIALS_TOLD: u32 = 10;
/// Milliseconds for which a wish stays denied whose question could not be taken.
const BUSY_MS: u64 = 1000;

/// Something that a client was not allowed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    /// Who, what and with which topic.
    pub wish: Wish,
    /// The rule, in words.
    pub rule: Box<str>,
}

/// Denials that were told in the present second.
#[derive(Default)]
pub(super) struct Denials {
    second: u64,
    told: u32,
}

/// Whether the client may be delivered messages of the topic. A session whose client has not been seen since the
/// broker started keeps everything for it: what it may not read is dropped when it is back.
pub(super) fn may_receive(policy: &Policy, session: &Session, topic: &str) -> bool {
    let nobody = Access::anonymous();
    let access = match &session.access {
        None if session.connection.is_none() => return true,
        None => &nobody,
        Some(access) => access,
    };
    // Nobody else is asked at delivery: who was allowed to subscribe gets what matches.
    !matches!(policy.judge(access, &session.client_id, Operation::Receive, topic), Judgement::Denied(_))
}

impl Core {
    /// New rules: for all that happens from now on. Clients that are banned now are ended.
    pub(super) fn take_policy(&mut self, now: Time, policy: Arc<Policy>) {
        (self.restricts, self.asks) = (policy.restricts(), policy.asks);
        self.policy = policy;
        self.permits.clear();
        self.router.forget_routes();
        let slots: Vec<usize> = self.connections.iter().map(|(slot, _)| slot).collect();
        slots.into_iter().for_each(|slot| self.connections[slot].route = Weak::new());
        self.end_clients(now, |core, session| {
            let user = session.access.as_ref().and_then(|access| access.user.as_deref());
            let connection = session.connection.map(|slot| &core.connections[slot as usize]);
            let address = connection.and_then(|connection| connection.address);
            core.policy.bans.bans(now, &session.client_id, user, address)
        });
    }

    /// Ends the connections of sessions that are chosen, as an administrator would.
    pub(super) fn end_clients(&mut self, now: Time, is_chosen: impl Fn(&Core, &Session) -> bool) {
        let chosen = self.sessions.iter().filter(|(_, session)| is_chosen(self, session));
        let chosen: Vec<u32> = chosen.filter_map(|(_, session)| session.connection).collect();
        for slot in chosen {
            self.disconnect(now, slot, ReasonCode::AdministrativeAction);
        }
    }

    /// Everyone who is interested in the topic and may read it.
    pub(super) fn route(&mut self, topic: &str) -> Rc<Route> {
        let Core { router, sessions, policy, counters, .. } = self;
        if !self.restricts {
            return router.route(topic);
        }
        router.route_for(topic, |session| {
            let is_allowed = may_receive(policy, &sessions[session as usize], topic);
            counters.denied_receive += u64::from(!is_allowed);
            is_allowed
        })
    }

    /// Whether a session may be delivered messages of the topic.
    pub(super) fn may_receive(&mut self, session: u32, topic: &str) -> bool {
        let is_allowed =
            !self.restricts || may_receive(&self.policy, &self.sessions[session as usize], topic);
        self.counters.denied_receive += u64::from(!is_allowed);
        is_allowed
    }

    /// Whether a rule in memory or a remembered answer allows it.
    pub(super) fn may(&self, access: &Access, client_id: &str, operation: Operation, topic: &str) -> bool {
        match self.policy.judge(access, client_id, operation, topic) {
            Judgement::Allowed(_) => true,
            Judgement::Denied(_) => false,
            Judgement::Ask => access.answers.borrow().last(operation, topic).unwrap_or(false),
        }
    }

    /// The whole of a connected client's wish: `None` allowed, else denied or to be asked.
    fn bar(&mut self, now: Time, slot: u32, operation: Operation, topic: &str) -> Option<Barred> {
        let session = &self.sessions[self.connections[slot as usize].session as usize];
        let nobody = Access::anonymous();
        let access = session.access.as_deref().unwrap_or(&nobody);
        let rule = match self.policy.judge(access, &session.client_id, operation, topic) {
            Judgement::Allowed(_) => return None,
            Judgement::Denied(rule) => rule,
            Judgement::Ask => match self.answered(now, slot, access, operation, topic) {
                Some(true) => return None,
                Some(false) => RuleName::Service,
                None => {
                    let (user, client_id) = (access.user.clone(), Box::from(&*session.client_id));
                    let wish = Wish { user, client_id, operation, topic: topic.into() };
                    return Some(Barred::Ask(Box::new(wish)));
                }
            },
        };
        // Told with names and rule, but so many a second only.
        let second = now.0 / 1000;
        if self.denials.second != second {
            self.denials = Denials { second, told: 0 };
        }
        if self.denials.told < DENIALS_TOLD {
            self.denials.told += 1;
            let (user, client_id) = (access.user.clone(), Box::from(&*session.client_id));
            let wish = Wish { user, client_id, operation, topic: topic.into() };
            let denial = Denial { wish, rule: rule.to_string().into() };
            self.actions.push_back(Action::Report(Box::new(denial)));
        }
        Some(Barred::Denied)
    }

    /// What becomes of a PUBLISH that does not go its usual way: it is denied, waits for an answer, or is for the
    /// broker itself. A topic that the connection published to last was allowed then.
    #[inline]
    pub(super) fn bar_publish(
        &mut self,
        now: Time,
        slot: u32,
        topic: &str,
        publish: &Publish<'_>,
    ) -> Option<Flow> {
        if !self.restricts { None } else { self.judge_publish(now, slot, topic, publish) }
    }

    fn judge_publish(&mut self, now: Time, slot: u32, topic: &str, publish: &Publish<'_>) -> Option<Flow> {
        let is_last = |route: Rc<Route>| *route.topic == *topic;
        if !self.policy.asks
            && (self.connections[slot as usize].route.upgrade().is_some_and(is_last)
                || self.was_permitted(slot, topic))
        {
            return None;
        }
        match self.bar(now, slot, Operation::Publish, topic) {
            None if !self.policy.controls.is_empty() && topic.starts_with(CONTROL_TOPICS) => {
                if !self.policy.controls.iter().any(|known| **known == *topic) {
                    return Some(self.refuse_publish(now, slot, publish, ReasonCode::NotAuthorized));
                }
                self.ask_control(slot, topic, publish.payload);
                self.acknowledge_publish(slot, publish, super::publish::Published::Sent);
                Some(Flow::Continue)
            }
            None => {
                if !self.policy.asks {
                    self.note_permit(slot, topic);
                }
                None
            }
            Some(Barred::Ask(wish)) => Some(self.ask_access(slot, wish)),
            Some(Barred::Denied) => {
                self.counters.denied_publish += 1;
                Some(self.refuse_publish(now, slot, publish, ReasonCode::NotAuthorized))
            }
        }
    }

    /// Whether a filter of SUBSCRIBE is denied; for a shared subscription it is the one behind the share name.
    pub(super) fn check_subscribe(&mut self, now: Time, slot: u32, filter: &str) -> Result<(), ReasonCode> {
        if self.restricts && self.bar(now, slot, Operation::Subscribe, filter).is_some() {
            self.counters.denied_subscribe += 1;
            return Err(ReasonCode::NotAuthorized);
        }
        Ok(())
    }

    /// A SUBSCRIBE about which somebody is to be asked first waits.
    pub(super) fn await_subscribe(
        &mut self,
        now: Time,
        slot: u32,
        subscribe: &Subscribe<'_>,
    ) -> Option<Flow> {
        // More questions than answers are remembered would never end: what is not answered then is denied.
        if !self.policy.asks || self.questions_asked(slot) >= ANSWERS - 1 {
            return None;
        }
        for filter in subscribe.filters() {
            let filter = plain_filter(filter.filter);
            let session = &self.sessions[self.connections[slot as usize].session as usize];
            let nobody = Access::anonymous();
            let access = session.access.as_deref().unwrap_or(&nobody);
            let judgement = self.policy.judge(access, &session.client_id, Operation::Subscribe, filter);
            if judgement == Judgement::Ask
                && self.answered(now, slot, access, Operation::Subscribe, filter).is_none()
                && let Some(Barred::Ask(wish)) = self.bar(now, slot, Operation::Subscribe, filter)
            {
                return Some(self.ask_access(slot, wish));
            }
        }
        None
    }

    /// Whether a filter of UNSUBSCRIBE is denied.
    pub(super) fn may_unsubscribe(&mut self, now: Time, slot: u32, filter: &str) -> bool {
        !self.restricts || self.bar(now, slot, Operation::Unsubscribe, plain_filter(filter)).is_none()
    }

    /// Questions that were asked about the packet that is being handled.
    pub(super) fn questions_asked(&self, slot: u32) -> usize {
        self.connections[slot as usize].extras.as_ref().map_or(0, |extras| usize::from(extras.asked))
    }

    /// A packet about which something was asked came to its end.
    pub(super) fn end_questions(&mut self, slot: u32) {
        if self.asks
            && let Some(connection) = self.connections.get_mut(slot as usize)
            && let Some(extras) = &mut connection.extras
        {
            extras.asked = 0;
        }
    }

    /// What was answered, if that still holds. While a packet waits, the answers to it hold until it is done, however
    /// short they last, so that it comes to its end.
    fn answered(
        &self,
        now: Time,
        slot: u32,
        access: &Access,
        operation: Operation,
        topic: &str,
    ) -> Option<bool> {
        let answers = access.answers.borrow();
        match self.questions_asked(slot) {
            0 => answers.at(now, operation, topic),
            _ => answers.last(operation, topic),
        }
    }

    fn ask_access(&mut self, slot: u32, wish: Box<Wish>) -> Flow {
        let conn = self.id(slot);
        let extras = self.connections[slot as usize].extras();
        extras.wish = Some(wish.clone());
        extras.asked += 1;
        self.actions.push_back(Action::Ask { conn, question: Question::Access(wish) });
        Flow::Again
    }

    fn ask_control(&mut self, slot: u32, topic: &str, payload: &[u8]) {
        let conn = self.id(slot);
        let session = &self.sessions[self.connections[slot as usize].session as usize];
        let user = session.access.as_ref().and_then(|access| access.user.clone());
        let client_id = Box::from(&*session.client_id);
        let request = ControlRequest { user, client_id, topic: topic.into(), payload: payload.into() };
        self.actions.push_back(Action::Ask { conn, question: Question::Control(Box::new(request)) });
    }

    /// An answer for a connected client.
    pub(super) fn take_answer(&mut self, now: Time, slot: u32, answer: Answer) {
        match answer {
            Answer::Access { wish, allowed, lasts_ms } => {
                self.decide_wish(now, slot, &wish, allowed, lasts_ms)
            }
            Answer::Control { topic, payload } => {
                let publication = Publication::new(
                    &topic,
                    &[],
                    &payload,
                    QoS::AtMostOnce,
                    false,
                    Time::NEVER,
                    SessionKey::BROKER,
                    None,
                );
                let session = self.connections[slot as usize].session;
                self.deliver(now, session, &publication, QoS::AtMostOnce, false, &[], None);
            }
            Answer::Busy(wish) => {
                self.counters.questions_refused += 1;
                if let Some(wish) = wish {
                    self.decide_wish(now, slot, &wish, false, BUSY_MS);
                }
            }
            Answer::Login(..) => {}
        }
    }

    /// The packet that waited for it goes on.
    fn decide_wish(&mut self, now: Time, slot: u32, wish: &Wish, allowed: bool, lasts_ms: u64) {
        let connection = &mut self.connections[slot as usize];
        if connection.extras().wish.as_deref() != Some(wish) {
            return;
        }
        connection.extras().wish = None;
        let session = &mut self.sessions[connection.session as usize];
        let access = session.access.get_or_insert_with(|| Rc::new(Access::anonymous()));
        let until = now + lasts_ms.max(1);
        access.answers.borrow_mut().insert(wish.operation, &wish.topic, allowed, until);
        self.go_on(now, slot);
    }

    /// The client of a session is back, perhaps with other rights: what is queued for it that it may not read (any
    /// more) is dropped.
    pub(super) fn drop_unreadable(&mut self, session: u32) {
        if !self.restricts {
            return;
        }
        let mut stored = Vec::new();
        let Core { sessions, policy, counters, .. } = self;
        let entry = &mut sessions[session as usize];
        let Some(mut outgoing) = entry.outgoing.take() else { return };
        let is_denied = |message: &Message| !may_receive(policy, entry, message.topic());
        counters.denied_receive +=
            outgoing.drop_queued(is_denied, &mut |delivery| stored.extend(delivery.stored()));
        entry.outgoing = Some(outgoing);
        stored.into_iter().for_each(|stored| self.store_finished(session, stored));
        self.refill(session);
    }
}

/// Why something does not go its usual way.
enum Barred {
    Denied,
    Ask(Box<Wish>),
}

/// The filter that topics are matched against.
fn plain_filter(filter: &str) -> &str {
    match parse_shared(filter, usize::MAX) {
        Ok(Some(shared)) => shared.filter,
        _ => filter,
    }
}
