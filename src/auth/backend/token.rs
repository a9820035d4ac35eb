//! JSON Web Tokens (RFC 7519) in the place of a password.
//!
//! A key decides which algorithms it is good for, never the token: a public key is no secret for HMAC. A token must end
//! (`exp`); its connection ends with it.
use crate::auth::access::TokenRules;
use crate::auth::decision::{Grant, Login};
use crate::auth::rule::Pattern;
use crate::config::auth::AuthArgs;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::{hmac, signature};
use rustls_pki_types::pem::PemObject;
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Longest token, bytes.
const MAX_TOKEN: usize = 16 * 1024;
/// Keys at most in a JWKS.
const MAX_KEYS: usize = 100;
/// Filters at most in each list of a token.
const MAX_FILTERS: usize = 256;
/// Shortest secret for HMAC, bytes: shorter ones are guessed from a token.
const MIN_SECRET: usize = 16;
/// Seconds by which other clocks may differ.
const LEEWAY: u64 = 30;

enum Material {
    Hmac(Vec<u8>),
    /// Modulus and exponent.
    Rsa(Vec<u8>, Vec<u8>),
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A key that tokens are signed with.
pub struct Key {
    id: Option<String>,
    material: Material,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.material {
            Material::Hmac(_) => "HMAC",
            Material::Rsa(..) => "RSA",
            Material::P256(_) => "P-256",
            Material::P384(_) => "P-384",
            Material::Ed25519(_) => "Ed25519",
        };
        write!(f, "Key({kind}, {:?})", self.id)
    }
}

impl Key {
    /// Who has it can sign.
    pub fn is_secret(&self) -> bool {
        matches!(self.material, Material::Hmac(_))
    }

    fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        let by_key = |algorithm: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            signature::UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
        };
        match (&self.material, algorithm) {
            (Material::Hmac(secret), "HS256" | "HS384" | "HS512") => {
                let algorithm = match algorithm {
                    "HS256" => hmac::HMAC_SHA256,
                    "HS384" => hmac::HMAC_SHA384,
                    _ => hmac::HMAC_SHA512,
                };
                hmac::verify(&hmac::Key::new(algorithm, secret), message, signature).is_ok()
            }
            (Material::Rsa(n, e), "RS256" | "RS384" | "RS512") => {
                let parameters = match algorithm {
                    "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    _ => &signature::RSA_PKCS1_2048_8192_SHA512,
                };
                signature::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            (Material::P256(key), "ES256") => by_key(&signature::ECDSA_P256_SHA256_FIXED, key),
            (Material::P384(key), "ES384") => by_key(&signature::ECDSA_P384_SHA384_FIXED, key),
            (Material::Ed25519(key), "EdDSA") => by_key(&signature::ED25519, key),
            _ => false,
        }
    }
}

/// Reads keys: a JWKS, a public key in PEM, or anything else as the secret of HMAC.
pub fn parse_keys(text: &str) -> Result<Vec<Key>, String> {
    if text.trim_start().starts_with('{') {
        return parse_jwks(text);
    }
    if text.contains("-----BEGIN") {
        return parse_pem(text).map(|material| vec![Key { id: None, material }]);
    }
    secret(text.trim_end_matches(['\n', '\r']).as_bytes().to_vec())
        .map(|material| vec![Key { id: None, material }])
}

fn secret(secret: Vec<u8>) -> Result<Material, String> {
    match secret.len() < MIN_SECRET {
        true => Err(format!("a secret of less than {MIN_SECRET} bytes is guessed too easily")),
        false => Ok(Material::Hmac(secret)),
    }
}

