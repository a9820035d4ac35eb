//! Other ways to say who one is: SCRAM, tokens, and a service that is asked over HTTP. Every case that is accepted has a
//! refused twin.
mod support;
use support::*;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

const BAD_PASSWORD: u8 = 0x86;
const NOT_AUTHORIZED: u8 = 0x87;
const UNAVAILABLE: u8 = 0x88;
const MAXIMUM_CONNECT_TIME: u8 = 0xA0;
const CONTINUE: u8 = 0x18;
const REAUTHENTICATE: u8 = 0x19;
const METHOD: &str = "SCRAM-SHA-256";

fn scratch(name: &str) -> String {
    let path = format!("identity-{}-{name}", std::process::id());
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(path).to_str().unwrap().to_string()
}

fn hmac_sha256(key: &[u8], data: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(data).finalize().into_bytes().to_vec()
}

static SCRAM: LazyLock<String> = LazyLock::new(|| {
    let path = scratch("scram");
    std::fs::write(&path, "").unwrap();
    for user in ["ann", "bob"] {
        let password = format!("{user}-secret");
        let made = Command::new(env!("CARGO_BIN_EXE_ringmq"))
            .args(["passwd", "--scram", "-b", &path, user, &password])
            .status();
        assert!(made.unwrap().success());
    }
    path
});

fn data(properties: &Properties) -> String {
    String::from_utf8(properties.bytes(prop::AUTH_DATA).unwrap().to_vec()).unwrap()
}

fn step(code: u8, text: &str) -> Vec<u8> {
    auth(code, &Properties::new().with(prop::AUTH_METHOD, METHOD).with(prop::AUTH_DATA, text.as_bytes()))
}

/// client-final-message, and the signature that the broker has to answer with.
fn prove(bare: &str, challenge: &str, password: &str) -> (String, String) {
    let field = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
    let salt = BASE64_STANDARD.decode(field("s=")).unwrap();
    let mut salted = [0; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), &salt, field("i=").parse().unwrap(), &mut salted);
    let last = format!("c=biws,r={}", field("r="));
    let message = format!("{bare},{challenge},{last}");
    let client_key = hmac_sha256(&salted, b"Client Key");
    let signature = hmac_sha256(&Sha256::digest(&client_key), message.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
    let server = hmac_sha256(&hmac_sha256(&salted, b"Server Key"), message.as_bytes());
    (format!("{last},p={}", BASE64_STANDARD.encode(proof)), format!("v={}", BASE64_STANDARD.encode(server)))
}

#[track_caller]
fn expect_challenge(client: &mut Client) -> String {
    match client.receive() {
        Packet::Auth { code: CONTINUE, properties } => data(&properties),
        other => panic!("expected a challenge, got {other:?}"),
    }
}

/// Begins, and answers the challenge.
fn begin(broker: &Broker, user: &str, password: &str) -> (Client, String) {
    let mut client = Client::open(broker, Version::V5);
    let bare = format!("n={user},r={}", unique("nonce"));
    let connect = Connect::new(Version::V5, &unique("c")).property(prop::AUTH_METHOD, METHOD);
    client.send(&connect.property(prop::AUTH_DATA, format!("n,,{bare}").as_bytes()).encode());
    let challenge = expect_challenge(&mut client);
    let (last, signature) = prove(&bare, &challenge, password);
    client.send(&step(CONTINUE, &last));
    (client, signature)
}

#[test]
fn scram_proves_both_sides_and_refuses_who_does_not_know() {
    each_broker_with(&["--scram-file", &SCRAM], |broker| {
        let (mut client, signature) = begin(broker, "ann", "ann-secret");
        let (_, connack) = client.expect_connack();
        assert_eq!(connack.text(prop::AUTH_METHOD), Some(METHOD));
        assert_eq!(data(&connack), signature);
        client.expect_nothing_until_ping();
        for (user, password) in [("ann", "bob-secret"), ("nobody", "ann-secret")] {
            begin(broker, user, password).0.expect_refusal(NOT_AUTHORIZED);
        }
        // The file lets nobody in by password, and nobody without a name.
        let plain = Connect::new(Version::V5, &unique("c"));
        Client::refused(broker, &plain.clone().user("ann").password("ann-secret"), NOT_AUTHORIZED);
        Client::refused(broker, &plain, NOT_AUTHORIZED);
    });
}

