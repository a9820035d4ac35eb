//! Hashed passwords: the formats of Mosquitto's password files, and argon2id.
use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ctutils::CtEq;
use ring::pbkdf2;
use sha2::{Digest, Sha512};
use std::num::NonZeroU32;

/// Most rounds of PBKDF2 in a file; the time of a login grows with them.
const MAX_ROUNDS: u32 = 10_000_000;
/// Most memory of argon2 in a file, KiB.
const MAX_MEMORY: u32 = 1 << 20;
/// Most passes of argon2 in a file.
const MAX_PASSES: u32 = 64;
/// Bytes of a salt that is made here.
const SALT_LEN: usize = 16;

/// One hashed password.
#[derive(Clone, PartialEq, Eq)]
pub enum Hash {
    /// `$6$`: SHA-512 of password and salt, once.
    Sha512 {
        /// The salt.
        salt: Vec<u8>,
        /// The digest.
        digest: Vec<u8>,
    },
    /// `$7$`: PBKDF2 with HMAC-SHA-512.
    Pbkdf2 {
        /// How often.
        rounds: u32,
        /// The salt.
        salt: Vec<u8>,
        /// The digest.
        digest: Vec<u8>,
    },
    /// `$argon2id$`, with its parameters.
    Argon2(Box<str>),
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Hash::Sha512 { .. } => "$6$",
            Hash::Pbkdf2 { .. } => "$7$",
            Hash::Argon2(_) => "$argon2id$",
        };
        write!(f, "Hash({name}...)")
    }
}

impl Hash {
    /// Reads a hash; the error is a sentence that does not repeat it.
    pub fn parse(text: &str) -> Result<Hash, String> {
        let part =
            |text: &str| BASE64_STANDARD.decode(text).map_err(|_| "salt or digest is not base64".to_string());
        let is_whole = |salt: &[u8], digest: &[u8]| match salt.is_empty() || digest.len() != 64 {
            true => Err("salt or digest has a wrong length".to_string()),
            false => Ok(()),
        };
        let fields: Vec<&str> = text.split('$').collect();
        match fields[..] {
            ["", "6", salt, digest] => {
                let (salt, digest) = (part(salt)?, part(digest)?);
                is_whole(&salt, &digest)?;
                Ok(Hash::Sha512 { salt, digest })
            }
            ["", "7", rounds, salt, digest] => {
                let rounds = rounds.parse().ok().filter(|rounds| (1..=MAX_ROUNDS).contains(rounds));
                let rounds = rounds.ok_or(format!("the rounds of $7$ are not 1 to {MAX_ROUNDS}"))?;
                let (salt, digest) = (part(salt)?, part(digest)?);
                is_whole(&salt, &digest)?;
                Ok(Hash::Pbkdf2 { rounds, salt, digest })
            }
            ["", "argon2id", ..] => {
                let hash = PasswordHash::new(text).map_err(|error| format!("bad argon2id hash: {error}"))?;
                let params =
                    Params::try_from(&hash).map_err(|error| format!("bad argon2id hash: {error}"))?;
                if params.m_cost() > MAX_MEMORY || params.t_cost() > MAX_PASSES {
                    return Err(format!("argon2id with more than m={MAX_MEMORY} or t={MAX_PASSES}"));
                }
                if hash.salt.is_none() || hash.hash.is_none() {
                    return Err("argon2id without salt or digest".to_string());
                }
                Ok(Hash::Argon2(text.into()))
            }
            _ => Err("the hash is none of $6$, $7$ and $argon2id$ (ringmq passwd makes one)".to_string()),
        }
    }

