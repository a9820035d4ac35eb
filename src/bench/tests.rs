//! The generator against its own relay: clean when all is well, and not when a proxy tampers.
use super::args::CommonArgs;
use super::plan::{Counts, Pace, Shape};
use super::relay::Relay;
use super::report::Report;
use super::scenario::{describe, plan, timing};
use super::wire::{self, kind};
use super::{connections, stored, traffic};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// A relay on a thread of its own, for as long as it lives.
struct Served {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || Relay::on(listener).unwrap().run(&stopped).unwrap());
        Self { port, stop, thread: Some(thread) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn common(port: u16, protocol: u8) -> CommonArgs {
    CommonArgs {
        host: "127.0.0.1".into(),
        port,
        protocol,
        threads: 2,
        cores: Vec::new(),
        seconds: 0.3,
        warmup: 0.0,
        quiet: 1.0,
        keep_alive: 60,
        tls: Default::default(),
        ws: false,
        ws_path: String::new(),
        username: None,
        password: None,
        pid: vec![std::process::id()],
        json: false,
        no_progress: true,
    }
}

fn traffic(port: u16, protocol: u8, shape: Shape, qos: u8, pace: Pace) -> Report {
    let common = common(port, protocol);
    let filters = if shape == Shape::Wildcard { 300 } else { 0 };
    let counts = Counts { publishers: 3, subscribers: 3, topics: 4, filters };
    let plan = plan(&common, shape, counts, qos, 40, pace).unwrap();
    traffic::run("test", describe(&plan, &common), &plan, &timing(&common)).unwrap().0
}

#[test]
fn every_shape_is_clean_on_the_relay() {
    let relay = Served::start();
    let shapes = [Shape::Pairs, Shape::FanOut, Shape::FanIn, Shape::Shared { groups: 2 }, Shape::Wildcard];
    for (number, shape) in shapes.into_iter().enumerate() {
        let (protocol, qos) = (4 + number as u8 % 2, number as u8 % 3);
        let report = traffic(relay.port, protocol, shape, qos, Pace::Window(50));
        assert!(report.clean, "{shape:?}: {}", report.verdict());
        assert!(report.findings.received > 0, "{shape:?}");
    }
}

#[test]
fn an_open_loop_sends_what_is_scheduled() {
    let relay = Served::start();
    let report = traffic(relay.port, 4, Shape::Pairs, 1, Pace::Rate(2000.0));
    assert!(report.clean, "{}", report.verdict());
    assert!(report.lateness_us.is_some() && report.latency_us.is_some());
    assert!((1..=2000).contains(&report.findings.received), "{}", report.findings.received);
}

#[test]
fn connections_are_opened_and_cycled() {
    let relay = Served::start();
    let args = super::args::ConnectionArgs {
        common: common(relay.port, 5),
        connections: 50,
        rate: None,
        at_once: 8,
        filters: None,
    };
    assert_eq!(connections::connect(&args).unwrap().0.events, 50);
    let (idle, _) = connections::idle(&args).unwrap();
    assert!(idle.clean && idle.events == 50);
    let (churn, _) = connections::churn(&args).unwrap();
    assert!(churn.clean && churn.events > 0, "{}", churn.verdict());
}

#[test]
fn what_the_relay_does_not_store_is_lost() {
    let relay = Served::start();
    let mut common = common(relay.port, 4);
    common.quiet = 0.2;
    let args =
        super::args::StoreArgs { common, qos: 1, payload: 16, messages: 300, subscribers: 2, window: 20 };
    let (report, _) = stored::retained(&args).unwrap();
    assert_eq!((report.findings.lost, report.clean), (600, false));
}

/// What the proxy does to one PUBLISH on the way to each subscriber.
#[derive(Clone, Copy)]
enum Fault {
    Drop,
    Repeat,
    Swap,
    FlipPayload,
    FlipTopic,
}

/// A port that forwards to another one and commits one fault on each connection.
fn tampering(to: u16, fault: Fault) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).unwrap();
            let (mut up, mut out) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                let _ended = std::io::copy(&mut up, &mut out);
                let _closed = out.shutdown(Shutdown::Both);
            });
            thread::spawn(move || {
                tamper(server, &client, fault);
                let _closed = client.shutdown(Shutdown::Both);
            });
        }
    });
    port
}

/// Forwards packets; the publishes number 10 and 11 of the connection suffer.
fn tamper(mut from: TcpStream, mut to: &TcpStream, fault: Fault) {
    let (mut kept, mut seen, mut held) = (Vec::new(), 0, None::<Vec<u8>>);
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..n]);
        let (mut at, mut out) = (0, Vec::new());
        while let Ok(Some(packet)) = wire::cut(&kept[at..]) {
            let mut bytes = kept[at..at + packet.bytes.len()].to_vec();
            let publish = packet.first >> 4 == kind::PUBLISH;
            at += packet.bytes.len();
            seen += usize::from(publish);
            if publish && seen == 10 {
                let last = bytes.len() - 1;
                match fault {
                    Fault::Drop => bytes.clear(),
                    Fault::Repeat => bytes = bytes.repeat(2),
                    Fault::Swap => held = Some(std::mem::take(&mut bytes)),
                    Fault::FlipPayload => bytes[last] ^= 4,
                    Fault::FlipTopic => bytes[4] ^= 1,
                }
            }
            out.extend_from_slice(&bytes);
            if publish && seen == 11 {
                out.extend(held.take().into_iter().flatten());
            }
        }
        kept.drain(..at);
        if to.write_all(&out).is_err() {
            return;
        }
    }
}

#[test]
fn every_fault_is_found() {
    let relay = Served::start();
    for (fault, expected) in [
        (Fault::Drop, [1, 0, 0, 0, 0]),
        (Fault::Repeat, [0, 1, 0, 0, 0]),
        (Fault::Swap, [0, 0, 1, 0, 0]),
        (Fault::FlipPayload, [1, 0, 0, 1, 0]),
        (Fault::FlipTopic, [1, 0, 0, 0, 1]),
    ] {
        let port = tampering(relay.port, fault);
        let common = CommonArgs { quiet: 0.3, ..common(port, 4) };
        let counts = Counts { publishers: 1, subscribers: 1, topics: 1, filters: 0 };
        let plan = plan(&common, Shape::Pairs, counts, 0, 40, Pace::Window(50)).unwrap();
        let (report, _) = traffic::run("test", String::new(), &plan, &timing(&common)).unwrap();
        let f = report.findings;
        assert_eq!([f.lost, f.duplicated, f.reordered, f.corrupt, f.misrouted], expected);
        assert!(!report.clean);
    }
}
