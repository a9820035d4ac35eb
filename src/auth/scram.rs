//! SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677): the client proves that it knows the password without telling
//! it, and the broker that it knows the client's keys.
//!
//! Channel binding is not offered, so a client that could use it says so (`y`) and is believed: nothing was taken out of
//! our list on the way. User names are compared as they come; they are not normalised (SASLprep).
use super::{Exchange, Method, Step};
use crate::codec::ReasonCode;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ctutils::CtEq;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rounds of PBKDF2 for credentials that are made here; the client has to do them at each login.
pub const ROUNDS: u32 = 10_000;
/// Fewest rounds that are taken (RFC 7677).
const LEAST_ROUNDS: u32 = 4096;
/// Most rounds that are taken.
const MOST_ROUNDS: u32 = 10_000_000;
/// Longest nonce of a client, bytes.
const MAX_NONCE: usize = 256;

/// Which hash function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Hash {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

impl Hash {
    /// Both.
    pub const ALL: [Hash; 2] = [Hash::Sha256, Hash::Sha512];

    /// The method's name.
    pub fn name(self) -> &'static str {
        match self {
            Hash::Sha256 => "SCRAM-SHA-256",
            Hash::Sha512 => "SCRAM-SHA-512",
        }
    }

    fn len(self) -> usize {
        match self {
            Hash::Sha256 => 32,
            Hash::Sha512 => 64,
        }
    }

    fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha256 => Sha256::digest(data).to_vec(),
            Hash::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        const ANY: &str = "a key of HMAC may have any length";
        match self {
            Hash::Sha256 => Hmac::<Sha256>::new_from_slice(key)
                .expect(ANY)
                .chain_update(data)
                .finalize()
                .into_bytes()
                .to_vec(),
            Hash::Sha512 => Hmac::<Sha512>::new_from_slice(key)
                .expect(ANY)
                .chain_update(data)
                .finalize()
                .into_bytes()
                .to_vec(),
        }
    }

    fn salted(self, password: &[u8], salt: &[u8], rounds: u32) -> Vec<u8> {
        let mut salted = vec![0; self.len()];
        match self {
            Hash::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, rounds, &mut salted),
            Hash::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, rounds, &mut salted),
        }
        salted
    }
}

/// What is known of one user for one method. Who has it can play the broker, but not log in as the user.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    hash: Hash,
    rounds: u32,
    salt: Vec<u8>,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}...)", self.hash.name())
    }
}

impl Credentials {
    /// For a password. Takes some milliseconds.
    pub fn new(hash: Hash, password: &[u8], salt: &[u8], rounds: u32) -> Credentials {
        let salted = hash.salted(password, salt, rounds);
        let stored_key = hash.digest(&hash.hmac(&salted, b"Client Key"));
        let server_key = hash.hmac(&salted, b"Server Key");
        Credentials { hash, rounds, salt: salt.to_vec(), stored_key, server_key }
    }

    /// From `SCRAM-SHA-256$rounds:salt$stored:server`, all but the rounds in base64.
    pub fn parse(text: &str) -> Result<Credentials, String> {
        const FORM: &str =
            "not of the form SCRAM-SHA-256$rounds:salt$stored:server (ringmq passwd --scram makes it)";
        let mut parts = text.splitn(3, '$');
        let (name, salting, keys) =
            (parts.next().unwrap_or_default(), parts.next().ok_or(FORM)?, parts.next().ok_or(FORM)?);
        let hash = Hash::ALL.into_iter().find(|hash| hash.name() == name).ok_or(FORM)?;
        let (rounds, salt) = salting.split_once(':').ok_or(FORM)?;
        let (stored, server) = keys.split_once(':').ok_or(FORM)?;
        let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| FORM);
        let (salt, stored_key, server_key) = (decode(salt)?, decode(stored)?, decode(server)?);
        let rounds: u32 = rounds.parse().map_err(|_| FORM)?;
        if !(LEAST_ROUNDS..=MOST_ROUNDS).contains(&rounds) {
            return Err(format!("the rounds are not {LEAST_ROUNDS} to {MOST_ROUNDS}"));
        }
        if salt.is_empty() || stored_key.len() != hash.len() || server_key.len() != hash.len() {
            return Err("salt or keys have a wrong length".to_string());
        }
        Ok(Credentials { hash, rounds, salt, stored_key, server_key })
    }

    /// The text that [`Credentials::parse`] reads.
    pub fn text(&self) -> String {
        let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        let (name, rounds) = (self.hash.name(), self.rounds);
        let (salt, stored, server) = (encode(&self.salt), encode(&self.stored_key), encode(&self.server_key));
        format!("{name}${rounds}:{salt}${stored}:{server}")
    }

    /// The server's signature, if the proof is right.
    fn verify(&self, message: &[u8], proof: &[u8]) -> Option<Vec<u8>> {
        let signature = self.hash.hmac(&self.stored_key, message);
        if proof.len() != signature.len() {
            return None;
        }
        let client_key: Vec<u8> = signature.iter().zip(proof).map(|(a, b)| a ^ b).collect();
        let own = self.hash.digest(&client_key);
        let is_right: bool = own.as_slice().ct_eq(self.stored_key.as_slice()).into();
        is_right.then(|| self.hash.hmac(&self.server_key, message))
    }
}