fn parse_pem(text: &str) -> Result<Material, String> {
    const WHAT: &str = "no public key in PEM (BEGIN PUBLIC KEY) for RSA, P-256, P-384 or Ed25519";
    let der = rustls_pki_types::SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()).map_err(|_| WHAT)?;
    let (_, info) = SubjectPublicKeyInfo::from_der(&der).map_err(|_| WHAT)?;
    let point = info.subject_public_key.data.to_vec();
    match info.parsed() {
        Ok(PublicKey::RSA(rsa)) => Ok(Material::Rsa(unpadded(rsa.modulus), unpadded(rsa.exponent))),
        Ok(PublicKey::EC(_)) if point.len() == 65 => Ok(Material::P256(point)),
        Ok(PublicKey::EC(_)) if point.len() == 97 => Ok(Material::P384(point)),
        _ if info.algorithm.algorithm.to_id_string() == "1.3.101.112" && point.len() == 32 => {
            Ok(Material::Ed25519(point))
        }
        _ => Err(WHAT.to_string()),
    }
}

/// A number without zeros in front.
fn unpadded(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number[zeros..].to_vec()
}

/// Reads a JWKS (RFC 7517). Keys for something else than signatures, or of unknown kinds, are left out.
pub fn parse_jwks(text: &str) -> Result<Vec<Key>, String> {
    let set: Value = serde_json::from_str(text).map_err(|error| format!("no JWKS: {error}"))?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or("no JWKS: there is no list keys")?;
    if keys.len() > MAX_KEYS {
        return Err(format!("a JWKS of more than {MAX_KEYS} keys"));
    }
    let keys: Vec<Key> = keys
        .iter()
        .filter(|key| key.get("use").is_none_or(|purpose| purpose == "sig"))
        .filter_map(|key| {
            let id = key.get("kid").and_then(Value::as_str).map(str::to_string);
            jwk(key).map(|material| Key { id, material })
        })
        .collect();
    if keys.is_empty() { Err("the JWKS has no key that can be used".to_string()) } else { Ok(keys) }
}

fn jwk(key: &Value) -> Option<Material> {
    let text = |field: &str| key.get(field).and_then(Value::as_str);
    let bytes = |field: &str| decode(text(field)?);
    let point = |len: usize| {
        let (x, y) = (bytes("x")?, bytes("y")?);
        (x.len() == len && y.len() == len).then(|| [&[4], &x[..], &y[..]].concat())
    };
    match (text("kty")?, text("crv")) {
        ("oct", _) => secret(bytes("k")?).ok(),
        ("RSA", _) => Some(Material::Rsa(unpadded(&bytes("n")?), unpadded(&bytes("e")?))),
        ("EC", Some("P-256")) => point(32).map(Material::P256),
        ("EC", Some("P-384")) => point(48).map(Material::P384),
        ("OKP", Some("Ed25519")) => bytes("x").filter(|x| x.len() == 32).map(Material::Ed25519),
        _ => None,
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

/// What is asked of a token beside its signature.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    issuer: Option<String>,
    audience: Option<String>,
    user_claim: String,
    client_id_claim: Option<String>,
    acl_claim: String,
}

impl Expectations {
    /// From the flags.
    pub fn new(args: &AuthArgs) -> Expectations {
        Expectations {
            issuer: args.jwt_issuer.clone(),
            audience: args.jwt_audience.clone(),
            user_claim: args.jwt_user_claim.clone(),
            client_id_claim: args.jwt_client_id_claim.clone(),
            acl_claim: args.jwt_acl_claim.clone(),
        }
    }
}

/// What became of a password that may be a token.
#[derive(Debug)]
pub enum Checked {
    /// It is none.
    NoToken,
    /// It is signed with a key that is not known.
    UnknownKey,
    /// It is no good.
    Bad,
    /// It is good.
    Good(Grant),
}

/// A token taken apart.
struct Parts<'a> {
    header: Map<String, Value>,
    message: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

fn take_apart(password: &[u8]) -> Option<Parts<'_>> {
    let text = std::str::from_utf8(password).ok().filter(|text| text.len() <= MAX_TOKEN)?;
    let (message, signature) = text.rsplit_once('.')?;
    let (header, payload) = message.split_once('.')?;
    if payload.contains('.') {
        return None;
    }
    let header: Map<String, Value> = serde_json::from_slice(&decode(header)?).ok()?;
    header.get("alg")?.as_str()?;
    Some(Parts { header, message, payload, signature: decode(signature)? })
}

