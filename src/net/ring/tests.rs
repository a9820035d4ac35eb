use super::*;
use rustix::event::{EventfdFlags, eventfd};

fn token(slot: u32) -> Token {
    Token { op: Op::Writable, slot, generation: !slot }
}

#[test]
fn tokens_survive_the_kernel() {
    for op in [Op::Cancel, Op::Accept, Op::Receive, Op::Writable, Op::Doorbell, Op::Linger] {
        for (slot, generation) in [(0, 0), (1, u32::MAX), (Token::MAX_SLOT - 1, 1 << 31)] {
            let token = Token { op, slot, generation };
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}

#[test]
fn more_than_the_queues_hold_is_neither_lost_nor_doubled() {
    const COUNT: u32 = 3 * COMPLETIONS;
    let ready = eventfd(1, EventfdFlags::CLOEXEC).unwrap();
    let mut ring = Ring::new().unwrap();
    for slot in 0..COUNT {
        ring.poll(ready.as_raw_fd(), libc::POLLIN, token(slot));
    }
    assert!(ring.has_backlog());
    let mut seen = vec![false; COUNT as usize];
    let mut left = COUNT;
    while left > 0 {
        ring.submit(Wait::For(Duration::from_secs(30))).unwrap();
        let taken = ring.harvest(1000, |completion| {
            assert_eq!(completion.token, token(completion.token.slot));
            assert_eq!(completion.result, i32::from(libc::POLLIN));
            assert!(!std::mem::replace(&mut seen[completion.token.slot as usize], true), "twice");
            left -= 1;
        });
        assert!(taken > 0, "nothing came within the time of the wait");
    }
}

/// What two senders write at the same time arrives whole at their receivers, more than all buffers hold at once.
fn carries_two_streams(mut ring: Ring) {
    use std::io::Write;
    const LEN: usize = 3 * RECEIVE_MEMORY / 2;
    let stream = |seed: usize| (0..LEN).map(move |index| (index * 31 + index / 251 + seed * 7) as u8);
    let mut receivers = Vec::new();
    let mut senders = Vec::new();
    for seed in 0..2 {
        // TCP: of a Unix socket a multishot receive may miss the end (see `Ring::receive`).
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut theirs = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        let bytes: Vec<u8> = stream(seed).collect();
        senders.push(std::thread::spawn(move || {
            bytes.chunks(1000 + 70_000 * seed).for_each(|piece| theirs.write_all(piece).unwrap());
        }));
        receivers.push((ours, Vec::with_capacity(LEN)));
    }
    let name = |slot| Token { op: Op::Receive, slot, generation: 5 };
    receivers
        .iter()
        .enumerate()
        .for_each(|(slot, (socket, _))| ring.receive(socket.as_raw_fd(), name(slot as u32)));
    let mut ended = 0;
    while ended < 2 {
        ring.submit(Wait::For(Duration::from_secs(30))).unwrap();
        let mut completions = Vec::new();
        let taken = ring.harvest(usize::MAX, |completion| completions.push(completion));
        assert!(taken > 0, "nothing came within the time of the wait");
        let mut again = Vec::new();
        for Completion { token, result, more, payload } in completions {
            let (socket, received) = &mut receivers[token.slot as usize];
            match payload {
                Payload::Received(lent) => {
                    received.extend_from_slice(ring.bytes(&lent));
                    ring.recycle(lent);
                }
                _ => assert!(matches!(-result, 0 | libc::ENOBUFS), "result {result}"),
            }
            if result == 0 {
                ended += 1;
            } else if !more {
                again.push((socket.as_raw_fd(), token));
            }
        }
        again.into_iter().for_each(|(socket, token)| ring.receive(socket, token));
    }
    for (seed, (_, received)) in receivers.iter().enumerate() {
        assert!(received.iter().copied().eq(stream(seed)), "stream {seed} is not what was sent");
    }
    senders.into_iter().for_each(|sender| sender.join().unwrap());
}

#[test]
fn streams_arrive_whole_with_shared_and_with_whole_buffers_and_with_fewer_flags() {
    for skip in 0..FLAG_SETS {
        carries_two_streams(Ring::with(skip, true).unwrap());
        carries_two_streams(Ring::with(skip, false).unwrap());
    }
}

#[test]
fn a_closed_socket_is_closed_only_after_the_kernel_knows_what_named_it() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut ring = Ring::new().unwrap();
    let number = ours.as_raw_fd();
    ring.receive(number, Token { op: Op::Receive, slot: 0, generation: 0 });
    ring.close(ours.into(), true);
    let twin = theirs.try_clone().unwrap();
    assert_ne!(twin.as_raw_fd(), number, "the number was free while a submission named it");
    ring.submit(Wait::No).unwrap();
    let reused = theirs.try_clone().unwrap();
    assert!(ring.closing.is_empty());
    drop((twin, reused));
}

#[test]
fn what_is_kept_of_a_buffer_stays_as_it_came() {
    use std::io::Write;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut theirs = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    let mut ring = Ring::new().unwrap();
    let name = Token { op: Op::Receive, slot: 0, generation: 5 };
    ring.receive(ours.as_raw_fd(), name);
    let (mut kept, mut received) = (std::collections::VecDeque::new(), 0);
    // All buffers several times over, a few pieces of them always kept.
    let expected = |at: usize| (at * 31 + at / 251) as u8;
    while received < 4 * RECEIVE_MEMORY {
        let piece: Vec<u8> = (received..received + 50_000).map(expected).collect();
        theirs.write_all(&piece).unwrap();
        let until = received + piece.len();
        while received < until {
            ring.submit(Wait::For(Duration::from_secs(30))).unwrap();
            let mut completions = Vec::new();
            ring.harvest(100, |completion| completions.push(completion));
            for Completion { result, more, payload, .. } in completions {
                if let Payload::Received(lent) = payload {
                    kept.push_back((received, ring.lend(&lent)));
                    received += lent.len();
                    ring.recycle(lent);
                } else {
                    assert_eq!(result, -libc::ENOBUFS);
                }
                if !more {
                    ring.receive(ours.as_raw_fd(), name);
                }
            }
            if kept.len() > 5 {
                let (from, bytes) = kept.pop_front().unwrap();
                assert!((from..).zip(&bytes).all(|(at, byte)| *byte == expected(at)));
            }
        }
    }
    drop(ring);
    assert!(kept.iter().all(|(from, bytes)| (*from..).zip(bytes).all(|(at, byte)| *byte == expected(at))));
}