/// All users of both methods.
#[derive(Clone, Debug, Default)]
pub struct Users(BTreeMap<(Box<str>, Hash), Credentials>);

impl Users {
    /// Reads the text of a file: `name:credentials` a line, two lines for a user of both methods.
    pub fn parse(text: &str) -> Result<Users, String> {
        let mut users = Users::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, credentials) =
                line.split_once(':').ok_or(format!("line {number}: not of the form name:credentials"))?;
            let credentials =
                Credentials::parse(credentials).map_err(|problem| format!("line {number}: {problem}"))?;
            let key = (user.into(), credentials.hash);
            if user.is_empty() || users.0.insert(key, credentials).is_some() {
                return Err(format!("line {number}: a user without a name, or twice"));
            }
        }
        Ok(users)
    }
}

/// One of the two methods.
#[derive(Debug)]
pub struct Scram {
    hash: Hash,
    users: Arc<Users>,
    secret: Secret,
    exchanges: AtomicU64,
}

/// From which nonces and the salts of users that there are not are made.
struct Secret([u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(...)")
    }
}

impl Scram {
    /// `secret`: random, and never the same twice.
    pub fn new(hash: Hash, users: Arc<Users>, secret: [u8; 32]) -> Scram {
        Scram { hash, users, secret: Secret(secret), exchanges: AtomicU64::new(0) }
    }
}

impl Method for Scram {
    fn name(&self) -> &str {
        self.hash.name()
    }

    fn begin(&self) -> Box<dyn Exchange> {
        let number = self.exchanges.fetch_add(1, Ordering::Relaxed);
        let nonce = self.hash.hmac(&self.secret.0, format!("nonce {number}").as_bytes());
        Box::new(ScramExchange {
            hash: self.hash,
            users: self.users.clone(),
            nonce: BASE64_STANDARD.encode(&nonce[..24]),
            salt_secret: self.hash.hmac(&self.secret.0, b"salts"),
            stage: Stage::First,
        })
    }
}

struct ScramExchange {
    hash: Hash,
    users: Arc<Users>,
    /// The server's part.
    nonce: String,
    salt_secret: Vec<u8>,
    stage: Stage,
}

impl fmt::Debug for ScramExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScramExchange({})", self.hash.name())
    }
}

enum Stage {
    /// client-first-message is to come.
    First,
    /// client-final-message is to come.
    Final(Challenge),
    /// Nothing is to come.
    Over,
}

/// What the proof is about.
struct Challenge {
    user: String,
    /// `None`: there is no such user, which is told at the end only.
    credentials: Option<Credentials>,
    /// `n,,` and its like, as the client sent it.
    header: String,
    first_bare: String,
    server_first: String,
    nonce: String,
}

const REFUSED: Step = Step::Refuse(ReasonCode::NotAuthorized);

impl Exchange for ScramExchange {
    fn handle_data(&mut self, data: Option<&[u8]>) -> Step {
        let text = data.map(std::str::from_utf8).transpose();
        match (std::mem::replace(&mut self.stage, Stage::Over), text) {
            // The client did not begin at once: an empty challenge makes it.
            (Stage::First, Ok(None)) => {
                self.stage = Stage::First;
                Step::Continue(Vec::new())
            }
            (Stage::First, Ok(Some(first))) => match self.challenge(first) {
                Some(challenge) => {
                    let server_first = challenge.server_first.clone().into_bytes();
                    self.stage = Stage::Final(challenge);
                    Step::Continue(server_first)
                }
                None => REFUSED,
            },
            (Stage::Final(challenge), Ok(Some(last))) => match challenge.check(last) {
                Some(signature) => {
                    let data = format!("v={}", BASE64_STANDARD.encode(signature)).into_bytes();
                    Step::Success { data, user: Some(challenge.user.into()) }
                }
                None => REFUSED,
            },
            _ => REFUSED,
        }
    }
}

