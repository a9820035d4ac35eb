//! Whether this machine lets us have the rings we need, asked before anything depends on it.
use super::ring::{Op, Payload, Ring, Token, Wait};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Bytes of lockable memory that the executor insists on.
const MEMLOCK: u64 = 512 << 10;
/// Seconds the kernel has for a receive whose bytes are already there.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes a ring as the shards will, and receives through it. The error is one sentence with cause and remedy.
pub fn probe() -> Result<(), String> {
    raise_memlock()?;
    let mut ring = Ring::new().map_err(|error| explain(&error))?;
    match receive_twice(&mut ring) {
        Ok(true) => Ok(()),
        Ok(false) => Err(too_old()),
        Err(error) => Err(explain(&error)),
    }
}

/// Whether one receive brings bytes twice, each time in a buffer of the ring.
fn receive_twice(ring: &mut Ring) -> io::Result<bool> {
    let (ours, mut theirs) = UnixStream::pair()?;
    let token = Token { op: Op::Receive, slot: 0, generation: 0 };
    ring.receive(ours.as_raw_fd(), token);
    for byte in [1u8, 2] {
        theirs.write_all(&[byte])?;
        let mut came = None;
        ring.submit(Wait::For(PATIENCE))?;
        ring.harvest(1, |completion| came = Some(completion));
        let Some(completion) = came else { return Ok(false) };
        let Payload::Received(lent) = completion.payload else {
            return match -completion.result {
                libc::EPERM | libc::EACCES => Err(io::Error::from_raw_os_error(-completion.result)),
                _ => Ok(false),
            };
        };
        let right = ring.bytes(&lent) == [byte] && completion.more;
        ring.recycle(lent);
        if !right {
            return Ok(false);
        }
    }
    Ok(true)
}

/// As much lockable memory as we are allowed.
fn raise_memlock() -> Result<(), String> {
    let limit = getrlimit(Resource::Memlock);
    if limit.current != limit.maximum {
        // Refused: then the check below says what is missing.
        let _ = setrlimit(Resource::Memlock, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    match getrlimit(Resource::Memlock).current {
        Some(bytes) if bytes < MEMLOCK => Err(format!(
            "only {} KiB of memory may be locked and io_uring needs {} KiB; raise the limit \
             (ulimit -l, LimitMEMLOCK= of systemd, --ulimit memlock=-1 of Docker)",
            bytes >> 10,
            MEMLOCK >> 10
        )),
        _ => Ok(()),
    }
}

fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => forbidden(),
        Some(libc::ENOSYS | libc::EINVAL) => too_old(),
        Some(libc::ENOMEM) => "there is not enough lockable memory for io_uring; raise the limit \
            (ulimit -l, LimitMEMLOCK= of systemd, --ulimit memlock=-1 of Docker)"
            .to_string(),
        Some(libc::EMFILE | libc::ENFILE) => {
            "io_uring cannot be set up because too many files are open; raise the limit (ulimit -n)"
                .to_string()
        }
        _ => format!("io_uring cannot be set up ({error}); it needs Linux 6.0 or newer"),
    }
}

fn too_old() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("this kernel ({}) lacks the io_uring that ringmq needs; use Linux 6.0 or newer", release.trim())
}

fn forbidden() -> String {
    let setting = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match setting.trim() {
        "1" => "io_uring is reserved to privileged programs here (kernel.io_uring_disabled is 1); \
                run as root or allow it with: sysctl kernel.io_uring_disabled=0"
            .to_string(),
        "2" => "io_uring is switched off on this machine (kernel.io_uring_disabled is 2); \
                allow it with: sysctl kernel.io_uring_disabled=0"
            .to_string(),
        _ => "io_uring is forbidden here, most likely by the container's seccomp profile; allow the io_uring calls \
              (--security-opt seccomp=unconfined of Docker, or a profile that names them)"
            .to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_sentence_with_a_remedy() {
        for (number, remedy) in [
            (libc::ENOSYS, "Linux 6.0"),
            (libc::EINVAL, "Linux 6.0"),
            (libc::ENOMEM, "ulimit -l"),
            (libc::EMFILE, "ulimit -n"),
            (libc::EIO, "Linux 6.0"),
        ] {
            let sentence = explain(&io::Error::from_raw_os_error(number));
            assert!(sentence.contains(remedy) && !sentence.contains('\n'), "{sentence}");
        }
        assert!(explain(&io::Error::from_raw_os_error(libc::EPERM)).contains("allow"));
    }
}
