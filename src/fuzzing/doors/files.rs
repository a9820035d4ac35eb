//! What says who may come in and who may do what: files, tokens, commands.
use super::super::source::Source;
use crate::auth::acl::AclFile;
use crate::auth::backend::dynsec::{commands, state::State};
use crate::auth::backend::password_file::PasswordFile;
use crate::auth::backend::token::{Checked, Expectations, check, parse_keys};
use crate::auth::decision::Login;
use crate::auth::rule::{Operation, Ruling, Subject};
use crate::config::auth::AuthArgs;
use crate::config::file;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use clap::Parser;
use ring::hmac;
use serde_json::Value;
use std::sync::LazyLock;

/// The text of the bytes; what is no UTF-8 is replaced, since files are read as text.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A password file: it is read, or refused in a sentence.
pub fn password_file(bytes: &[u8]) {
    let text = text(bytes);
    match PasswordFile::parse(&text) {
        Ok(file) => assert!(file.weak() <= text.lines().count()),
        Err(why) => assert!(why.starts_with("line "), "{why}"),
    }
}

/// An ACL file, whose last line is a topic: whatever it says it says in the same way twice, nothing is allowed by a
/// file without rules, and what is refused is refused with a line that there is.
pub fn acl_file(bytes: &[u8]) {
    const OPERATIONS: [Operation; 4] =
        [Operation::Publish, Operation::Receive, Operation::Subscribe, Operation::Unsubscribe];
    let text = text(bytes);
    let (rules, topic) = text.rsplit_once('\n').unwrap_or((&text, "a/b"));
    match AclFile::parse(rules) {
        Err(error) => assert!((1..=rules.lines().count()).contains(&(error.line as usize)), "{error:?}"),
        Ok(file) => {
            let again = AclFile::parse(rules).expect("it was read before");
            for (user, client_id) in [(None, "c"), (Some("ann"), "a/b"), (Some("+"), "#")] {
                let subject = Subject { user, client_id };
                for operation in OPERATIONS {
                    let ruling = file.judge(&subject, operation, topic);
                    assert_eq!(ruling, again.judge(&subject, operation, topic));
                    let has_rules = rules.contains("topic") || rules.contains("pattern");
                    assert!(has_rules || !matches!(ruling, Ruling::Allow(_)), "{ruling:?} by no rule");
                }
            }
        }
    }
}

/// What a good token is changed into: only what was signed is good.
pub fn token(bytes: &[u8]) {
    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        auth: AuthArgs,
    }
    const SECRET: &str = "a secret that is long enough";
    static EXPECTED: LazyLock<Expectations> =
        LazyLock::new(|| Expectations::new(&Flags::parse_from(["ringmq"]).auth));
    let mut source = Source::new(bytes);
    if source.one_in(4) {
        let _ = parse_keys(&text(source.take(1 << 16)));
        return;
    }
    let keys = parse_keys(SECRET).expect("a secret");
    let signed = |header: &[u8], payload: &[u8]| {
        let encode = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(part);
        let message = format!("{}.{}", encode(header), encode(payload));
        let tag =
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.trim_end().as_bytes()), message.as_bytes());
        format!("{message}.{}", encode(tag.as_ref()))
    };
    let login = |password: &[u8]| Login {
        client_id: "c".into(),
        user: None,
        password: Some(password.into()),
        will: None,
        origin: Default::default(),
    };
    let header = br#"{"alg":"HS256"}"#;
    if source.one_in(3) {
        // Signed, but by somebody who says strange things.
        let strange = signed(header, source.take(1 << 12));
        return drop(check(&keys, &EXPECTED, &login(strange.as_bytes()), 1000));
    }
    let good = signed(header, br#"{"sub":"ann","exp":2000,"acl":{"publish":["a/%u"]}}"#);
    assert!(matches!(check(&keys, &EXPECTED, &login(good.as_bytes()), 1000), Checked::Good(_)));
    let mut changed = good.clone().into_bytes();
    while !source.is_empty() {
        let at = usize::from(source.byte()) % changed.len().max(1);
        match source.below(4) {
            0 => changed.truncate(at),
            1 => changed.insert(at.min(changed.len()), source.byte()),
            2 if at < changed.len() => drop(changed.remove(at)),
            _ if at < changed.len() => changed[at] = source.byte(),
            _ => {}
        }
    }
    if let Checked::Good(grant) = check(&keys, &EXPECTED, &login(&changed), 1000) {
        assert_eq!(text(&changed), good, "another token is good");
        assert_eq!(grant.user.as_deref(), Some("ann"));
    }
}

/// Commands of the dynamic security API: answered by JSON, and what is stored afterwards can be read again. Commands
/// that all failed have changed nothing.
pub fn dynsec(bytes: &[u8]) {
    static BEGINNING: LazyLock<String> =
        LazyLock::new(|| State::initial("admin", "secret").expect("a state").text());
    let mut state = State::parse(&BEGINNING).expect("what was written");
    let (answer, _) = commands::run(&mut state, bytes);
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let responses = answer["responses"].as_array().expect("responses");
    assert!(!responses.is_empty() || bytes.len() > 2, "{answer}");
    let stored = state.text();
    if responses.iter().all(|response| response.get("error").is_some()) {
        assert_eq!(stored, *BEGINNING, "{answer}");
    }
    let again = State::parse(&stored).unwrap_or_else(|why| panic!("{why}: {stored}"));
    assert_eq!(again.text(), stored);
    state.compile();
}

/// A configuration file: it is read, or refused with a line that there is and a sentence.
pub fn config_file(bytes: &[u8]) {
    let text = text(bytes);
    if let Err((line, what)) = file::parse(&text) {
        assert!(line >= 1 && line <= text.lines().count().max(1) + 1, "{line}: {what}");
        assert!(!what.is_empty() && !what.contains('\n'), "{what:?}");
    }
}