impl ScramExchange {
    /// client-first-message: `n,[a=...],n=user,r=nonce[,extensions]`.
    fn challenge(&self, first: &str) -> Option<Challenge> {
        let mut parts = first.splitn(3, ',');
        let (flag, authzid, first_bare) = (parts.next()?, parts.next()?, parts.next()?);
        if flag != "n" && flag != "y" {
            // p=...: channel binding, which was not offered.
            return None;
        }
        let mut attributes = first_bare.split(',');
        // m=...: a mandatory extension, and none is known.
        let user = unescape(attributes.next()?.strip_prefix("n=")?)?;
        let client_nonce = attributes.next()?.strip_prefix("r=")?;
        let is_nonce = |nonce: &str| nonce.bytes().all(|byte| byte.is_ascii_graphic());
        if user.is_empty()
            || client_nonce.is_empty()
            || client_nonce.len() > MAX_NONCE
            || !is_nonce(client_nonce)
        {
            return None;
        }
        // Nobody acts for somebody else.
        if !authzid.is_empty() && unescape(authzid.strip_prefix("a=")?)? != user {
            return None;
        }
        let credentials = self.users.0.get(&(user.as_str().into(), self.hash)).cloned();
        let (salt, rounds) = match &credentials {
            Some(known) => (known.salt.clone(), known.rounds),
            // The same each time, as that of a user would be.
            None => (self.hash.hmac(&self.salt_secret, user.as_bytes())[..16].to_vec(), ROUNDS),
        };
        let nonce = format!("{client_nonce}{}", self.nonce);
        let server_first = format!("r={nonce},s={},i={rounds}", BASE64_STANDARD.encode(salt));
        let (header, first_bare) = (format!("{flag},{authzid},"), first_bare.to_string());
        Some(Challenge { user, credentials, header, first_bare, server_first, nonce })
    }
}

impl Challenge {
    /// client-final-message: `c=header,r=nonce[,extensions],p=proof`. The server's signature if the proof is right.
    fn check(&self, last: &str) -> Option<Vec<u8>> {
        let (without_proof, proof) = last.rsplit_once(",p=")?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next()?.strip_prefix("c=")?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        if BASE64_STANDARD.decode(binding).ok()? != self.header.as_bytes() || nonce != self.nonce {
            return None;
        }
        let message = format!("{},{},{without_proof}", self.first_bare, self.server_first);
        let proof = BASE64_STANDARD.decode(proof).ok()?;
        self.credentials.as_ref()?.verify(message.as_bytes(), &proof)
    }
}

