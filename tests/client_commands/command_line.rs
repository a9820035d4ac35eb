//! Wrong command lines and missing brokers: one sentence and an exit code.
use crate::process::Running;
use socket2::{Domain, Socket, Type};
use std::net::SocketAddr;

fn run(words: &[&str]) -> (i32, String, String) {
    let output = Running::start(words).finish(b"");
    (output.code, output.text().to_owned(), output.err)
}

#[test]
fn a_wrong_command_line_is_one_sentence_and_exit_code_1() {
    for words in [
        &["pub", "-t", "a", "-z"][..],
        &["pub", "-t", "a"],
        &["pub", "-m", "a"],
        &["pub", "-t", "a", "-m", "b", "-n"],
        &["pub", "-t", "a", "-m", "b", "-l"],
        &["pub", "-t", "a/#", "-m", "b"],
        &["pub", "-t", "a", "-m", "b", "-q", "3"],
        &["pub", "-t", "a", "-m", "b", "-q"],
        &["pub", "-t", "a", "-m", "b", "-V", "6"],
        &["pub", "-t", "a", "-m", "b", "-c"],
        &["pub", "-t", "a", "-m", "b", "-i", "x", "-I", "y"],
        &["pub", "-t", "a", "-m", "b", "-P", "password-without-user"],
        &["pub", "-t", "a", "-m", "b", "--will-payload", "without-topic"],
        &["pub", "-t", "a", "-m", "b", "-D", "publish", "no-such-property", "x"],
        &["pub", "-t", "a", "-m", "b", "-D", "publish", "user-property", "x"],
        &["pub", "-t", "a", "-m", "b", "--repeat", "0"],
        &["pub", "-L", "http://h/t", "-m", "b"],
        &["pub", "-L", "mqtt://h", "-m", "b"],
        &["sub"],
        &["sub", "-t", "a/#/b"],
        &["sub", "-t", "$share/g"],
        &["sub", "-t", "a", "-F", "%z"],
        &["sub", "-t", "a", "-C", "0"],
        &["sub", "-t", "a", "-W", "0"],
        &["sub", "-t", "a", "-R", "--retained-only"],
        &["sub", "-t", "a", "--random-filter", "101"],
        &["sub", "-t", "a", "-V", "5", "-x", "-1"],
        &["sub", "-t", "a", "--retain-handling", "never"],
        &["rr", "-t", "a", "-m", "b"],
        &["rr", "-t", "a", "-e", "b/+", "-m", "b"],
        &["rr", "-t", "a", "-e", "b", "-m", "b", "-D", "publish", "response-topic", "x"],
    ] {
        let (code, out, err) = run(words);
        assert_eq!((code, out.as_str()), (1, ""), "{words:?}");
        assert!(
            err.starts_with("Error: ") && err.contains("--help") && err.lines().count() == 1,
            "{words:?}: {err}"
        );
    }
}

#[test]
fn no_broker_is_connection_refused_and_exit_code_1() {
    // Bound, so that nobody else gets the port, but nobody listens.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port().to_string();
    for words in [&["pub", "-m", "x"][..], &["sub"], &["rr", "-e", "r", "-m", "x"]] {
        let common = ["-h", "127.0.0.1", "-p", &port, "-t", "a"];
        assert_eq!(
            run(&[words, &common].concat()),
            (1, String::new(), "Error: Connection refused\n".to_owned())
        );
        let (code, _, err) = run(&[words, &common, &["--quiet"]].concat());
        assert_eq!((code, err.as_str()), (1, ""));
    }
}

#[test]
fn a_file_that_cannot_be_read_is_exit_code_1() {
    let (code, _, err) = run(&["pub", "-t", "a", "-f", "/no/such/file"]);
    assert_eq!(
        (code, err.as_str()),
        (1, "Error: '/no/such/file' cannot be read: No such file or directory\n")
    );
}

#[test]
fn help_and_version_go_to_standard_output() {
    for command in ["pub", "sub", "rr"] {
        let (code, out, err) = run(&[command, "--help"]);
        assert_eq!((code, err.as_str()), (0, ""));
        for flag in ["-h, --host", "-V, --protocol-version", "-D, --property", "--will-topic"] {
            assert!(out.contains(flag), "{command} --help lacks {flag}");
        }
        assert_eq!(run(&["help", command]).1, out);
        let version = format!("ringmq {command} {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(run(&[command, "--version"]), (0, version, String::new()));
    }
}
