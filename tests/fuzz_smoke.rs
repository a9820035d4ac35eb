//! A short, seeded run of every fuzz target (`docs/FUZZING.md` says how to run long ones).
//!
//! `FUZZ_SEED` and `FUZZ_ROUNDS` choose another run; a failure names the input, which `fuzz_one` runs again.
use ringmq::codec::cases;
use ringmq::fuzzing;
use std::panic::catch_unwind;

/// Rounds of each target: about 20 seconds for all of them in a debug build.
const ROUNDS: u64 = 6000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// Runs `target` on what `make` makes, `share` hundredths of the rounds, and names the input if it fails.
fn run(target: fn(&[u8]), share: u64, mut make: impl FnMut(&mut Random) -> Vec<u8>) {
    let seed = setting("FUZZ_SEED", 1);
    for round in 0..(setting("FUZZ_ROUNDS", ROUNDS) * share).div_ceil(100) {
        let input = make(&mut Random(seed << 32 | round));
        if catch_unwind(|| target(&input)).is_err() {
            panic!("FUZZ_INPUT={} fails (seed {seed}, round {round})", hex(&input));
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Changes a few bytes: another value, a bit, one more, one less, a cut, a part twice.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(7) {
            0 => bytes.insert(at, random.next() as u8),
            1 => bytes.truncate(at),
            2 => {
                let end = at + random.below(bytes.len() - at + 1);
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ if at == bytes.len() => bytes.push(random.next() as u8),
            3 => drop(bytes.remove(at)),
            4 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            5 => bytes[at] ^= 1 << random.below(8),
            _ => bytes[at] = random.next() as u8,
        }
    }
}

/// One to three packets of the table that the tests of all layers share.
fn packets(random: &mut Random) -> Vec<u8> {
    let cases: Vec<_> = cases::all().collect();
    (0..random.below(3) + 1).flat_map(|_| cases[random.below(cases.len())].bytes.to_vec()).collect()
}

#[test]
fn frames_of_mutated_packets_keep_their_promises() {
    run(fuzzing::frame, 800, |random| {
        let mut bytes = packets(random);
        mutate(random, &mut bytes);
        bytes
    });
}

#[test]
fn single_packets_keep_their_promises_whatever_their_body() {
    run(fuzzing::packet, 800, |random| {
        let mut bytes = packets(random);
        // Without the length, which this target does not have.
        if bytes.len() > 1 {
            bytes.remove(1);
        }
        mutate(random, &mut bytes);
        bytes
    });
}

#[test]
fn sessions_keep_their_promises_whatever_their_clients_do() {
    run(fuzzing::session, 100, |random| {
        let count = [40, 200, 1000][random.below(3)];
        random.bytes(count)
    });
}

/// One of `seeds`, a few bytes changed, with words of `dictionary` put in anywhere.
fn text(random: &mut Random, seeds: &[&[u8]], dictionary: &[&[u8]]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].to_vec();
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len() + 1);
        bytes.splice(at..at, dictionary[random.below(dictionary.len())].iter().copied());
    }
    mutate(random, &mut bytes);
    bytes
}

#[test]
fn transports_give_the_same_however_their_bytes_are_cut() {
    let proxied: &[&[u8]] = &[
        b"PROXY TCP4 192.0.2.9 127.0.0.1 4711 1883\r\nbehind it",
        b"PROXY UNKNOWN\r\nbehind it",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\x7f\0\0\x01\x12\x67\x07\x5bbehind it",
    ];
    run(fuzzing::doors::proxy, 100, |random| text(random, proxied, &[b"\r\n", b" ", b"TCP6", b"::1", b"\0"]));
    let request = b"GET /mqtt HTTP/1.1\r\nHost: b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: mqtt\r\n\r\n";
    let frames: &[&[u8]] = &[
        b"\x82\x83\x01\x02\x03\x04abc",
        b"\x02\x81\x01\x02\x03\x04a",
        b"\x80\x81\x01\x02\x03\x04b",
        b"\x89\x82\0\0\0\0hi",
        b"\x88\x82\0\0\0\0\x03\xe8",
        b"\x82\xfe\x00\x80\0\0\0\0",
        b"\x82\xff\0\0\0\0\0\x01\0\0\0\0\0\0",
    ];
    run(fuzzing::doors::websocket, 100, |random| {
        let mut bytes = request.to_vec();
        if random.below(4) == 0 {
            mutate(random, &mut bytes);
        }
        let mut behind =
            (0..random.below(6)).flat_map(|_| frames[random.below(frames.len())].to_vec()).collect();
        mutate(random, &mut behind);
        bytes.extend(behind);
        bytes
    });
    run(fuzzing::doors::tls, 5, |random| {
        let count = [0, 20, 200][random.below(3)];
        random.bytes(count)
    });
}

