//! The clients that people use, and our own: `ringmq pub`, `sub` and `bench`, Mosquitto's.
use super::broker_with;
use super::support::certificates::{Authority, Identity};
use super::support::*;
use std::net::SocketAddr;
use std::process::{Command, Output};

const RINGMQ: &str = env!("CARGO_BIN_EXE_ringmq");

fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "20", program]).args(arguments);
    command.output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// Leaves a retained message with one client and gets it with another, each reaching the broker by these flags.
#[track_caller]
fn leaves_and_gets(publish: &[&str], subscribe: &[&str], address: SocketAddr, flags: &[&str]) {
    let (port, topic) = (address.port().to_string(), unique("t"));
    let place = [&["-p", &port, "-t", &topic], flags].concat();
    let [program, words @ ..] = publish else { unreachable!() };
    let output = run(program, &[words, &place, &["-m", "hello", "-q", "1", "-r"]].concat());
    assert!(output.status.success(), "{}", said(&output));
    let [program, words @ ..] = subscribe else { unreachable!() };
    let output = run(program, &[words, &place, &["-C", "1"]].concat());
    assert!(output.status.success() && output.stdout == b"hello\n", "{}", said(&output));
}

#[track_caller]
fn is_refused(publish: &[&str], address: SocketAddr, flags: &[&str]) {
    let port = address.port().to_string();
    let [program, words @ ..] = publish else { unreachable!() };
    let output = run(program, &[words, &["-p", &port, "-t", "t", "-m", "hello", "-q", "1"], flags].concat());
    assert!(
        output.status.code().is_some_and(|code| code != 0 && code != 124),
        "{flags:?}: {}",
        said(&output)
    );
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn ringmq_and_mosquitto_clients_come_in_by_tls_with_their_certificates() {
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let Identity { certificate, key, .. } = authority.server(&["localhost"]);
    let listener = format!(
        "transport = \"tls\"\ncertificate = [{certificate:?}]\nkey = [{key:?}]\nclient-ca = {:?}\n\
         require-certificate = true\nidentity = \"cn\"\n",
        authority.file
    );
    let (_broker, address) = broker_with(2, &listener);
    let client = authority.client("pump", "pump.example", 1);
    let stranger = other.client("pump", "pump.example", 1);
    let ca = ["-h", "localhost", "--cafile", text(&authority.file)];
    let with = |identity: &Identity| {
        let files = ["--cert", text(&identity.certificate), "--key", text(&identity.key)].map(str::to_owned);
        ca.map(str::to_owned).into_iter().chain(files).collect::<Vec<_>>()
    };
    let (good, bad) = (with(&client), with(&stranger));
    let good: Vec<&str> = good.iter().map(String::as_str).collect();
    let bad: Vec<&str> = bad.iter().map(String::as_str).collect();
    for (publish, subscribe) in
        [(&[RINGMQ, "pub"][..], &[RINGMQ, "sub"][..]), (&["mosquitto_pub"], &["mosquitto_sub"])]
    {
        leaves_and_gets(publish, subscribe, address, &good);
        is_refused(publish, address, &ca);
        is_refused(publish, address, &bad);
        // An authority that did not sign the broker's certificate, and a name it is not for.
        let mut wrong = good.clone();
        wrong[3] = text(&other.file);
        is_refused(publish, address, &wrong);
        let mut elsewhere = good.clone();
        elsewhere[1] = "127.0.0.1";
        is_refused(publish, address, &elsewhere);
        elsewhere.push("--insecure");
        leaves_and_gets(publish, subscribe, address, &elsewhere);
    }
}

#[test]
fn ringmq_clients_come_in_by_websocket_plain_and_over_tls() {
    let (_broker, address) = broker_with(2, "transport = \"websocket\"\nwebsocket-path = [\"/there\"]\n");
    leaves_and_gets(&[RINGMQ, "pub"], &[RINGMQ, "sub"], address, &["--ws-path", "/there"]);
    is_refused(&[RINGMQ, "pub"], address, &["--ws"]);
    is_refused(&[RINGMQ, "pub"], address, &[]);
    let authority = Authority::new("authority");
    let Identity { certificate, key, .. } = authority.server(&["localhost"]);
    let listener = format!("transport = \"wss\"\ncertificate = [{certificate:?}]\nkey = [{key:?}]\n");
    let (_broker, address) = broker_with(2, &listener);
    let ca = ["--cafile", text(&authority.file), "--ws"];
    leaves_and_gets(&[RINGMQ, "pub"], &[RINGMQ, "sub"], address, &ca);
    is_refused(&[RINGMQ, "pub"], address, &ca[..2]);
    is_refused(&[RINGMQ, "pub"], address, &ca[2..]);
    let url = format!("wss://localhost:{}/topic", address.port());
    let output =
        run(RINGMQ, &["pub", "-L", &url, "--cafile", text(&authority.file), "-m", "hello", "-q", "1"]);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn the_load_generator_measures_through_every_transport() {
    let authority = Authority::new("authority");
    let Identity { certificate, key, .. } = authority.server(&["localhost"]);
    let files = format!("certificate = [{certificate:?}]\nkey = [{key:?}]\n");
    for (transport, flags) in [
        ("transport = \"websocket\"\n".to_string(), vec!["--ws"]),
        (format!("transport = \"tls\"\n{files}"), vec!["--cafile", text(&authority.file)]),
        (format!("transport = \"wss\"\n{files}"), vec!["--ws", "--cafile", text(&authority.file)]),
    ] {
        let (_broker, address) = broker_with(2, &transport);
        let port = address.port().to_string();
        let place =
            ["--host", "localhost", "--port", &port, "--seconds", "0.3", "--warmup", "0", "--no-progress"];
        for scenario in [
            &["pairs", "--qos", "1"][..],
            &["fan-out", "--subscribers", "5"],
            &["connect", "--connections", "20"],
        ] {
            let output = run(RINGMQ, &[&["bench"], scenario, &place, &flags].concat());
            assert!(output.status.success(), "{transport} {scenario:?}: {}", said(&output));
        }
    }
}