/// Looks whether the password of a login is a good token. `now`: seconds of the Unix clock.
pub fn check(keys: &[Key], expected: &Expectations, login: &Login, now: u64) -> Checked {
    let Some(parts) = login.password.as_deref().and_then(take_apart) else { return Checked::NoToken };
    let text = |field: &str| parts.header.get(field).and_then(Value::as_str);
    // An extension that has to be understood ("crit") is not.
    if parts.header.contains_key("crit") {
        return Checked::Bad;
    }
    let algorithm = text("alg").unwrap_or_default();
    let mut candidates = keys.iter().filter(|key| match (text("kid"), &key.id) {
        (Some(wanted), Some(id)) => wanted == id,
        _ => true,
    });
    let mut has_any = false;
    let is_signed = candidates.any(|key| {
        has_any = true;
        key.verify(algorithm, parts.message.as_bytes(), &parts.signature)
    });
    if !has_any {
        return Checked::UnknownKey;
    }
    let claims = decode(parts.payload).and_then(|payload| serde_json::from_slice(&payload).ok());
    match claims.filter(|_| is_signed) {
        Some(claims) => grant(&claims, expected, login, now).map_or(Checked::Bad, Checked::Good),
        None => Checked::Bad,
    }
}

/// Looks at the claims of a token whose signature is right.
fn grant(claims: &Map<String, Value>, expected: &Expectations, login: &Login, now: u64) -> Option<Grant> {
    let text = |claim: &str| claims.get(claim).and_then(Value::as_str);
    let time = |claim: &str| match claims.get(claim) {
        None => Some(None),
        Some(value) => value.as_f64().filter(|seconds| *seconds >= 0.0).map(|seconds| Some(seconds as u64)),
    };
    let ends = time("exp")??;
    let is_over = now >= ends.saturating_add(LEEWAY);
    let is_early = time("nbf")?.is_some_and(|begins| begins > now + LEEWAY);
    let is_issuer = expected.issuer.as_deref().is_none_or(|issuer| text("iss") == Some(issuer));
    let is_audience = expected.audience.as_deref().is_none_or(|audience| match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(many)) => many.iter().any(|one| one == audience),
        _ => false,
    });
    let is_client = expected
        .client_id_claim
        .as_deref()
        .is_none_or(|claim| text(claim).is_some_and(|id| *id == *login.client_id));
    let user = text(&expected.user_claim).filter(|user| !user.is_empty())?;
    if is_over || is_early || !is_issuer || !is_audience || !is_client {
        return None;
    }
    let token = match claims.get(&expected.acl_claim) {
        None => None,
        Some(rules) => Some(Arc::new(rules_of(rules)?)),
    };
    let lasts_ms = ends.saturating_add(LEEWAY).saturating_sub(now).saturating_mul(1000);
    Some(Grant { user: Some(user.into()), token, lasts_ms: Some(lasts_ms), ..Grant::default() })
}

/// `{"publish": [...], "subscribe": [...], "all": [...]}`, or `pub` and `sub`. A claim of another form allows nothing
/// and makes the token bad.
fn rules_of(claim: &Value) -> Option<TokenRules> {
    let mut rules = TokenRules::default();
    for (name, filters) in claim.as_object()? {
        let filters = filters.as_array().filter(|filters| filters.len() <= MAX_FILTERS)?;
        for filter in filters {
            let pattern = Pattern::new(filter.as_str()?).ok()?;
            match name.as_str() {
                "publish" | "pub" => rules.publish.push(pattern),
                "subscribe" | "sub" => rules.subscribe.push(pattern),
                "all" => {
                    rules.publish.push(pattern.clone());
                    rules.subscribe.push(pattern);
                }
                _ => return None,
            }
        }
    }
    Some(rules)
}

#[cfg(test)]
mod tests;
