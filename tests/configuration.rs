//! The configuration file and the environment, as the program takes them.
mod support;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::*;

/// A configuration file of this test's own.
fn file(text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.toml", unique("configuration")));
    std::fs::write(&path, text).unwrap();
    path
}

/// Runs `ringmq` to its end.
fn ringmq(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "20", env!("CARGO_BIN_EXE_ringmq")]).args(arguments);
    command.envs(environment.iter().copied()).output().unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_file_sets_limits_and_listeners() {
    let port = free_port();
    let path = file(&format!("max-qos = 1\nmax-packet = \"1K\"\n\n[[listener]]\naddress = {port}\n"));
    let mut broker = Broker::start(2, &["--config", path.to_str().unwrap(), "--max-packet", "2K"]);
    broker.address = format!("127.0.0.1:{port}").parse().unwrap();
    let connect = Connect::new(Version::V5, &unique("c"));
    let (_client, _, granted) = Client::connect_with(&broker, &connect);
    assert_eq!(granted.number(0x24), Some(1), "Maximum QoS, from the file");
    assert_eq!(granted.number(0x27), Some(2048), "Maximum Packet Size, where the flag outweighs the file");
}

#[test]
fn mistakes_end_with_code_2_and_one_line_that_says_where() {
    for (text, named) in [
        ("max-qos = 1\nmax-paket = 3\n", ":2: unknown key \"max-paket\"; did you mean \"max-packet\"?"),
        ("max-qos = 9\n", ":1: invalid value '9'"),
        ("[[listener]]\naddress = \"0.0.0.0:0\"\n", ":1: listening on 0.0.0.0:0"),
        ("this is no TOML", ":1: "),
    ] {
        let path = file(text);
        let path = path.to_str().unwrap();
        for arguments in [&["serve", "--config", path][..], &["config", "check", path]] {
            let output = ringmq(arguments, &[]);
            let said = said(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains(&format!("{path}{named}")) && said.lines().count() == 1, "{said}");
        }
    }
    let output = ringmq(&["serve"], &[("RINGMQ_MAX_QOS", "9")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output.stderr).contains("RINGMQ_MAX_QOS"), "{}", said(&output.stderr));
}

#[test]
fn the_check_says_where_each_value_is_from() {
    let path = file("max-qos = 1\nmax-retained = 5\n[[listener]]\naddress = 1884\n");
    let path = path.to_str().unwrap();
    let output = ringmq(&["config", "check", path, "--max-sessions", "7"], &[("RINGMQ_MAX_RETAINED", "6")]);
    let text = said(&output.stdout);
    assert!(output.status.success(), "{}", said(&output.stderr));
    for (key, origin) in [
        ("max-qos = 1 ", format!("# {path}:1")),
        ("max-retained = 6 ", "# RINGMQ_MAX_RETAINED".to_string()),
        ("max-sessions = 7 ", "# --max-sessions".to_string()),
        ("max-inflight = 1024 ", "# default".to_string()),
        ("address = 1884 ", format!("# {path}:4")),
    ] {
        let line = text.lines().find(|line| line.starts_with(key));
        assert!(line.is_some_and(|line| line.ends_with(&origin)), "{key} {origin}:\n{text}");
    }
    assert!(text.lines().any(|line| line.ends_with("  together")), "{text}");
}
