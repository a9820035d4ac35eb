//! Brokers and commands as processes, ended when they are dropped.
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// No wait takes longer.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A broker to talk to.
pub struct Broker {
    port: String,
    _process: Option<Running>,
}

impl Broker {
    /// A fresh one, or the one that the environment names.
    pub fn start() -> Broker {
        if let Ok(address) = std::env::var("RINGMQ_TEST_BROKER") {
            let (_, port) = address.rsplit_once(':').expect("RINGMQ_TEST_BROKER is 127.0.0.1:PORT");
            return Broker { port: port.to_owned(), _process: None };
        }
        let mut process = Running::start(&["serve", "--listen", "127.0.0.1:0", "--shards", "1"]);
        let port = loop {
            let line = process.line();
            let Some((_, rest)) = line.split_once("127.0.0.1:") else { continue };
            break rest.chars().take_while(char::is_ascii_digit).collect();
        };
        Broker { port, _process: Some(process) }
    }

    /// A command line for it: the command and the words that follow `-h` and `-p`.
    fn words<'a>(&'a self, command: &'a str, words: &[&'a str]) -> Vec<&'a str> {
        [&[command, "-h", "127.0.0.1", "-p", &self.port], words].concat()
    }

    /// Starts a command.
    pub fn start_command(&self, command: &str, words: &[&str]) -> Running {
        Running::start(&self.words(command, words))
    }

    /// Runs a command to its end.
    pub fn run(&self, command: &str, words: &[&str]) -> Output {
        self.run_with_input(command, words, b"")
    }

    /// Runs a command to its end with that on its standard input.
    pub fn run_with_input(&self, command: &str, words: &[&str], input: &[u8]) -> Output {
        self.start_command(command, words).finish(input)
    }

    /// Publishes; it must succeed.
    pub fn publish(&self, words: &[&str]) {
        let output = self.run("pub", words);
        assert_eq!((output.code, output.err.as_str()), (0, ""), "pub {words:?}");
    }

    /// Starts `sub -d` and waits until the broker has acknowledged the subscription.
    pub fn subscribe(&self, words: &[&str]) -> Running {
        let mut running = self.start_command("sub", &[&["-d"], words].concat());
        running.wait_for("Subscribed");
        running
    }
}

/// A topic that no other test uses.
pub fn topic(name: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("ringmq-test/{}/{}/{name}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What a command left.
pub struct Output {
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Output {
    /// Standard output as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("text")
    }
}

/// A running `ringmq`. It is killed after [`LIMIT`], so that nobody reads from it for ever.
pub struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    /// Closed before the process is waited for.
    watched: Option<Sender<()>>,
}

impl Running {
    pub fn start(words: &[&str]) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringmq"))
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ringmq starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (watched, ended) = mpsc::channel::<()>();
        let pid = child.id();
        std::thread::spawn(move || {
            if ended.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                kill(pid, "KILL");
            }
        });
        Running { child, out, watched: Some(watched) }
    }

    /// The next line of standard output, without its end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        if self.out.read_line(&mut line).expect("readable") == 0 {
            let mut err = String::new();
            let _ = self.child.stderr.take().expect("piped").read_to_string(&mut err);
            panic!("standard output ended; standard error: {err}");
        }
        line.trim_end_matches('\n').to_owned()
    }

    /// The next line that is no trace of a packet.
    pub fn message(&mut self) -> String {
        loop {
            let line = self.line();
            if !line.starts_with("Client ") && !line.starts_with("Subscribed ") {
                return line;
            }
        }
    }

    /// Reads lines until one has `text` in it.
    pub fn wait_for(&mut self, text: &str) {
        while !self.line().contains(text) {}
    }

    /// Writes to standard input.
    pub fn input(&mut self, text: &[u8]) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        stdin.write_all(text).and_then(|()| stdin.flush()).expect("writable");
    }

    /// Nobody reads standard output any more.
    pub fn close_output(mut self) -> ExitStatus {
        // Replaced by the end of a pipe that nobody writes to.
        let (reader, _) = std::io::pipe().expect("a pipe");
        drop(std::mem::replace(
            &mut self.out,
            BufReader::new(ChildStdout::from(std::os::fd::OwnedFd::from(reader))),
        ));
        self.end()
    }

    /// Sends a signal by the name that `kill` knows.
    pub fn signal(&self, name: &str) {
        kill(self.child.id(), name);
    }

    /// Gives it this input, reads everything it prints, and waits for its end.
    pub fn finish(mut self, input: &[u8]) -> Output {
        let mut stdin = self.child.stdin.take().expect("piped");
        let input = input.to_vec();
        // It may end without reading everything.
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let mut stderr = self.child.stderr.take().expect("piped");
        let reader = std::thread::spawn(move || {
            let mut err = String::new();
            stderr.read_to_string(&mut err).map(|_| err)
        });
        let mut out = Vec::new();
        self.out.read_to_end(&mut out).expect("readable");
        let err = reader.join().expect("no panic").expect("text");
        writer.join().expect("no panic");
        let status = self.end();
        Output { code: status.code().unwrap_or(-1), out, err }
    }

    /// Waits for its end.
    pub fn end(&mut self) -> ExitStatus {
        self.watched = None;
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return status;
            }
            assert!(Instant::now() < end, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn kill(pid: u32, signal: &str) {
    let status = Command::new("kill").args(["-s", signal, &pid.to_string()]).status();
    assert!(status.expect("kill runs").success());
}

impl Drop for Running {
    fn drop(&mut self) {
        self.watched = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
