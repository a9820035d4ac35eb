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

/// Runs `target` on what `make` makes, and names the input if it fails.
fn run(target: fn(&[u8]), rounds_share: u64, mut make: impl FnMut(&mut Random) -> Vec<u8>) {
    let seed = setting("FUZZ_SEED", 1);
    for round in 0..setting("FUZZ_ROUNDS", ROUNDS) * rounds_share {
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
    run(fuzzing::frame, 8, |random| {
        let mut bytes = packets(random);
        mutate(random, &mut bytes);
        bytes
    });
}

#[test]
fn single_packets_keep_their_promises_whatever_their_body() {
    run(fuzzing::packet, 8, |random| {
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
    run(fuzzing::session, 1, |random| {
        let count = [40, 200, 1000][random.below(3)];
        random.bytes(count)
    });
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
        _ => fuzzing::session(&input),
    }
}
