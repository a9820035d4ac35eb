//! The limit of open files: every connection is one.
use crate::net::descriptors;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the limit is raised to where we are allowed to raise even its bound; the kernel's usual `fs.nr_open`.
const WANTED: u64 = 1_048_576;
/// Descriptors that are not connections: rings, listeners, doorbells, standard streams, and their like, generously.
const OTHERS: u64 = 1024;

/// Makes room for `connections`, while there are no threads. The error is one sentence.
pub fn make_room(connections: usize) -> Result<(), String> {
    descriptors::reserve((connections as u64).saturating_add(OTHERS))
        .map_err(|error| format!("there is no memory for the table of open files ({error})"))
}

/// Raises the limit as far as we may; the answer is a warning when it stays below what `connections` need.
pub fn raise_open_files(connections: usize) -> Option<String> {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    // Raising the bound is for root only; then the bound itself, which everybody may have unless it is boundless.
    let tries = [hard.max(WANTED), hard, hard.min(WANTED)];
    for wanted in tries {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum.map(|hard| hard.max(wanted)) };
        if limit.current.is_none_or(|current| current >= wanted)
            || setrlimit(Resource::Nofile, raised).is_ok()
        {
            break;
        }
    }
    let now = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let room = now.saturating_sub(OTHERS);
    (room < connections as u64).then(|| {
        format!(
            "the limit of {now} open files leaves room for about {room} connections, not the {connections} of \
             --max-connections; raise it (ulimit -n, LimitNOFILE= of systemd) if you need more"
        )
    })
}
