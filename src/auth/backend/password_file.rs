//! The password file: one `name:hash` a line, as Mosquitto has it.
use super::hash::Hash;
use std::collections::HashMap;

/// Longest password file in bytes.
pub const MAX_PASSWORD_FILE: u64 = 256 * 1024 * 1024;

/// Users and their hashes.
#[derive(Debug, Default)]
pub struct PasswordFile {
    users: HashMap<Box<str>, Hash>,
    /// What is hashed for users that there are not, so that the time does not tell them.
    decoy: Option<Hash>,
}

impl PasswordFile {
    /// Reads the text of a file; the error names the line and repeats nothing of it but the user.
    pub fn parse(text: &str) -> Result<PasswordFile, String> {
        let mut file = PasswordFile::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, hash) =
                line.split_once(':').ok_or(format!("line {number}: not of the form name:hash"))?;
            if user.is_empty() {
                return Err(format!("line {number}: the user name is missing"));
            }
            let hash =
                Hash::parse(hash).map_err(|problem| format!("line {number}, user {user}: {problem}"))?;
            file.decoy.get_or_insert_with(|| hash.clone());
            if file.users.insert(user.into(), hash).is_some() {
                return Err(format!("line {number}: user {user} is in the file twice"));
            }
        }
        Ok(file)
    }

    /// Whether the password is the user's; `None` if there is no such user, which takes as long.
    pub fn verify(&self, user: &str, password: &[u8]) -> Option<bool> {
        match self.users.get(user) {
            Some(hash) => Some(hash.verify(password)),
            None => {
                self.decoy.as_ref().map(|decoy| decoy.verify(password));
                None
            }
        }
    }

    /// Users whose hash is `$6$`.
    pub fn weak(&self) -> usize {
        self.users.values().filter(|hash| hash.is_weak()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash::argon2id;
    use super::*;

    #[test]
    fn users_have_their_own_passwords() {
        let text =
            format!("# users\nann:{}\n\nbob smith:{}\n", argon2id(b"a").unwrap(), argon2id(b"b").unwrap());
        let file = PasswordFile::parse(&text).unwrap();
        assert_eq!(file.verify("ann", b"a"), Some(true));
        assert_eq!(file.verify("ann", b"b"), Some(false));
        assert_eq!(file.verify("bob smith", b"b"), Some(true));
        assert_eq!(file.verify("Ann", b"a"), None);
        assert_eq!(file.verify("", b""), None);
        assert_eq!(PasswordFile::parse("").unwrap().verify("ann", b"a"), None);
    }

    #[test]
    fn a_bad_line_is_told_without_its_hash() {
        for (text, expected) in [
            ("ann", "line 1: not of the form name:hash"),
            ("\n:x", "line 2: the user name is missing"),
            ("ann:secret", "line 1, user ann: the hash is none of"),
        ] {
            let error = PasswordFile::parse(text).unwrap_err();
            assert!(error.starts_with(expected) && !error.contains("secret"), "{error}");
        }
        let twice = format!("ann:{0}\nann:{0}\n", argon2id(b"a").unwrap());
        assert!(PasswordFile::parse(&twice).unwrap_err().contains("twice"));
    }
}
