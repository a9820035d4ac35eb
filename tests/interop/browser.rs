//! MQTT.js in a page that a real browser shows. Chromium is large, and installed for those who ask for it:
//! `scripts/interop-setup --chromium && cargo test --test interop chromium`.
use super::scripts::installed;
use crate::support::certificates::written;
use crate::support::{Broker, free_port, unique};
use std::path::Path;
use std::process::Command;

#[test]
fn a_page_in_chromium_comes_in_if_its_origin_may() {
    if Command::new("chromium").arg("--version").output().is_err() {
        return eprintln!("left out: needs Chromium, which scripts/interop-setup --chromium installs");
    }
    for shards in [1, 3] {
        let page = free_port();
        for (origin, expected) in [(format!("http://127.0.0.1:{page}"), 0), ("http://other".to_string(), 3)] {
            let port = free_port();
            let text = format!(
                "[[listener]]\naddress = {port}\ntransport = \"websocket\"\nwebsocket-origin = [{origin:?}]\n"
            );
            let file = written("ringmq.toml", &text);
            let _broker = Broker::start(shards, &["--config", file.to_str().unwrap()]);
            let mut command = Command::new("timeout");
            command.args(["--kill-after=5", "60", "node"]);
            command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/js/browser.js"));
            command.args(["chromium", &port.to_string(), &unique("page"), &page.to_string()]);
            command.env("NODE_PATH", installed("js/node_modules"));
            let output = command.output().expect("coreutils' timeout");
            let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
            assert_eq!(output.status.code(), Some(expected), "{shards} shards, origin {origin}: {said}");
        }
    }
}