    /// Whether the password is the one that was hashed. Takes the same time for every wrong one.
    pub fn verify(&self, password: &[u8]) -> bool {
        match self {
            Hash::Sha512 { salt, digest } => {
                let own = Sha512::new().chain_update(password).chain_update(salt).finalize();
                own.as_slice().ct_eq(digest).into()
            }
            Hash::Pbkdf2 { rounds, salt, digest } => {
                pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA512, rounds_of(*rounds), salt, password, digest).is_ok()
            }
            Hash::Argon2(text) => {
                let hash = PasswordHash::new(text).expect("parsed when it was read");
                Argon2::default().verify_password(password, &hash).is_ok()
            }
        }
    }

    /// Whether it is `$6$`, which is guessed at billions a second.
    pub fn is_weak(&self) -> bool {
        matches!(self, Hash::Sha512 { .. })
    }
}

/// At least one.
fn rounds_of(rounds: u32) -> NonZeroU32 {
    NonZeroU32::new(rounds).unwrap_or(NonZeroU32::MIN)
}

/// PBKDF2 with HMAC-SHA-512, as in `$7$`.
pub fn pbkdf2_sha512(password: &[u8], salt: &[u8], rounds: u32) -> [u8; 64] {
    let mut digest = [0; 64];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, rounds_of(rounds), salt, password, &mut digest);
    digest
}

/// A new salt.
pub fn salt() -> Result<[u8; SALT_LEN], String> {
    let mut salt = [0; SALT_LEN];
    getrandom::fill(&mut salt).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(salt)
}

/// Hashes a password with argon2id, as a PHC string (19 MiB, 2 passes: some 20 ms of one core).
pub fn argon2id(password: &[u8]) -> Result<String, String> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT);
    let hash = argon2.hash_password_with_salt(password, &salt()?).map_err(|error| error.to_string())?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Made by mosquitto_passwd for the password "geheim".
    const OF_MOSQUITTO: [&str; 2] = [
        "$6$4v4UJ0Tpnhxg1kTR$N395vyfSuq4HFCi2iHCHOB8oJQ2+eEggkIwQxQ7X1CpR/QBZGUL5beBhSaAqJNRdYlE7/JsX9SWxYPY0W5sB9Q==",
        "$7$101$2BEakp0cMNQNzH5p$xN/Sb1U+93Pc9hF45xtTFB1RGH5lQ6LaH4d+Jse4DlZQItGycia4JvK/cyASYPoSpGJWYyIPrUqH9S1OJPpNTg==",
    ];

    #[test]
    fn mosquittos_hashes_are_understood() {
        for text in OF_MOSQUITTO {
            let hash = Hash::parse(text).unwrap();
            assert!(hash.verify(b"geheim"), "{text}");
            assert!(!hash.verify(b"geheim ") && !hash.verify(b""), "{text}");
        }
        assert!(Hash::parse(OF_MOSQUITTO[0]).unwrap().is_weak());
        assert!(!Hash::parse(OF_MOSQUITTO[1]).unwrap().is_weak());
    }

    #[test]
    fn a_new_hash_is_verified_and_never_the_same() {
        let (one, other) = (argon2id(b"x").unwrap(), argon2id(b"x").unwrap());
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert_ne!(one, other);
        let hash = Hash::parse(&one).unwrap();
        assert!(hash.verify(b"x") && !hash.verify(b"y"));
    }

    #[test]
    fn what_would_cost_too_much_or_nothing_is_refused() {
        for text in [
            "",
            "plain",
            "$6$",
            "$6$c2FsdA==$",
            "$6$$c2FsdA==",
            "$7$0$c2FsdA==$c2FsdA==",
            "$7$99999999$c2FsdA==$c2FsdA==",
            "$argon2id$v=19$m=4294967295,t=2,p=1$c29tZXNhbHQxMjM0$aGFzaGhhc2hoYXNoaGFzaA",
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQxMjM0",
            "$argon2id$",
        ] {
            assert!(Hash::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_shows_a_hash() {
        let text = argon2id(b"x").unwrap();
        assert_eq!(format!("{:?}", Hash::parse(&text).unwrap()), "Hash($argon2id$...)");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(\\$|6|7|argon2id|v=19|m=|t=|,|[0-9]{1,9}|[A-Za-z0-9+/=]|\\PC){0,40}") {
            let _ = Hash::parse(&text);
        }
    }
}
