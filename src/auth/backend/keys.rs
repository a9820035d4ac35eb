//! The keys that tokens are signed with: from a file, or from a URL that is looked at again and again.
use super::http::{agent, check_url};
use super::token::{Key, parse_jwks};
use crate::config::auth::AuthArgs;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use ureq::Agent;

/// Longest answer, bytes.
const MAX_JWKS: u64 = 1024 * 1024;
/// Time that the server has to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Least time between two looks, however many tokens come with keys that are not known.
const LEAST: Duration = Duration::from_secs(10);

/// Keys from a URL. While the server does not answer, the last ones stay.
pub struct Jwks {
    url: String,
    agent: Agent,
    refresh: Duration,
    keys: Mutex<Arc<Vec<Key>>>,
    /// A token came with a key that is not known.
    wanted: (Mutex<bool>, Condvar),
}

const NO_PANIC: &str = "no thread panics while it holds this";

impl Jwks {
    /// From the flags; `None` if no URL is given.
    pub fn new(args: &AuthArgs) -> Result<Option<Arc<Jwks>>, String> {
        let Some(url) = &args.jwt_jwks_url else { return Ok(None) };
        check_url(url)?;
        Ok(Some(Arc::new(Jwks {
            url: url.clone(),
            agent: agent(TIMEOUT, args.auth_ca_file.as_deref())?,
            refresh: Duration::from_millis(args.jwt_jwks_refresh.millis).max(LEAST),
            keys: Mutex::default(),
            wanted: Default::default(),
        })))
    }

    /// The keys as they were last seen; none before the first time.
    pub fn keys(&self) -> Arc<Vec<Key>> {
        self.keys.lock().expect(NO_PANIC).clone()
    }

    /// Asks for a look before its time.
    pub fn want(&self) {
        *self.wanted.0.lock().expect(NO_PANIC) = true;
        self.wanted.1.notify_one();
    }

    /// Starts the thread that looks, for as long as the process runs.
    pub fn start(self: &Arc<Jwks>) -> io::Result<()> {
        let jwks = self.clone();
        std::thread::Builder::new().name("ringmq-jwks".to_string()).spawn(move || {
            loop {
                match jwks.fetch() {
                    Ok(keys) => *jwks.keys.lock().expect(NO_PANIC) = Arc::new(keys),
                    Err(problem) => eprintln!("ringmq: {}: {problem}; the keys stay as they are", jwks.url),
                }
                jwks.rest();
            }
        })?;
        Ok(())
    }

    fn fetch(&self) -> Result<Vec<Key>, String> {
        let mut response = self.agent.get(&self.url).call().map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(format!("status {}", response.status().as_u16()));
        }
        let text = response.body_mut().with_config().limit(MAX_JWKS).read_to_string();
        parse_jwks(&text.map_err(|error| error.to_string())?)
    }

    /// Until the next look is due.
    fn rest(&self) {
        std::thread::sleep(LEAST);
        let until = Instant::now() + self.refresh.saturating_sub(LEAST);
        let mut wanted = self.wanted.0.lock().expect(NO_PANIC);
        while !*wanted {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            wanted = self.wanted.1.wait_timeout(wanted, left).expect(NO_PANIC).0;
        }
        *wanted = false;
    }
}
