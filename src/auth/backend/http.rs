//! A service that is asked over HTTP: the contract of mosquitto-go-auth's http backend, and the same in JSON.
//!
//! The user URL is sent `username`, `password` and `clientid`, the superuser URL `username`, the ACL URL `username`,
//! `clientid`, `topic` and `acc` (1 read, 2 write, 4 subscribe). A status of 200 to 299 allows, unless the body is a JSON
//! object whose `ok` is false; one of 400 to 499 denies; anything else is no answer, and then nobody is let in.
use super::cache::Cache;
use super::{Grant, Verdict};
use crate::auth::decision::{Login, Wish};
use crate::auth::rule::Operation;
use crate::codec::ReasonCode;
use crate::config::auth::{AuthArgs, HttpFormat};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

/// Answers remembered, of logins and of wishes each.
const REMEMBERED: usize = 10_000;
/// Longest answer that is looked at, bytes.
const MAX_BODY: u64 = 64 * 1024;
/// Failures one after the other at which the service is left alone for a while.
const FAILURES: u32 = 5;
/// For how long.
const REST: Duration = Duration::from_secs(5);
/// Where Linux distributions keep the certificates that everybody trusts.
const SYSTEM_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A client for HTTP and HTTPS that follows no redirections and uses no proxy.
pub fn agent(timeout: Duration, ca_file: Option<&Path>) -> Result<Agent, String> {
    let path = ca_file.unwrap_or(Path::new(SYSTEM_CERTIFICATES));
    let certificates: Vec<Certificate<'static>> = match CertificateDer::pem_file_iter(path) {
        Ok(found) => found
            .filter_map(Result::ok)
            .map(|certificate| Certificate::from_der(&certificate).to_owned())
            .collect(),
        // Plain HTTP needs none.
        Err(_) if ca_file.is_none() => Vec::new(),
        Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
    };
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::new_with_certs(&certificates))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let config = Agent::config_builder()
        .timeout_global(Some(timeout))
        .max_redirects(0)
        .proxy(None)
        .http_status_as_error(false)
        .user_agent(concat!("ringmq/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls)
        .build();
    Ok(config.new_agent())
}

/// What the service said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    Yes,
    No,
    /// It is not there, or in trouble.
    Nothing,
}

/// The service.
pub struct Service {
    agent: Agent,
    user_url: Option<String>,
    superuser_url: Option<String>,
    acl_url: Option<String>,
    format: HttpFormat,
    lasts: Duration,
    logins: Mutex<Cache<[u8; 32], (bool, bool)>>,
    wishes: Mutex<Cache<[u8; 32], bool>>,
    breaker: Mutex<Breaker>,
}

/// Leaves a service alone that does not answer, so that logins do not queue behind its timeout.
#[derive(Default)]
struct Breaker {
    failures: u32,
    until: Option<Instant>,
}

impl Breaker {
    fn is_open(&mut self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Notes an outcome; true if it is the one that opens the breaker.
    fn note(&mut self, is_answered: bool, now: Instant) -> bool {
        if is_answered {
            *self = Breaker::default();
            return false;
        }
        self.failures += 1;
        let opens = self.failures >= FAILURES;
        if opens {
            self.until = Some(now + REST);
        }
        opens
    }
}

impl Service {
    /// From the flags; `None` if no URL is given.
    pub fn new(args: &AuthArgs) -> Result<Option<Service>, String> {
        let urls = [&args.auth_http_user_url, &args.auth_http_superuser_url, &args.auth_http_acl_url];
        if urls.iter().all(|url| url.is_none()) {
            return Ok(None);
        }
        for url in urls.into_iter().flatten() {
            check_url(url)?;
        }
        let lasts = Duration::from_millis(args.auth_http_cache.millis);
        Ok(Some(Service {
            agent: agent(Duration::from_millis(args.auth_http_timeout.millis), args.auth_ca_file.as_deref())?,
            user_url: args.auth_http_user_url.clone(),
            superuser_url: args.auth_http_superuser_url.clone(),
            acl_url: args.auth_http_acl_url.clone(),
            format: args.auth_http_format,
            lasts,
            logins: Mutex::new(Cache::new(REMEMBERED, lasts)),
            wishes: Mutex::new(Cache::new(REMEMBERED, lasts)),
            breaker: Mutex::default(),
        }))
    }

    /// Whether a login is right.
    pub fn login(&self, login: &Login) -> Verdict {
        let Some(url) = &self.user_url else { return Verdict::Unknown };
        let user = login.user.as_deref().unwrap_or_default();
        let password = String::from_utf8_lossy(login.password.as_deref().unwrap_or_default());
        let fields = [("username", user), ("password", &password), ("clientid", &login.client_id)];
        let key = digest(&fields);
        let known = self.logins.lock().expect(NO_PANIC).get(&key, Instant::now());
        let (allowed, superuser) = match known {
            Some(known) => known,
            None => {
                let said = self.ask(url, &fields);
                let is_super = |url: &String| self.ask(url, &[("username", user)]);
                let superuser = match &self.superuser_url {
                    Some(url) if said == Said::Yes => is_super(url),
                    _ => Said::No,
                };
                if said == Said::Nothing || superuser == Said::Nothing {
                    return Verdict::Deny(ReasonCode::ServerUnavailable);
                }
                let answer = (said == Said::Yes, superuser == Said::Yes);
                self.logins.lock().expect(NO_PANIC).insert(key, answer, Instant::now());
                answer
            }
        };
        if !allowed {
            return Verdict::Deny(ReasonCode::BadUserNameOrPassword);
        }
        let mut grant = Grant { superuser, ..Grant::user(user) };
        if let (Some(will), false, Some(_)) = (&login.will, superuser, &self.acl_url) {
            let (user, client_id) = (grant.user.clone(), login.client_id.clone());
            let wish = Wish { user, client_id, operation: Operation::Publish, topic: will.clone() };
            grant.will = Some((will.clone(), self.allows(&wish).0));
        }
        Verdict::Allow(grant)
    }

