//! Sending: one plain system call that does not block.
use crate::shard::output::{MAX_SLICES, Output};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use std::io::IoSlice;
use std::os::fd::OwnedFd;

/// How far sending came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// All is sent.
    All,
    /// The socket is full.
    Blocked,
    /// The connection failed; sending is of no use any more.
    Broken,
}

/// Sends as much of `output` as the socket takes: one call, or several when there are very many pieces.
pub fn send(socket: &OwnedFd, output: &mut Output) -> Sent {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    while !output.is_empty() {
        let (outcome, wished) = match output.single() {
            Some(bytes) => (rustix::net::send(socket, bytes, flags), bytes.len()),
            None => {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let filled = output.slices(&mut slices);
                let wished = slices[..filled].iter().map(|slice| slice.len()).sum();
                let mut control = SendAncillaryBuffer::default();
                (sendmsg(socket, &slices[..filled], &mut control, flags), wished)
            }
        };
        match outcome {
            Ok(count) => {
                output.advance(count);
                if count < wished {
                    return Sent::Blocked;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Sent::Blocked,
            Err(_) => return Sent::Broken,
        }
    }
    Sent::All
}

/// Sends as much of `head`, and of the first `count` bytes of `body` behind it, as the socket takes.
pub fn send_both(socket: &OwnedFd, head: &mut Output, body: &mut Output, mut count: usize) -> Sent {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    while !head.is_empty() || count > 0 {
        let none = [IoSlice::new(&[]); MAX_SLICES];
        let (mut of_head, mut of_body, mut slices) = (none, none, [IoSlice::new(&[]); 2 * MAX_SLICES]);
        let filled = head.slices(&mut of_head);
        slices[..filled].copy_from_slice(&of_head[..filled]);
        let is_whole = of_head[..filled].iter().map(|slice| slice.len()).sum::<usize>() == head.len();
        let (mut filled, mut left) = (filled, if is_whole { count } else { 0 });
        let in_body = body.slices(&mut of_body);
        for slice in of_body[..in_body].iter().take_while(|_| is_whole) {
            let taken = slice.len().min(left);
            if taken == 0 {
                break;
            }
            slices[filled] = IoSlice::new(&slice[..taken]);
            (filled, left) = (filled + 1, left - taken);
        }
        let wished: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
        let mut control = SendAncillaryBuffer::default();
        match sendmsg(socket, &slices[..filled], &mut control, flags) {
            Ok(sent) => {
                let from_head = sent.min(head.len());
                head.advance(from_head);
                body.advance(sent - from_head);
                count -= sent - from_head;
                if sent < wished {
                    return Sent::Blocked;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Sent::Blocked,
            Err(_) => return Sent::Broken,
        }
    }
    Sent::All
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::io::{ErrorKind, Read};
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_follows_leaves_in_order_however_little_the_socket_takes() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let ours = OwnedFd::from(ours);
        let (mut head, mut body) = (Output::default(), Output::default());
        head.tail().extend_from_slice(b"head");
        let mut expected = b"head".to_vec();
        // More pieces, and more bytes, than one call takes.
        for number in 0..300u16 {
            let piece = vec![number as u8; 4000];
            expected.extend_from_slice(&piece);
            body.push_shared(Bytes::from(piece));
        }
        body.tail().extend_from_slice(b"not yet");
        let (mut left, mut read, mut buffer) = (expected.len() - 4, Vec::new(), vec![0; 10_000]);
        loop {
            let before = body.len();
            let sent = send_both(&ours, &mut head, &mut body, left);
            left -= before - body.len();
            match theirs.read(&mut buffer) {
                Ok(count) => read.extend_from_slice(&buffer[..count]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            if sent == Sent::All && read.len() == expected.len() {
                break;
            }
            assert_ne!(sent, Sent::Broken);
        }
        assert!(read == expected);
        assert_eq!((left, body.len()), (0, 7));
        drop(theirs);
        assert_eq!(send_both(&ours, &mut head, &mut body, 7), Sent::Broken);
    }
}