#[test]
fn who_authenticates_again_must_be_the_same_user() {
    each_broker_with(&["--scram-file", &SCRAM], |broker| {
        for (user, is_same) in [("ann", true), ("bob", false)] {
            let (mut client, _) = begin(broker, "ann", "ann-secret");
            client.expect_connack();
            let bare = format!("n={user},r={}", unique("nonce"));
            client.send(&step(REAUTHENTICATE, &format!("n,,{bare}")));
            let challenge = expect_challenge(&mut client);
            let (last, signature) = prove(&bare, &challenge, &format!("{user}-secret"));
            client.send(&step(CONTINUE, &last));
            if is_same {
                match client.receive() {
                    Packet::Auth { code: 0, properties } => assert_eq!(data(&properties), signature),
                    other => panic!("expected AUTH 0, got {other:?}"),
                }
                client.expect_nothing_until_ping();
            } else {
                client.expect_disconnect(NOT_AUTHORIZED);
            }
        }
    });
}

const SECRET: &str = "a secret that only the test knows";

static KEY: LazyLock<String> = LazyLock::new(|| {
    let path = scratch("key");
    std::fs::write(&path, format!("{SECRET}\n")).unwrap();
    path
});

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn token(claims: &str) -> String {
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let message = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(claims.as_bytes()));
    format!("{message}.{}", encode(&hmac_sha256(SECRET.as_bytes(), message.as_bytes())))
}

fn refusal(version: Version, code: u8) -> u8 {
    match (version.is_5(), code) {
        (true, code) => code,
        (false, BAD_PASSWORD) => 4,
        (false, UNAVAILABLE) => 3,
        (false, _) => 5,
    }
}

#[test]
fn a_token_opens_the_door_and_says_what_is_allowed() {
    let flags = ["--jwt-key-file", &KEY, "--jwt-audience", "mqtt", "--jwt-client-id-claim", "client"];
    each_version_with(&flags, |broker, version| {
        let id = unique("c");
        let (soon, user) = (seconds() + 1000, unique("u"));
        let claims = format!(
            r#"{{"sub":"{user}","exp":{soon},"aud":"mqtt","client":"{id}","acl":{{"all":["own/%u/#"]}}}}"#
        );
        let connect = |claims: &str| Connect::new(version, &id).user("jwt").password(token(claims));
        let mut client = Client::connect(broker, &connect(&claims));
        let topic = format!("own/{user}/x");
        client.subscribe("own/#", 1);
        client.publish(&topic, 0, "mine");
        client.expect_message(&topic, "mine");
        client.send_publish(&Publish::new("own/other/x", "not mine"));
        client.expect_nothing_until_ping();
        let denied = if version.is_5() { NOT_AUTHORIZED } else { 0x80 };
        assert_eq!(client.subscribe_codes(&[("other/#", 1)]), [denied]);
        for (from, to) in [("mqtt", "http"), (&*id, "another"), (&*soon.to_string(), "1000")] {
            let changed = claims.replace(from, to);
            Client::refused(broker, &connect(&changed), refusal(version, NOT_AUTHORIZED));
        }
        let forged = token(&claims).replace('.', ".A");
        let forged = Connect::new(version, &id).user("jwt").password(forged);
        let mut client = Client::open(broker, version);
        client.send(&forged.encode());
        assert!(matches!(client.receive(), Packet::Connack { code, .. } if code != 0));
    });
}

