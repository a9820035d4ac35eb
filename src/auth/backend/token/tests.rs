//! Tokens signed here, and one that another program signed.
use super::*;
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair};

const NOW: u64 = 1_000_000;
const SECRET: &[u8] = b"a secret that is long enough";

/// Made with openssl for {"sub":"ann","exp":4102444800}.
const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDB9.uxRhbZ3tniuaDfUrjzAE_5niHhiNWRkHhiFs5p3wmyXzLjgqvtDGn7MwlSNv6YKEZ7JImtELxbRomJDpozdsNCfC8NWlu7U-q3tlVEP-WhUGdNIynQLw2Wk0SN0os7AmvpLuYC3V5M0jfYrHEiJOUf_3rrnUhZfppCqpUq3DuBiN86Zwj_FApw9bMDR_2FmzaD95yQ04wNb7MP-fK3geC1y1gtGG0MRJMY0IltNsK2xpQw-2y9sEK4HosldVHYQcRH5vY7GtW1l1huYXAJAlDO34lsuDQygnHnlb8OiUfQgPlTbB39_pbbjiQVI-mqLGR5Eumfj-0pnyc0waynCCKQ";
const RSA_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAynae3ACZLNLeTvhSJF3E\nplb3clO5AEQDnMhLVGyxtf0h0Ugl4dD7glD5sibrmP0ETi0Je2Xm5LUi359DnL2T\ne4ogptUE3IuV4z1AUFlU3hQsWBcrbI5MGXT9vn34zyR86zQ/tXr114lD4iym+O3d\nomQztHjaKvLANxxDloSYq+kN9PFezsSiPlsWu2r/o7oGyrahfet5Pb0SpmjX7QDf\nH495Z83qrMnnzskPd0mXDSH18sTU0//IFQaIKRv/ec1Lp7pYuBSnx/M6PbdwY/fG\n8MaPnoDcFOwwF2GSqT7QjvkNLOaZ75I5NgQUMczB7z1UF0i2wgt/4csocWLtkH2x\nRwIDAQAB\n-----END PUBLIC KEY-----\n";

fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A token whose signature is made by `sign`.
fn token(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", encode(&signature))
}

fn hs256(claims: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    token(r#"{"alg":"HS256"}"#, claims, |message| hmac::sign(&key, message).as_ref().to_vec())
}

fn login(token: &str) -> Login {
    Login {
        client_id: "c1".into(),
        user: Some("whoever".into()),
        password: Some(token.as_bytes().into()),
        will: None,
        origin: crate::auth::Origin::default(),
    }
}

fn expectations() -> Expectations {
    Expectations { user_claim: "sub".to_string(), acl_claim: "acl".to_string(), ..Expectations::default() }
}

fn with(keys: &[Key], expected: &Expectations, token: &str) -> Option<Grant> {
    match check(keys, expected, &login(token), NOW) {
        Checked::Good(grant) => Some(grant),
        _ => None,
    }
}

fn hmac_keys() -> Vec<Key> {
    parse_keys(std::str::from_utf8(SECRET).unwrap()).unwrap()
}

fn user(grant: Option<Grant>) -> Option<String> {
    grant.and_then(|grant| grant.user).map(|user| user.to_string())
}

#[test]
fn a_token_of_another_program_is_understood() {
    let keys = parse_keys(RSA_KEY).unwrap();
    assert_eq!(user(with(&keys, &expectations(), RSA_TOKEN)).as_deref(), Some("ann"));
    let (message, _) = RSA_TOKEN.rsplit_once('.').unwrap();
    assert_eq!(with(&keys, &expectations(), &format!("{message}.{}", encode(&[0; 256]))), None);
}

#[test]
fn every_kind_of_key_verifies_its_own_and_nothing_else() {
    let random = SystemRandom::new();
    let claims = r#"{"sub":"ann","exp":2000000}"#;
    let p256 = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let p384 = &signature::ECDSA_P384_SHA384_FIXED_SIGNING;
    let ec = |algorithm| {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap()
    };
    let (ec256, ec384) = (ec(p256), ec(p384));
    let ed = Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref()).unwrap();
    let point = |key: &[u8]| {
        let half = key.len() / 2;
        (encode(&key[1..=half]), encode(&key[half + 1..]))
    };
    let (x2, y2) = point(ec256.public_key().as_ref());
    let (x3, y3) = point(ec384.public_key().as_ref());
    let x1 = encode(ed.public_key().as_ref());
    let jwks = format!(
        r#"{{"keys":[
            {{"kty":"EC","crv":"P-256","kid":"a","x":"{x2}","y":"{y2}"}},
            {{"kty":"EC","crv":"P-384","kid":"b","x":"{x3}","y":"{y3}"}},
            {{"kty":"OKP","crv":"Ed25519","kid":"c","x":"{x1}"}},
            {{"kty":"oct","kid":"d","k":"{}"}},
            {{"kty":"oct","kid":"e","use":"enc","k":"{}"}},
            {{"kty":"strange","kid":"f"}}
        ]}}"#,
        encode(SECRET),
        encode(b"another secret that is long enough")
    );
    let keys = parse_keys(&jwks).unwrap();
    assert_eq!(keys.len(), 4);
    let header = |algorithm: &str, id: &str| format!(r#"{{"alg":"{algorithm}","kid":"{id}"}}"#);
    let by_ec = |pair: &EcdsaKeyPair, message: &[u8]| pair.sign(&random, message).unwrap().as_ref().to_vec();
    let good = [
        token(&header("ES256", "a"), claims, |message| by_ec(&ec256, message)),
        token(&header("ES384", "b"), claims, |message| by_ec(&ec384, message)),
        token(&header("EdDSA", "c"), claims, |message| ed.sign(message).as_ref().to_vec()),
        token(&header("HS512", "d"), claims, |message| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, SECRET), message).as_ref().to_vec()
        }),
    ];
    for token in &good {
        assert_eq!(user(with(&keys, &expectations(), token)).as_deref(), Some("ann"), "{token}");
    }
    // The public key as the secret of HMAC, no signature at all, another key's id.
    let confused = hmac::Key::new(hmac::HMAC_SHA256, ec256.public_key().as_ref());
    for token in [
        token(&header("HS256", "a"), claims, |message| hmac::sign(&confused, message).as_ref().to_vec()),
        token(&header("none", "a"), claims, |_| Vec::new()),
        token(&header("none", "d"), claims, |_| Vec::new()),
        token(&header("ES256", "b"), claims, |message| by_ec(&ec256, message)),
        token(r#"{"alg":"ES256","kid":"a","crit":["x"]}"#, claims, |message| by_ec(&ec256, message)),
    ] {
        assert_eq!(with(&keys, &expectations(), &token), None, "{token}");
    }
    let unknown = token(&header("ES256", "z"), claims, |message| by_ec(&ec256, message));
    assert!(matches!(check(&keys, &expectations(), &login(&unknown), NOW), Checked::UnknownKey));
}

