//! What finds out who a client is: files, hashes, services. All of it on ordinary threads, never on a shard.
//!
//! The backends are asked in this order, and the first that knows the user decides: a token in the place of the
//! password, the users of the dynamic security API, the password file, the HTTP service. What none knows is refused.
pub mod bans;
mod cache;
pub mod dynsec;
pub mod files;
pub mod hash;
pub mod http;
mod keys;
pub mod password_file;
mod pool;
pub mod token;

pub use pool::Pool;

use super::access::{Door, Policy};
use super::acl::{AclFile, MAX_ACL_FILE};
use super::bans::Bans;
use super::crowd::Crowd;
use super::decision::{Answer, ControlRequest, Grant, Login, Question};
use super::scram::{Hash, Scram, Users};
use super::test_method::TestMethod;
use super::{Method, Methods};
use crate::codec::ReasonCode;
use crate::config::auth::AuthArgs;
use crate::shard::core::Command;
use crate::shard::mesh::CommandSender;
use crate::time::Time;
use dynsec::Dynsec;
use http::Service;
use keys::Jwks;
use password_file::{MAX_PASSWORD_FILE, PasswordFile};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Instant;
use token::{Checked, Expectations, Key};

/// Longest file of keys in bytes.
const MAX_KEY_FILE: u64 = 1024 * 1024;
const NO_PANIC: &str = "no thread panics while it holds this";

/// What one backend says to credentials.
#[derive(Debug)]
pub enum Verdict {
    /// They are right.
    Allow(Grant),
    /// They are wrong.
    Deny(ReasonCode),
    /// It does not know this user; the next backend is asked.
    Unknown,
}

/// Settings that concern who may come in, beside those of [`AuthArgs`].
#[derive(Clone, Debug, Default)]
pub struct Doors {
    /// By listener: what it asks of those who connect.
    pub doors: Vec<Door>,
    /// The method for tests is offered.
    pub test_auth: bool,
}

/// What was read from the files.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    passwords: Option<Arc<PasswordFile>>,
    scram: Option<Arc<Users>>,
    keys: Option<Arc<Vec<Key>>>,
    acl: Option<Arc<AclFile>>,
    bans: Bans,
}

/// Everything that is asked about clients.
pub struct Backends {
    args: AuthArgs,
    doors: RwLock<Doors>,
    start: Instant,
    loaded: RwLock<Arc<Loaded>>,
    dynsec: Option<Mutex<Dynsec>>,
    jwks: Option<Arc<Jwks>>,
    expectations: Expectations,
    service: Option<Service>,
    /// The shards, once they run.
    shards: OnceLock<Vec<CommandSender<Command>>>,
    crowd: Arc<Crowd>,
    seed: [u8; 32],
    secrets: AtomicU64,
    /// [`Policy::generation`]: counted up after each change, and before the shards are told of it.
    generation: AtomicU64,
}

