//! The checks written in the clients' own languages: `paho/checks.py` and `js/checks.js`.
use crate::support::{Broker, each_broker, unique};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Seconds for one run of a script; reached only when the test fails.
const LIMIT: &str = "300";

#[test]
fn paho_python_as_3_1() {
    paho("3.1");
}

#[test]
fn paho_python_as_3_1_1() {
    paho("3.1.1");
}

#[test]
fn paho_python_as_5_0() {
    paho("5.0");
}

#[test]
fn mqtt_js_as_3_1_1() {
    mqtt_js("3.1.1");
}

#[test]
fn mqtt_js_as_5_0() {
    mqtt_js("5.0");
}

fn paho(version: &str) {
    let python = installed("venv/bin/python");
    each_broker(|broker| {
        let mut command = bounded(&python, broker, version, "paho/checks.py");
        // No bytecode beside the sources.
        run(command.env("PYTHONDONTWRITEBYTECODE", "1"));
    });
}

fn mqtt_js(version: &str) {
    let modules = installed("js/node_modules");
    each_broker(|broker| {
        run(bounded(Path::new("node"), broker, version, "js/checks.js").env("NODE_PATH", &modules));
    });
}

/// What `scripts/interop-setup` put under `target/interop`.
pub fn installed(path: &str) -> PathBuf {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/interop").join(path);
    assert!(whole.exists(), "{} is missing: run scripts/interop-setup", whole.display());
    whole
}

/// `program SCRIPT PORT VERSION PREFIX`, ended when it takes too long.
fn bounded(program: &Path, broker: &Broker, version: &str, script: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", LIMIT]).arg(program);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(script));
    command.args([&broker.address.port().to_string(), version, &unique("interop")]);
    command
}

fn run(command: &mut Command) {
    let output = command.output().expect("coreutils' timeout");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}:\n{said}{complained}", output.status);
}
