//! Paho and MQTT.js through TLS and WebSocket: what is let in, and its twin that is not.
use super::scripts::installed;
use crate::support::certificates::{Authority, Identity, written};
use crate::support::{Broker, free_port, unique};
use std::path::Path;
use std::process::Command;

/// What a script ends with when it was not let in.
const SHUT: i32 = 3;

struct Doors {
    /// Ends with this.
    _broker: Broker,
    /// Ports of tls, websocket and wss.
    ports: [u16; 3],
    authority: Authority,
    other: Authority,
}

/// A broker with a listener for each transport; the one of TLS wants certificates.
fn doors(shards: usize) -> Doors {
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let Identity { certificate, key, .. } = authority.server(&["localhost"]);
    let ports = [free_port(), free_port(), free_port()];
    let files = format!("certificate = [{certificate:?}]\nkey = [{key:?}]\n");
    let listeners = [
        format!("transport = \"tls\"\n{files}client-ca = {:?}\nrequire-certificate = true\n", authority.file),
        "transport = \"websocket\"\nwebsocket-path = [\"/mqtt\"]\n".to_string(),
        format!("transport = \"wss\"\n{files}"),
    ];
    let text: String = ports
        .iter()
        .zip(listeners)
        .map(|(port, rest)| format!("[[listener]]\naddress = {port}\n{rest}\n"))
        .collect();
    let file = written("ringmq.toml", &text);
    let broker = Broker::start(shards, &["--config", file.to_str().unwrap()]);
    Doors { _broker: broker, ports, authority, other }
}

/// Runs a script; its exit code and what it said.
fn run(program: &Path, script: &str, scheme: &str, port: u16, files: &[&Path]) -> (i32, String) {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "60"]).arg(program);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(script));
    command.args([scheme, &port.to_string(), &unique("door")]).args(files);
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("NODE_PATH", installed("js/node_modules"));
    let output = command.output().expect("coreutils' timeout");
    let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    (output.status.code().unwrap_or(-1), said)
}

fn through_every_door(program: &Path, script: &str) {
    for shards in [1, 3] {
        let Doors { ports: [tls, websocket, wss], authority, other, .. } = &doors(shards);
        let (client, stranger) =
            (authority.client("pump", "pump.example", 1), other.client("pump", "pump.example", 1));
        let good = [&*authority.file, &*client.certificate, &*client.key];
        let bad = [&*authority.file, &*stranger.certificate, &*stranger.key];
        let cases: [(&str, u16, &[&Path], i32); 8] = [
            ("mqtts", *tls, &good, 0),
            ("mqtts", *tls, &good[..1], SHUT),
            ("mqtts", *tls, &bad, SHUT),
            ("ws", *websocket, &[], 0),
            ("ws", *tls, &[], SHUT),
            ("wss", *wss, &good[..1], 0),
            ("wss", *wss, &[&other.file], SHUT),
            ("wss", *websocket, &good[..1], SHUT),
        ];
        for (scheme, port, files, expected) in cases {
            let (code, said) = run(program, script, scheme, port, files);
            assert_eq!(code, expected, "{shards} shards, {scheme} with {} files: {said}", files.len());
        }
    }
}

#[test]
fn paho_python_comes_in_by_every_door() {
    through_every_door(&installed("venv/bin/python"), "paho/door.py");
}

#[test]
fn mqtt_js_comes_in_by_every_door() {
    through_every_door(Path::new("node"), "js/door.js");
}
