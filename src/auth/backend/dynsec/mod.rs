//! Users, groups and roles that change at run time: Mosquitto's dynamic security API.
pub mod commands;
pub mod state;

use super::files;
use super::hash::Hash;
use super::{Grant, Verdict};
use crate::auth::decision::{ControlRequest, Login};
use crate::auth::roles::Roles;
use crate::codec::ReasonCode;
use commands::Changes;
use state::State;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest file in bytes.
const MAX_FILE: u64 = 1 << 30;
/// Where commands are sent to.
pub const TOPIC: &str = "$CONTROL/dynamic-security/v1";
/// Where the answers go.
pub const RESPONSE_TOPIC: &str = "$CONTROL/dynamic-security/v1/response";

/// The users, groups and roles, and the file that keeps them.
#[derive(Debug)]
pub struct Dynsec {
    path: PathBuf,
    state: State,
    roles: Arc<Roles>,
    /// What is hashed for users that there are not, so that the time does not tell them.
    decoy: Option<Hash>,
}

impl Dynsec {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Dynsec, String> {
        let text = files::read(path, MAX_FILE)
            .map_err(|problem| format!("{problem}; ringmq dynsec init makes the file"))?;
        let state = State::parse(&text).map_err(|problem| format!("{}: {problem}", path.display()))?;
        let roles = Arc::new(state.compile());
        let decoy = state.clients.values().find_map(|client| client.hash());
        Ok(Dynsec { path: path.into(), state, roles, decoy })
    }

    /// What the shards need of it.
    pub fn roles(&self) -> Arc<Roles> {
        self.roles.clone()
    }

    /// What is to be compared with the credentials, so that the hashing need not happen here.
    pub fn look_up(&self, login: &Login) -> Lookup {
        let (Some(user), Some(_)) = (&login.user, &login.password) else { return Lookup::Unknown(None) };
        let Some(client) = self.state.clients.get(&**user) else {
            return Lookup::Unknown(self.decoy.clone());
        };
        let is_other = client.clientid.as_ref().is_some_and(|id| **id != *login.client_id);
        match client.hash() {
            Some(hash) => Lookup::Known { hash, is_allowed: !client.disabled && !is_other },
            None => Lookup::Known { hash: self.decoy.clone().unwrap_or(NO_HASH), is_allowed: false },
        }
    }

    /// Carries out the commands of a message. The answer, and whom to send away.
    pub fn handle(&mut self, request: &ControlRequest) -> (String, Changes) {
        let mut next = self.state.clone();
        let (mut answer, mut changes) = commands::run(&mut next, &request.payload);
        if next != self.state {
            match files::replace(&self.path, next.text().as_bytes()) {
                Ok(()) => {
                    self.roles = Arc::new(next.compile());
                    self.decoy = next.clients.values().find_map(|client| client.hash());
                    self.state = next;
                    changes.rules = true;
                }
                Err(error) => {
                    eprintln!(
                        "ringmq: {} cannot be written, nothing is changed: {error}",
                        self.path.display()
                    );
                    answer = commands::failed("Internal error: the change could not be stored");
                    changes = Changes::default();
                }
            }
        }
        (answer, changes)
    }
}

/// Matches no password.
const NO_HASH: Hash = Hash::Pbkdf2 { rounds: 1, salt: Vec::new(), digest: Vec::new() };

/// What is known of a user.
pub enum Lookup {
    /// To be compared with the password.
    Known {
        /// The hash.
        hash: Hash,
        /// Whether the right password helps.
        is_allowed: bool,
    },
    /// There is no such user; what is to be hashed all the same.
    Unknown(Option<Hash>),
}

impl Lookup {
    /// Hashes and compares. Takes some time.
    pub fn verify(&self, login: &Login) -> Verdict {
        let password = login.password.as_deref().unwrap_or_default();
        match self {
            Lookup::Unknown(decoy) => {
                decoy.as_ref().map(|decoy| decoy.verify(password));
                Verdict::Unknown
            }
            Lookup::Known { hash, is_allowed } => match (hash.verify(password), is_allowed, &login.user) {
                (true, true, Some(user)) => Verdict::Allow(Grant::user(user)),
                (true, false, _) => Verdict::Deny(ReasonCode::NotAuthorized),
                _ => Verdict::Deny(ReasonCode::BadUserNameOrPassword),
            },
        }
    }
}

/// Makes a new file with an administrator.
pub fn init(path: &Path, admin: &str, password: &str) -> Result<(), String> {
    if path.exists() {
        return Err(format!("{} exists already; it is not overwritten", path.display()));
    }
    let state = State::initial(admin, password)?;
    files::replace(path, state.text().as_bytes())
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))
}