#[test]
fn the_end_of_a_token_ends_its_connection() {
    each_version_with(&["--jwt-key-file", &KEY], |broker, version| {
        // The broker allows clocks to differ by 30 seconds.
        let claims = format!(r#"{{"sub":"ann","exp":{}}}"#, seconds() - 28);
        let connect = Connect::new(version, &unique("c")).keep_alive(60).password(token(&claims));
        let connect = connect.user("ann");
        let mut client = Client::connect(broker, &connect);
        client.expect_disconnect(MAXIMUM_CONNECT_TIME);
    });
}

/// A service that knows ann (and the superuser root), and counts what it is asked. Ends with the test program.
struct Service {
    address: String,
    asked: Arc<AtomicUsize>,
}

fn service(answers: impl Fn(&str, &str) -> u16 + Send + Sync + 'static) -> Service {
    service_with(move |path, body| (answers(path, body), String::new()))
}

fn service_with(answers: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static) -> Service {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, answers) = (asked.clone(), Arc::new(answers));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, count, answers) = (stream.unwrap(), count.clone(), answers.clone());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                loop {
                    let (mut first, mut length) = (String::new(), 0);
                    if reader.read_line(&mut first).unwrap_or(0) == 0 {
                        return;
                    }
                    loop {
                        let mut line = String::new();
                        reader.read_line(&mut line).unwrap();
                        let lower = line.to_ascii_lowercase();
                        if let Some(value) = lower.strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                        if line.trim().is_empty() {
                            break;
                        }
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                    let path = first.split(' ').nth(1).unwrap();
                    let (status, text) = answers(path, &String::from_utf8(body).unwrap());
                    let length = text.len();
                    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{text}");
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Service { address, asked }
}

fn answer(path: &str, body: &str) -> u16 {
    let has = |text: &str| body.contains(text);
    let allowed = match path {
        "/user" => has("username=ann") && has("password=right") || has("username=root"),
        "/super" => has("username=root"),
        // 2 publish, 4 subscribe.
        "/acl" => has("topic=open%2F") && (has("acc=2") || has("acc=4")) || has("topic=in&acc=2"),
        _ => false,
    };
    if allowed { 200 } else { 401 }
}

#[test]
fn a_service_decides_about_users_and_topics() {
    let service = service(answer);
    let url = |path: &str| format!("{}{path}", service.address);
    let (user, superuser, acl) = (url("/user"), url("/super"), url("/acl"));
    let flags =
        ["--auth-http-user-url", &user, "--auth-http-superuser-url", &superuser, "--auth-http-acl-url", &acl];
    for (shards, version) in [(1, Version::V4), (2, Version::V5)] {
        let broker = &Broker::start(shards, &flags);
        let connect =
            |user: &str, password: &str| Connect::new(version, &unique("c")).user(user).password(password);
        Client::refused(broker, &connect("ann", "wrong"), refusal(version, BAD_PASSWORD));
        Client::refused(broker, &Connect::new(version, "c"), refusal(version, NOT_AUTHORIZED));
        let mut root = Client::connect(broker, &connect("root", "x"));
        root.subscribe("#", 0);
        let mut ann = Client::connect(broker, &connect("ann", "right"));
        let denied = if version.is_5() { NOT_AUTHORIZED } else { 0x80 };
        assert_eq!(ann.subscribe_codes(&[("open/+", 1), ("secret/+", 1), ("in", 0)]), [1, denied, denied]);
        // In the order in which they were sent, though each is asked about.
        for (topic, payload) in
            [("in", "1"), ("secret/x", "2"), ("open/a", "3"), ("in", "4"), ("open/a", "5")]
        {
            ann.send_publish(&Publish::new(topic, payload));
        }
        ann.expect_message("open/a", "3");
        ann.expect_message("open/a", "5");
        ann.expect_nothing_until_ping();
        for (topic, payload) in [("in", "1"), ("open/a", "3"), ("in", "4"), ("open/a", "5")] {
            root.expect_message(topic, payload);
        }
        let asked = service.asked.load(Ordering::Relaxed);
        (0..20).for_each(|_| ann.send_publish(&Publish::new("in", "again")));
        ann.expect_nothing_until_ping();
        assert_eq!(service.asked.load(Ordering::Relaxed), asked, "answers are remembered");
        let will = |topic: &str| connect("ann", "right").will(Will::new(topic, "bye"));
        Client::refused(broker, &will("secret/will"), refusal(version, NOT_AUTHORIZED));
        Client::connect(broker, &will("open/will")).hang_up();
        ann.expect_message("open/will", "bye");
    }
}

#[test]
fn a_service_that_does_not_answer_lets_nobody_in_and_keeps_nobody_waiting() {
    let service = service(|_, _| 500);
    let user = format!("{}/user", service.address);
    let broker = &Broker::start(1, &["--auth-http-user-url", &user, "--auth-http-format", "json"]);
    for _ in 0..8 {
        let connect = Connect::new(Version::V5, &unique("c")).user("ann").password("right");
        Client::refused(broker, &connect, UNAVAILABLE);
    }
    // After some failures it is left alone.
    assert!(service.asked.load(Ordering::Relaxed) <= 5);
}

#[test]
fn more_logins_than_may_wait_are_refused_and_the_others_served() {
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let service = service(move |_, _| {
        gate.lock().unwrap().recv_timeout(Duration::from_secs(20)).ok();
        200
    });
    let user = format!("{}/user", service.address);
    let flags = ["--auth-http-user-url", &user, "--auth-queue", "1", "--auth-threads", "1"];
    let broker = &Broker::start(
        1,
        &[&flags[..], &["--auth-http-timeout", "60s", "--connect-timeout", "60s"]].concat(),
    );
    let open = || {
        let mut client = Client::open(broker, Version::V5);
        client.send(&Connect::new(Version::V5, &unique("c")).user("ann").password("x").encode());
        client
    };
    // One is asked about, then one waits, then there is no room.
    let mut first = open();
    while service.asked.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    let mut second = open();
    let mut third = open();
    let mut fourth = open();
    third.expect_refusal(UNAVAILABLE);
    fourth.expect_refusal(UNAVAILABLE);
    drop(release);
    first.expect_connack();
    second.expect_connack();
}

#[test]
fn keys_of_tokens_are_fetched_from_a_url() {
    let key = BASE64_URL_SAFE_NO_PAD.encode(SECRET);
    let service = service_with(move |path, _| match path {
        "/keys" => (200, format!(r#"{{"keys":[{{"kty":"oct","kid":"one","k":"{key}"}}]}}"#)),
        _ => (404, String::new()),
    });
    let broker = &Broker::start(1, &["--jwt-jwks-url", &format!("{}/keys", service.address)]);
    let good = token(&format!(r#"{{"sub":"ann","exp":{}}}"#, seconds() + 1000));
    let until = std::time::Instant::now() + PATIENCE;
    // The keys come after the start; nobody is let in before.
    loop {
        let mut client = Client::open(broker, Version::V5);
        client.send(&Connect::new(Version::V5, &unique("c")).user("x").password(&good).encode());
        match client.receive() {
            Packet::Connack { code: 0, .. } => break,
            Packet::Connack { code: NOT_AUTHORIZED, .. } => assert!(std::time::Instant::now() < until),
            other => panic!("{other:?}"),
        }
        std::thread::yield_now();
    }
    let bad = Connect::new(Version::V5, &unique("c")).user("x").password(good.replace("ey", "fy"));
    let mut client = Client::open(broker, Version::V5);
    client.send(&bad.encode());
    assert!(matches!(client.receive(), Packet::Connack { code, .. } if code != 0));
    assert_eq!(service.asked.load(Ordering::Relaxed), 1);
}

#[test]
fn a_subscription_of_more_filters_than_may_be_asked_about_gets_what_was_answered() {
    const FILTERS: usize = 100;
    /// As many answers as are remembered of a client, without the one that its will may need.
    const ASKED: usize = 63;
    let service = service(|_, _| 200);
    let (user, acl) = (format!("{}/user", service.address), format!("{}/acl", service.address));
    let flags = ["--auth-http-user-url", &user, "--auth-http-acl-url", &acl];
    for (shards, version) in [(1, Version::V4), (2, Version::V5)] {
        let broker = &Broker::start(shards, &flags);
        let mut client =
            Client::connect(broker, &Connect::new(version, &unique("c")).user("ann").password("x"));
        let names: Vec<String> = (0..FILTERS).map(|n| format!("t/{n}")).collect();
        let filters: Vec<(&str, u8)> = names.iter().map(|name| (name.as_str(), 0)).collect();
        let before = service.asked.load(Ordering::Relaxed);
        let codes = client.subscribe_codes(&filters);
        assert_eq!(service.asked.load(Ordering::Relaxed) - before, ASKED);
        let denied = if version.is_5() { NOT_AUTHORIZED } else { 0x80 };
        let expected: Vec<u8> = (0..FILTERS).map(|n| if n < ASKED { 0 } else { denied }).collect();
        assert_eq!(codes, expected);
        // The next packet may ask again.
        assert_eq!(client.subscribe_codes(&[("t/99", 0)]), [0]);
        client.expect_nothing_until_ping();
    }
}