/// `=2C` is a comma, `=3D` an equals sign; anything else behind one is an error.
fn unescape(name: &str) -> Option<String> {
    let mut plain = String::with_capacity(name.len());
    let mut parts = name.split('=');
    plain.push_str(parts.next()?);
    for part in parts {
        match part.get(..2)? {
            "2C" => plain.push(','),
            "3D" => plain.push('='),
            _ => return None,
        }
        plain.push_str(&part[2..]);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    /// The example of RFC 7677, with the server's nonce of there.
    #[test]
    fn the_example_of_the_rfc() {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let credentials = Credentials::new(Hash::Sha256, b"pencil", &salt, 4096);
        let users = Users(BTreeMap::from([(("user".into(), Hash::Sha256), credentials)]));
        let mut exchange = ScramExchange {
            hash: Hash::Sha256,
            users: Arc::new(users),
            nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_string(),
            salt_secret: Vec::new(),
            stage: Stage::First,
        };
        assert_eq!(
            exchange.handle_data(Some(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")),
            Step::Continue(
                b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
                    .to_vec()
            )
        );
        let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                     p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(
            exchange.handle_data(Some(last)),
            Step::Success {
                data: b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_vec(),
                user: Some("user".into())
            }
        );
        assert_eq!(exchange.handle_data(Some(last)), REFUSED);
    }

    fn method(hash: Hash) -> Scram {
        static USERS: LazyLock<Arc<Users>> = LazyLock::new(|| {
            let line = |(name, password, hash): (&str, &[u8], Hash)| {
                format!("{name}:{}\n", Credentials::new(hash, password, b"salt", LEAST_ROUNDS).text())
            };
            let both = |name: &'static str, password: &'static [u8]| {
                Hash::ALL.map(|hash| line((name, password, hash))).concat()
            };
            Arc::new(Users::parse(&(both("ann", b"secret") + &both("a,b=c", b"other"))).unwrap())
        });
        Scram::new(hash, USERS.clone(), [7; 32])
    }

    /// What a client does; `change` makes it do something else in its last message.
    fn login(
        method: &Scram,
        header: &str,
        user: &str,
        password: &[u8],
        change: impl Fn(String) -> String,
    ) -> (Step, Vec<u8>) {
        let hash = method.hash;
        let mut exchange = method.begin();
        let bare = format!("n={user},r=abc");
        let Step::Continue(challenge) = exchange.handle_data(Some(format!("{header}{bare}").as_bytes()))
        else {
            return (REFUSED, Vec::new());
        };
        let challenge = String::from_utf8(challenge).unwrap();
        let field = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
        let salt = BASE64_STANDARD.decode(field("s=")).unwrap();
        let salted = hash.salted(password, &salt, field("i=").parse().unwrap());
        let without_proof = change(format!("c={},r={}", BASE64_STANDARD.encode(header), field("r=")));
        let message = format!("{bare},{challenge},{without_proof}");
        let client_key = hash.hmac(&salted, b"Client Key");
        let signature = hash.hmac(&hash.digest(&client_key), message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let last = format!("{without_proof},p={}", BASE64_STANDARD.encode(proof));
        let expected = hash.hmac(&hash.hmac(&salted, b"Server Key"), message.as_bytes());
        let expected = format!("v={}", BASE64_STANDARD.encode(expected)).into_bytes();
        (exchange.handle_data(Some(last.as_bytes())), expected)
    }

    #[test]
    fn both_sides_prove_what_they_know() {
        for hash in Hash::ALL {
            let method = method(hash);
            for header in ["n,,", "y,,", "n,a=ann,"] {
                let (step, data) = login(&method, header, "ann", b"secret", |last| last);
                assert_eq!(step, Step::Success { data, user: Some("ann".into()) }, "{hash:?} {header}");
            }
            let (step, data) = login(&method, "n,,", "a=2Cb=3Dc", b"other", |last| last);
            assert_eq!(step, Step::Success { data, user: Some("a,b=c".into()) });
        }
    }

    #[test]
    fn who_does_not_know_is_refused() {
        let method = method(Hash::Sha256);
        let refused = |header: &str, user: &str, password: &[u8], change: &dyn Fn(String) -> String| {
            assert_eq!(login(&method, header, user, password, change).0, REFUSED, "{header} {user}");
        };
        let same = |last: String| last;
        refused("n,,", "ann", b"wrong", &same);
        refused("n,,", "bob", b"secret", &same);
        refused("n,a=root,", "ann", b"secret", &same);
        refused("p=tls-unique,,", "ann", b"secret", &same);
        refused("n,,m=ext,", "ann", b"secret", &same);
        refused("n,,", "a=2cb", b"other", &same);
        refused("n,,", "ann", b"secret", &|last| last.replace("c=biws", "c=eSws"));
        refused("n,,", "ann", b"secret", &|last| last + "x");
    }

    #[test]
    fn nonces_differ_and_a_user_that_there_is_not_looks_like_one() {
        let method = method(Hash::Sha512);
        let first = |user: &str| match method.begin().handle_data(Some(format!("n,,n={user},r=x").as_bytes()))
        {
            Step::Continue(data) => String::from_utf8(data).unwrap(),
            other => panic!("{other:?}"),
        };
        let salt = |text: &str| text.split(',').nth(1).unwrap().to_string();
        let (one, again) = (first("nobody"), first("nobody"));
        assert_ne!(one, again);
        assert_eq!(salt(&one), salt(&again));
        assert_ne!(salt(&one), salt(&first("nobody2")));
        assert_eq!(method.begin().handle_data(None), Step::Continue(Vec::new()));
    }

    #[test]
    fn a_file_is_read_and_nothing_of_it_shown() {
        let text = Credentials::new(Hash::Sha256, b"pencil", b"salt", LEAST_ROUNDS).text();
        let credentials = Credentials::parse(&text).unwrap();
        assert_eq!(credentials.text(), text);
        assert_eq!(format!("{credentials:?}"), "Credentials(SCRAM-SHA-256...)");
        for (bad, expected) in [
            ("ann".to_string(), "line 1: not of the form"),
            (format!("ann:{text}\nann:{text}"), "line 2: a user"),
            (format!("ann:{}", text.replace("4096", "4095")), "line 1: the rounds"),
            (format!("ann:{}", text.replace("256", "512")), "line 1: salt or keys"),
        ] {
            let error = Users::parse(&bad).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_data_is_answered(pieces in prop::collection::vec("(n|y|p|a|=|,|r=|n=|c=|2C|\\PC){0,12}", 1..4)) {
            let mut exchange = method(Hash::Sha256).begin();
            for piece in pieces {
                exchange.handle_data(Some(piece.as_bytes()));
            }
        }
    }
}