impl Backends {
    /// Reads all files. `start` is the zero of [`Time`]. Beside the backends come warnings for the operator; an error
    /// is one sentence.
    pub fn load(args: &AuthArgs, doors: Doors, start: Instant) -> Result<(Backends, Vec<String>), String> {
        let (loaded, mut warnings) = read_all(args, start)?;
        let dynsec = args.dynsec_file.as_deref().map(Dynsec::load).transpose()?;
        warnings.extend(args.dynsec_file.as_deref().and_then(files::warn_if_open));
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| format!("no random numbers: {error}"))?;
        let backends = Backends {
            args: args.clone(),
            doors: RwLock::new(doors),
            start,
            loaded: RwLock::new(Arc::new(loaded)),
            dynsec: dynsec.map(Mutex::new),
            jwks: Jwks::new(args)?,
            expectations: Expectations::new(args),
            service: Service::new(args)?,
            shards: OnceLock::new(),
            crowd: Arc::default(),
            seed,
            secrets: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        };
        Ok((backends, warnings))
    }

    /// Reads all files again, that of the dynamic security API apart (it changes at run time). Beside them come warnings;
    /// an error is one sentence.
    pub fn read(&self) -> Result<(Loaded, Vec<String>), String> {
        read_all(&self.args, self.start)
    }

    /// Reads the ban file again and tells the shards, which send away whom it names.
    pub fn read_bans(&self) -> Result<(), String> {
        let Some(path) = &self.args.ban_file else { return Ok(()) };
        let bans = read_bans(path, self.start)?;
        let loaded = Loaded { bans, ..Loaded::clone(&self.loaded()) };
        // Bans are looked at anew when a client is let in.
        self.put(loaded, None, false);
        Ok(())
    }

    /// Takes what was read, and tells the shards. Without doors they stay as they are.
    pub fn take(&self, loaded: Loaded, doors: Option<Doors>) {
        self.put(loaded, doors, true);
    }

    /// `is_about_credentials`: who is being looked at has to be looked at again.
    fn put(&self, loaded: Loaded, doors: Option<Doors>, is_about_credentials: bool) {
        *self.loaded.write().expect(NO_PANIC) = Arc::new(loaded);
        if let Some(doors) = doors {
            *self.doors.write().expect(NO_PANIC) = doors;
        }
        // Held, so that rules do not overtake newer ones on their way to the shards.
        let held = self.dynsec.as_ref().map(|dynsec| dynsec.lock().expect(NO_PANIC));
        self.generation.fetch_add(u64::from(is_about_credentials), Ordering::SeqCst);
        let roles = held.as_ref().map(|dynsec| dynsec.roles());
        self.tell_policy(Policy { roles, ..self.policy_of_files() });
    }

    /// Starts what goes on by itself, and remembers whom to tell of changes.
    fn attach(&self, shards: &[CommandSender<Command>]) -> std::io::Result<()> {
        self.shards.get_or_init(|| shards.to_vec());
        self.jwks.as_ref().map_or(Ok(()), Jwks::start)
    }

    fn loaded(&self) -> Arc<Loaded> {
        self.loaded.read().expect(NO_PANIC).clone()
    }

    /// What the shards decide by themselves.
    pub fn policy(&self) -> Policy {
        let roles = self.dynsec.as_ref().map(|dynsec| dynsec.lock().expect(NO_PANIC).roles());
        Policy { roles, ..self.policy_of_files() }
    }

    fn policy_of_files(&self) -> Policy {
        let loaded = self.loaded();
        let doors = self.doors.read().expect(NO_PANIC).clone();
        let mut methods: Vec<Box<dyn Method>> = Vec::new();
        if let Some(users) = &loaded.scram {
            for hash in Hash::ALL {
                methods.push(Box::new(Scram::new(hash, users.clone(), self.secret())));
            }
        }
        if doors.test_auth {
            methods.push(Box::new(TestMethod));
        }
        let controls = if self.dynsec.is_some() { vec![dynsec::TOPIC.into()] } else { Vec::new() };
        Policy {
            generation: self.generation.load(Ordering::SeqCst),
            doors: doors.doors,
            door: Door { anonymous: false, identity: false },
            verifies: self.args.verifies(),
            methods: Methods::from(methods),
            bans: loaded.bans.clone(),
            acl: loaded.acl.clone(),
            roles: None,
            tokens: self.args.takes_tokens(),
            asks: self.args.auth_http_acl_url.is_some(),
            controls,
            crowd: self.crowd.clone(),
        }
    }

    fn tell_policy(&self, policy: Policy) {
        let policy = Arc::new(policy);
        self.tell(|| Command::Policy(policy.clone()));
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for shard in self.shards.get().into_iter().flatten() {
            // Refused only by a shard that has ended.
            let _ = shard.send_patiently(command());
        }
    }

    /// A new secret for each use, from the one that was drawn at the start.
    fn secret(&self) -> [u8; 32] {
        let number = self.secrets.fetch_add(1, Ordering::Relaxed);
        Sha256::new().chain_update(self.seed).chain_update(number.to_le_bytes()).finalize().into()
    }

    /// Finds the answer to a question of a shard. May take long.
    pub fn answer(&self, question: Question) -> Answer {
        match question {
            Question::Login(login) => {
                // Before anything is looked at, so that what changes meanwhile shows.
                let generation = self.generation.load(Ordering::SeqCst);
                Answer::Login(self.login(&login), generation)
            }
            Question::Access(wish) => {
                let (allowed, lasts_ms) =
                    self.service.as_ref().map_or((false, 0), |service| service.allows(&wish));
                Answer::Access { wish, allowed, lasts_ms }
            }
            Question::Control(request) => self.control(&request),
        }
    }

    /// Asks one backend after the other.
    fn login(&self, login: &Login) -> Result<Grant, ReasonCode> {
        let loaded = self.loaded();
        let by_service = || self.service.as_ref().map_or(Verdict::Unknown, |service| service.login(login));
        let backends: [&dyn Fn() -> Verdict; 4] = [
            &|| self.by_token(&loaded, login),
            &|| self.by_dynsec(login),
            &|| by_password(&loaded, login),
            &by_service,
        ];
        for backend in backends {
            match backend() {
                Verdict::Allow(grant) => return Ok(grant),
                Verdict::Deny(reason) => return Err(reason),
                Verdict::Unknown => {}
            }
        }
        Err(ReasonCode::BadUserNameOrPassword)
    }

    fn by_token(&self, loaded: &Loaded, login: &Login) -> Verdict {
        let fetched = self.jwks.as_ref().map(|jwks| jwks.keys());
        let keys = match (&loaded.keys, &fetched) {
            (Some(keys), _) => &**keys,
            (None, Some(keys)) => &**keys,
            (None, None) => return Verdict::Unknown,
        };
        match token::check(keys, &self.expectations, login, bans::unix_seconds()) {
            Checked::NoToken => Verdict::Unknown,
            Checked::UnknownKey => {
                if let Some(jwks) = &self.jwks {
                    jwks.want();
                }
                Verdict::Deny(ReasonCode::NotAuthorized)
            }
            Checked::Bad => Verdict::Deny(ReasonCode::NotAuthorized),
            Checked::Good(grant) => Verdict::Allow(grant),
        }
    }

    fn by_dynsec(&self, login: &Login) -> Verdict {
        let Some(dynsec) = &self.dynsec else { return Verdict::Unknown };
        // Hashed without the lock.
        let found = dynsec.lock().expect(NO_PANIC).look_up(login);
        found.verify(login)
    }

    fn control(&self, request: &ControlRequest) -> Answer {
        let mut answer = dynsec::commands::failed("Unknown command");
        if let Some(dynsec) = self.dynsec.as_ref().filter(|_| *request.topic == *dynsec::TOPIC) {
            let mut dynsec = dynsec.lock().expect(NO_PANIC);
            let (text, changes) = dynsec.handle(request);
            // Before the answer, and before anybody else changes something: whoever reads the answer finds it done.
            if changes.rules {
                self.generation.fetch_add(1, Ordering::SeqCst);
                self.tell_policy(Policy { roles: Some(dynsec.roles()), ..self.policy_of_files() });
            }
            for user in &changes.ended {
                self.tell(|| Command::EndUser(user.as_str().into()));
            }
            answer = text;
        }
        Answer::Control { topic: dynsec::RESPONSE_TOPIC.into(), payload: answer.into_bytes().into() }
    }
}