#[test]
fn files_and_messages_about_users_keep_their_promises() {
    let passwords: &[&[u8]] = &[
        b"ann:$7$101$c2FsdHNhbHQ=$AAAA",
        b"# comment\nbob:$6$c2FsdHNhbHQ=$AAAA\n",
        b"eve:$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAA\n",
    ];
    run(fuzzing::doors::password_file, 100, |random| {
        text(random, passwords, &[b"$", b":", b"\n", b"m=99999999"])
    });
    let rules: &[&[u8]] = &[
        b"topic read a/#\nuser ann\ntopic deny a/b\npattern write %u/%c/#\na/b",
        b"pattern readwrite +/%c\ntopic #\na/b/c",
        b"# nothing\na/b",
    ];
    run(fuzzing::doors::acl_file, 100, |random| {
        text(random, rules, &[b"#", b"+", b"%c", b"%u", b"\n", b"deny ", b"user ", b"/", b"$share/g/"])
    });
    run(fuzzing::doors::token, 100, |random| {
        let count = random.below(40);
        random.bytes(count)
    });
    let commands: &[&[u8]] = &[
        br#"{"commands":[{"command":"createRole","rolename":"r","acls":[{"acltype":"subscribePattern","topic":"a/#","allow":true}]}]}"#,
        br#"{"commands":[{"command":"createGroup","groupname":"g"},{"command":"addGroupClient","groupname":"g","username":"admin"}]}"#,
        br#"{"commands":[{"command":"listClients","verbose":true,"count":-1,"offset":9},{"command":"deleteRole","rolename":"admin"}]}"#,
        br#"{"commands":[{"command":"createClient","username":"u","roles":[{"rolename":"admin","priority":-1}]},{"command":"modifyClient","username":"u","textname":"t"}]}"#,
        br#"{"commands":[{"command":"setDefaultACLAccess","acls":[{"acltype":"publishClientSend","allow":true}]},{"command":"setAnonymousGroup","groupname":"g"}]}"#,
    ];
    let words: &[&[u8]] =
        &[b"null", b"[]", b"{}", b"\"\"", b",", b"1e999", b"-1", b"\"rolename\":", b"\"username\":"];
    run(fuzzing::doors::dynsec, 30, |random| text(random, commands, words));
    let settings: &[&[u8]] = &[
        b"max-packet = \"64K\"\nlisten = [\"127.0.0.1:1883\"]\n",
        b"[[listener]]\naddress = 1884\ntransport = \"websocket\"\n",
        b"shards = 2\n\n# comment\nconnect-timeout = \"1s\"\n",
    ];
    let words: &[&[u8]] =
        &[b"=", b"[", b"]", b"\"", b"\n", b"-1", b"1e9", b"[[listener]]\n", b"\"\"\"", b"1979-05-27"];
    run(fuzzing::doors::config_file, 20, |random| text(random, settings, words));
}

/// Runs one input again: `FUZZ_TARGET=session FUZZ_INPUT=00ff… cargo test --test fuzz_smoke fuzz_one`, or a file with
/// `FUZZ_FILE`.
#[test]
fn fuzz_one() {
    let input = match (std::env::var("FUZZ_INPUT"), std::env::var("FUZZ_FILE")) {
        (Ok(input), _) => {
            let digits = |at| u8::from_str_radix(&input[at..at + 2], 16).expect("hexadecimal digits");
            (0..input.len()).step_by(2).map(digits).collect()
        }
        (_, Ok(file)) => std::fs::read(file).expect("a readable file"),
        _ => return,
    };
    match std::env::var("FUZZ_TARGET").as_deref() {
        Ok("frame") => fuzzing::frame(&input),
        Ok("packet") => fuzzing::packet(&input),
        Ok("proxy") => fuzzing::doors::proxy(&input),
        Ok("websocket") => fuzzing::doors::websocket(&input),
        Ok("tls") => fuzzing::doors::tls(&input),
        Ok("password_file") => fuzzing::doors::password_file(&input),
        Ok("acl_file") => fuzzing::doors::acl_file(&input),
        Ok("token") => fuzzing::doors::token(&input),
        Ok("dynsec") => fuzzing::doors::dynsec(&input),
        Ok("config_file") => fuzzing::doors::config_file(&input),
        _ => fuzzing::session(&input),
    }
}