    /// Whether a wish is allowed, and for how many milliseconds that may be remembered.
    pub fn allows(&self, wish: &Wish) -> (bool, u64) {
        let Some(url) = &self.acl_url else { return (false, 0) };
        let acc = match wish.operation {
            Operation::Receive => "1",
            Operation::Publish => "2",
            Operation::Subscribe | Operation::Unsubscribe => "4",
        };
        let user = wish.user.as_deref().unwrap_or_default();
        let fields =
            [("username", user), ("clientid", &*wish.client_id), ("topic", &*wish.topic), ("acc", acc)];
        let key = digest(&fields);
        let lasts_ms = self.lasts.as_millis() as u64;
        if let Some(allowed) = self.wishes.lock().expect(NO_PANIC).get(&key, Instant::now()) {
            return (allowed, lasts_ms);
        }
        match self.ask(url, &fields) {
            Said::Nothing => (false, 0),
            said => {
                let allowed = said == Said::Yes;
                self.wishes.lock().expect(NO_PANIC).insert(key, allowed, Instant::now());
                (allowed, lasts_ms)
            }
        }
    }

    fn ask(&self, url: &str, fields: &[(&str, &str)]) -> Said {
        if self.breaker.lock().expect(NO_PANIC).is_open(Instant::now()) {
            return Said::Nothing;
        }
        let request = self.agent.post(url);
        let outcome = match self.format {
            HttpFormat::Form => request.send_form(fields.iter().copied()),
            HttpFormat::Json => {
                let object: serde_json::Map<String, serde_json::Value> = fields
                    .iter()
                    .map(|(name, value)| match *name {
                        "acc" => (name.to_string(), value.parse::<u8>().unwrap_or_default().into()),
                        _ => (name.to_string(), (*value).into()),
                    })
                    .collect();
                let text = serde_json::Value::Object(object).to_string();
                request.header("content-type", "application/json").send(text)
            }
        };
        let (said, problem) = match outcome {
            Ok(mut response) => {
                let status = response.status().as_u16();
                let body = response.body_mut().with_config().limit(MAX_BODY).read_to_string();
                match (status, body) {
                    (200..=299, Ok(body)) if !is_refusal(&body) => (Said::Yes, None),
                    (200..=299, Ok(_)) | (400..=499, _) => (Said::No, None),
                    (200..=299, Err(error)) => (Said::Nothing, Some(error.to_string())),
                    (status, _) => (Said::Nothing, Some(format!("status {status}"))),
                }
            }
            Err(error) => (Said::Nothing, Some(error.to_string())),
        };
        let opens = self.breaker.lock().expect(NO_PANIC).note(problem.is_none(), Instant::now());
        if let (true, Some(problem)) = (opens, problem) {
            let rest = REST.as_secs();
            eprintln!("ringmq: {url} does not answer and is not asked for {rest} s: {problem}");
        }
        said
    }
}

const NO_PANIC: &str = "no thread panics while it holds this";

/// `{"ok": false}`.
fn is_refusal(body: &str) -> bool {
    let body = serde_json::from_str::<serde_json::Value>(body);
    body.is_ok_and(|body| body.get("ok").is_some_and(|ok| *ok == serde_json::Value::Bool(false)))
}

/// What an answer is remembered by; it holds a password and is not kept as it is.
fn digest(fields: &[(&str, &str)]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for (name, value) in fields {
        for text in [name, value] {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text.as_bytes());
        }
    }
    digest.finalize().into()
}

/// Whether it is a URL that can be asked.
pub fn check_url(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) {
        true => Ok(()),
        false => Err(format!("{url:?} is no URL that begins with http:// or https:// and a host")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_does_not_answer_is_left_alone_for_a_while() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 1..FAILURES {
            assert!(!breaker.note(false, start) && !breaker.is_open(start));
        }
        assert!(breaker.note(false, start) && breaker.is_open(start));
        assert!(!breaker.is_open(start + REST));
        assert!(breaker.note(false, start + REST), "the first try after the rest decides");
        assert!(!breaker.note(true, start + 2 * REST) && !breaker.is_open(start + 2 * REST));
    }

    #[test]
    fn a_body_can_refuse() {
        assert!(is_refusal(r#"{"ok":false,"error":"no"}"#));
        for body in ["", "ok", "false", r#"{"ok":true}"#, r#"{"error":"x"}"#] {
            assert!(!is_refusal(body), "{body}");
        }
    }

    #[test]
    fn fields_cannot_be_shifted_into_each_other() {
        assert_ne!(
            digest(&[("username", "ab"), ("password", "c")]),
            digest(&[("username", "a"), ("password", "bc")])
        );
    }

    #[test]
    fn urls_are_looked_at_before() {
        assert!(check_url("http://localhost:1/x").is_ok() && check_url("https://a").is_ok());
        for url in ["", "localhost", "ftp://a", "http://", "https:///x"] {
            assert!(check_url(url).is_err(), "{url}");
        }
    }
}