fn by_password(loaded: &Loaded, login: &Login) -> Verdict {
    let (Some(file), Some(user)) = (&loaded.passwords, &login.user) else { return Verdict::Unknown };
    match file.verify(user, login.password.as_deref().unwrap_or_default()) {
        Some(true) => Verdict::Allow(Grant::user(user)),
        Some(false) => Verdict::Deny(ReasonCode::BadUserNameOrPassword),
        None => Verdict::Unknown,
    }
}

fn read_all(args: &AuthArgs, start: Instant) -> Result<(Loaded, Vec<String>), String> {
    let mut loaded = Loaded::default();
    let mut warnings = Vec::new();
    if let Some(path) = &args.password_file {
        let file = parse(path, MAX_PASSWORD_FILE, PasswordFile::parse)?;
        warnings.extend(files::warn_if_open(path));
        if file.weak() > 0 {
            warnings.push(format!(
                "{} has {} passwords in the form $6$, which is quickly guessed; set them anew with ringmq passwd",
                path.display(),
                file.weak()
            ));
        }
        loaded.passwords = Some(Arc::new(file));
    }
    if let Some(path) = &args.scram_file {
        loaded.scram = Some(Arc::new(parse(path, MAX_PASSWORD_FILE, Users::parse)?));
        warnings.extend(files::warn_if_open(path));
    }
    if let Some(path) = &args.jwt_key_file {
        let keys = parse(path, MAX_KEY_FILE, token::parse_keys)?;
        if keys.iter().any(Key::is_secret) {
            warnings.extend(files::warn_if_open(path));
        }
        loaded.keys = Some(Arc::new(keys));
    }
    if let Some(path) = &args.acl_file {
        let parse_acl = |text: &str| AclFile::parse(text).map_err(|error| error.to_string());
        loaded.acl = Some(Arc::new(parse(path, MAX_ACL_FILE as u64, parse_acl)?));
    }
    if let Some(path) = &args.ban_file {
        loaded.bans = read_bans(path, start)?;
    }
    Ok((loaded, warnings))
}

fn read_bans(path: &Path, start: Instant) -> Result<Bans, String> {
    let now = (Time(start.elapsed().as_millis() as u64), bans::unix_seconds());
    parse(path, bans::MAX_BAN_FILE, |text| bans::parse(text, now))
}

fn parse<T>(path: &Path, most: u64, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, String> {
    parse(&files::read(path, most)?).map_err(|problem| format!("{}: {problem}", path.display()))
}
