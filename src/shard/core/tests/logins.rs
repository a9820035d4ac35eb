//! Who is let in, where that takes a while.
use super::*;

/// CONNECT with a user name.
fn login(client_id: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let connect = Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive: 0,
        client_id,
        will: None,
        username: Some("ann"),
        password: Some(b"secret"),
        properties: ConnectProperties::default(),
    };
    connect.encode(Version::V5, &mut bytes);
    bytes
}

/// A core that has credentials verified, with a client that waits for its answer.
fn asking() -> (Broker, ConnId) {
    let policy =
        Policy { verifies: true, door: Door { anonymous: false, identity: false }, ..Policy::default() };
    let mut broker = Broker::with_policy(1, Limits::default(), policy);
    let core = &mut broker.0[0];
    let conn = core.handle_accept(NOW, Origin::default()).expect("room");
    core.handle_bytes(NOW, conn, &login("a"));
    assert_eq!(core.poll_action(), Some(Action::Established { conn }));
    assert_eq!(core.poll_action(), Some(Action::Pause { conn }));
    match core.poll_action() {
        Some(Action::Ask { conn: asked, question: Question::Login(login) }) => {
            assert_eq!((asked, login.user.as_deref()), (conn, Some("ann")));
        }
        other => panic!("{other:?}"),
    }
    (broker, conn)
}

#[test]
fn a_connect_waits_unread_for_its_answer() {
    let (mut broker, conn) = asking();
    let core = &mut broker.0[0];
    // What was on its way before the pause.
    core.handle_bytes(NOW, conn, b"\xc0\x00");
    assert!(core.output(conn).expect("alive").is_empty());
    core.handle_answer(NOW, conn, Answer::Login(Ok(Grant::user("ann")), 0));
    assert_eq!(core.poll_action(), Some(Action::Resume { conn }));
    assert_eq!(core.counters().clients_connected, 1);
    let output = core.output(conn).and_then(|output| output.single()).expect("CONNACK and PINGRESP");
    assert!(output.starts_with(b"\x20") && output.ends_with(b"\xd0\x00"), "{output:02x?}");
    core.handle_close(NOW, conn, CloseCause::Eof);
    core.audit().check_empty();
}

#[test]
fn a_connect_that_cannot_be_asked_about_is_refused() {
    for (answer, reason) in
        [(Answer::Busy(None), 0x88), (Answer::Login(Err(ReasonCode::BadUserNameOrPassword), 0), 0x86)]
    {
        let (mut broker, conn) = asking();
        let core = &mut broker.0[0];
        core.handle_answer(NOW, conn, answer);
        assert_eq!(core.poll_action(), Some(Action::Close { conn }));
        let output = core.take_output(conn);
        assert_eq!(output.single().map(|connack| connack[3]), Some(reason));
        core.audit().check_empty();
    }
}

#[test]
fn a_login_that_was_looked_at_before_passwords_changed_is_looked_at_again() {
    let of = |generation| {
        let policy = Policy { verifies: true, generation, ..Policy::default() };
        Command::Policy(Arc::new(policy))
    };
    let asked = |core: &mut Core| match core.poll_action() {
        Some(Action::Ask { question: Question::Login(login), .. }) => login.user.as_deref() == Some("ann"),
        _ => false,
    };
    for decision in [Ok(Grant::user("ann")), Err(ReasonCode::BadUserNameOrPassword)] {
        let (mut broker, conn) = asking();
        let core = &mut broker.0[0];
        core.handle_command(NOW, of(1));
        core.handle_answer(NOW, conn, Answer::Login(decision.clone(), 0));
        assert!(asked(core) && core.poll_action().is_none());
        assert_eq!(core.counters().clients_connected, 0);
        core.handle_answer(NOW, conn, Answer::Login(decision.clone(), 1));
        assert_eq!(core.counters().clients_connected, u64::from(decision.is_ok()));
        assert_eq!(core.counters().logins_refused, u64::from(decision.is_err()));
    }
    // It comes to an end, however often they change.
    let (mut broker, conn) = asking();
    let core = &mut broker.0[0];
    let mut questions = 0;
    for generation in 1.. {
        core.handle_command(NOW, of(generation));
        core.handle_answer(NOW, conn, Answer::Login(Ok(Grant::user("ann")), generation - 1));
        if !asked(core) {
            break;
        }
        questions += 1;
    }
    let output = core.take_output(conn);
    assert_eq!((questions, output.single().map(|connack| connack[3])), (3, Some(0x88)));
    core.audit().check_empty();
}

#[test]
fn an_exchange_that_passwords_change_in_does_not_let_in() {
    for is_changed in [false, true] {
        let mut broker = Broker::new(1, Limits::default());
        let core = &mut broker.0[0];
        let conn = core.handle_accept(NOW, Origin::default()).expect("room");
        let properties = ConnectProperties {
            authentication_method: Some("RINGMQ-TEST"),
            authentication_data: Some(b"hello"),
            ..ConnectProperties::default()
        };
        core.handle_bytes(NOW, conn, &connect("a", properties));
        if is_changed {
            let policy = Policy { generation: 1, methods: core.policy.methods.clone(), ..Policy::default() };
            core.handle_command(NOW, Command::Policy(Arc::new(policy)));
        }
        let mut answer = Vec::new();
        let data = Some(&b"response"[..]);
        crate::codec::Auth::new(ReasonCode::ContinueAuthentication, "RINGMQ-TEST", data)
            .encode(Version::V5, &mut answer);
        core.handle_bytes(NOW, conn, &answer);
        assert_eq!(core.counters().clients_connected, u64::from(!is_changed));
    }
}

#[test]
fn an_answer_that_comes_too_late_is_nobodys() {
    let (mut broker, conn) = asking();
    let core = &mut broker.0[0];
    core.handle_deadlines(NOW + Limits::default().connect_timeout_ms);
    assert_eq!(core.poll_action(), Some(Action::Close { conn }));
    let output = core.take_output(conn);
    assert_eq!(output.single().map(|connack| connack[3]), Some(0x88), "server unavailable");
    let other = core.handle_accept(NOW, Origin::default()).expect("room");
    core.handle_answer(NOW, conn, Answer::Login(Ok(Grant::user("ann")), 0));
    assert!(core.poll_action().is_none() && core.output(other).expect("alive").is_empty());
    core.handle_close(NOW, other, CloseCause::Eof);
    core.audit().check_empty();
}

#[test]
fn the_name_in_a_certificate_is_the_user_and_without_one_nobody_comes_in() {
    let door = Door { anonymous: true, identity: true };
    let policy = Policy { doors: vec![door], ..Policy::default() };
    for identity in [Some("gateway"), None] {
        let mut broker = Broker::with_policy(1, Limits::default(), policy.clone());
        let core = &mut broker.0[0];
        let origin = Origin { identity: identity.map(Box::from), ..Origin::default() };
        let conn = core.handle_accept(NOW, origin).expect("room");
        core.handle_bytes(NOW, conn, &login("a"));
        let user = core.sessions.iter().next().and_then(|(_, session)| session.access.clone()?.user.clone());
        assert_eq!(user.as_deref(), identity, "what CONNECT says does not count");
        assert_eq!(core.counters().clients_connected, u64::from(identity.is_some()));
        assert_eq!(core.counters().logins_refused, u64::from(identity.is_none()));
    }
}