#[test]
fn claims_decide() {
    let keys = hmac_keys();
    let expected = Expectations {
        issuer: Some("us".to_string()),
        audience: Some("mqtt".to_string()),
        client_id_claim: Some("client".to_string()),
        ..expectations()
    };
    let good = r#"{"sub":"ann","exp":1000100,"nbf":999999,"iss":"us","aud":["x","mqtt"],"client":"c1"}"#;
    let grant = with(&keys, &expected, &hs256(good)).expect("good");
    assert_eq!(grant.lasts_ms, Some((100 + LEEWAY) * 1000));
    assert_eq!(grant.token, None);
    for (from, to) in [
        ("1000100", "999000"),
        ("1000100", "\"1000100\""),
        ("1000100", "-1"),
        (r#""exp":1000100,"#, ""),
        ("999999", "1000999"),
        (r#""us""#, r#""them""#),
        (r#"["x","mqtt"]"#, r#""x""#),
        (r#","aud":["x","mqtt"]"#, ""),
        (r#""c1""#, r#""c2""#),
        (r#","client":"c1""#, ""),
        (r#""ann""#, r#""""#),
        (r#""ann""#, "1"),
    ] {
        let claims = good.replacen(from, to, 1);
        assert_ne!(claims, good);
        assert_eq!(with(&keys, &expected, &hs256(&claims)), None, "{claims}");
    }
}

#[test]
fn rules_come_with_the_token() {
    let keys = hmac_keys();
    let claims = |acl: &str| format!(r#"{{"sub":"ann","exp":1000100,"acl":{acl}}}"#);
    let rules = |acl: &str| {
        let grant = with(&keys, &expectations(), &hs256(&claims(acl)))?;
        grant.token.map(|rules| (rules.publish.len(), rules.subscribe.len()))
    };
    assert_eq!(rules(r#"{"publish":["a/%u"],"sub":["b","c"],"all":["d/#"]}"#), Some((2, 3)));
    assert_eq!(rules("{}"), Some((0, 0)));
    for bad in ["[]", "null", r#"{"publish":"a"}"#, r#"{"publish":["a/#/b"]}"#, r#"{"write":["a"]}"#] {
        assert_eq!(with(&keys, &expectations(), &hs256(&claims(bad))), None, "{bad}");
    }
}

#[test]
fn keys_that_are_none_are_refused() {
    for text in [
        "short",
        "{}",
        r#"{"keys":[]}"#,
        r#"{"keys":[{"kty":"oct","k":"eA"}]}"#,
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    ] {
        assert!(parse_keys(text).is_err(), "{text}");
    }
    assert_eq!(format!("{:?}", hmac_keys()), "[Key(HMAC, None)]");
}

#[test]
fn a_password_is_no_token() {
    for password in ["", "secret", "a.b.c", "..", "eyJhbGciOjF9.e30.", "a.b"] {
        assert!(matches!(check(&hmac_keys(), &expectations(), &login(password), NOW), Checked::NoToken));
    }
}

proptest! {
    #[test]
    fn any_password_is_answered(
        header in r#"[{]("alg":"HS256"|"kid":"a"|,|"crit":1|[}]|.){0,6}"#,
        claims in r#"[{]("sub":"a"|"exp":[0-9]{1,20}|,|"acl":[{][}]|[}]|.){0,8}"#,
        signature in "[A-Za-z0-9_-]{0,50}",
    ) {
        let token = format!("{}.{}.{signature}", encode(header.as_bytes()), encode(claims.as_bytes()));
        check(&hmac_keys(), &expectations(), &login(&token), NOW);
        let signed = hs256(&claims);
        check(&hmac_keys(), &expectations(), &login(&signed), NOW);
    }
}
