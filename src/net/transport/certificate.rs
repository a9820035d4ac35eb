//! Certificates and keys: reading their files, choosing one by the name a client asks for, and what a client's own
//! certificate says who it is.
use rustls::crypto::ring::{Ticketer, default_provider, sign::any_supported_type};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Bytes of one file of certificates, keys or revocation lists; a larger one is none.
const MAX_FILE: u64 = 16 << 20;
/// Tickets a TLS 1.3 client gets with the handshake: one for the next connection.
const TICKETS: usize = 1;

/// The files and choices of one TLS listener.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlsSettings {
    /// Certificate chains with the file of each one's key; the first is shown to clients that ask for no known name.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// Authorities whose clients are believed.
    pub client_authority: Option<PathBuf>,
    /// Lists of client certificates that are not valid any more.
    pub revoked: Vec<PathBuf>,
    /// Whether a client needs a certificate.
    pub certificate_required: bool,
    /// What of a client's certificate is its user name.
    pub identity: Identity,
    /// Whether TLS 1.2 is spoken, too.
    pub with_1_2: bool,
    /// Protocols of which a client that names any must name one (ALPN).
    pub protocols: Vec<&'static str>,
}

/// What of a client's certificate is its user name.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Identity {
    /// Nothing: the certificate only lets in.
    #[default]
    None,
    /// The common name of the subject.
    Cn,
    /// The first DNS name.
    Dns,
    /// The whole subject, as RFC 4514 writes it.
    Subject,
}

/// What [`load`] made of the files.
pub struct Loaded {
    /// For new connections.
    pub config: Arc<ServerConfig>,
    /// Things that are probably not meant, a sentence each.
    pub warnings: Vec<String>,
}

/// Reads the files. The error is a sentence that names the file.
pub fn load(settings: &TlsSettings) -> Result<Loaded, String> {
    let mut warnings = Vec::new();
    let mut chosen = Vec::new();
    for (certificate, key) in &settings.certificates {
        chosen.push(certified(certificate, key, &mut warnings)?);
    }
    let versions: &[&SupportedProtocolVersion] =
        if settings.with_1_2 { &[&version::TLS13, &version::TLS12] } else { &[&version::TLS13] };
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let builder = match verifier(settings)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName(chosen)));
    config.alpn_protocols = settings.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = TICKETS;
    // Its key is as old as this configuration: a ticket given under an older list of revoked certificates is not taken.
    config.ticketer = Ticketer::new().map_err(|error| error.to_string())?;
    Ok(Loaded { config: Arc::new(config), warnings })
}

fn verifier(settings: &TlsSettings) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let Some(authority) = &settings.client_authority else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority)? {
        roots.add(certificate).map_err(|error| {
            format!("{} has no certificate of an authority: {error}", authority.display())
        })?;
    }
    let mut lists = Vec::new();
    for path in &settings.revoked {
        lists.extend(revocation_lists(path)?);
    }
    let provider = Arc::new(default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if !lists.is_empty() {
        // A list that is out of date says nothing about who is still to be believed.
        builder = builder.with_crls(lists).only_check_end_entity_revocation().enforce_revocation_expiration();
    }
    if !settings.certificate_required {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder.build();
    verifier.map(Some).map_err(|error| format!("{} cannot be used: {error}", authority.display()))
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    if std::fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(format!("{} has more than {MAX_FILE} bytes", path.display()));
    }
    std::fs::read(path).map_err(failed)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = bytes(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match all {
        Ok(all) if all.is_empty() => Err(format!("{} has no certificate in PEM form", path.display())),
        Ok(all) => Ok(all),
        Err(error) => Err(format!("{} is not PEM: {error}", path.display())),
    }
}

fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let text = bytes(path)?;
    let all: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
    match all {
        Ok(all) if all.is_empty() => Err(format!("{} has no revocation list in PEM form", path.display())),
        Ok(all) => Ok(all),
        Err(error) => Err(format!("{} is not PEM: {error}", path.display())),
    }
}

fn certified(certificate: &Path, key: &Path, warnings: &mut Vec<String>) -> Result<Named, String> {
    let chain = certificates(certificate)?;
    let text = bytes(key)?;
    let private = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        format!("{} has no private key in PEM form (one without a password): {error}", key.display())
    })?;
    if let Ok(meta) = std::fs::metadata(key)
        && meta.permissions().mode() & 0o007 != 0
    {
        warnings.push(format!("everybody on this machine may read the key {}; chmod 600 it", key.display()));
    }
    let signer = any_supported_type(&private)
        .map_err(|error| format!("the key {} cannot be used: {error}", key.display()))?;
    let (names, expired) = names(&chain[0]).map_err(|what| format!("{}: {what}", certificate.display()))?;
    if let Some(when) = expired {
        warnings.push(format!("the certificate {} {when}", certificate.display()));
    }
    let certified = CertifiedKey::new(chain, signer);
    if certified.keys_match() == Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) {
        return Err(format!("{} is not the key of {}", key.display(), certificate.display()));
    }
    Ok(Named { names, certified: Arc::new(certified) })
}

/// A server's certificate with the DNS names it is for.
#[derive(Debug)]
struct Named {
    names: Vec<String>,
    certified: Arc<CertifiedKey>,
}

/// The DNS names of a certificate, and a remark when it is not valid at this time.
fn names(certificate: &CertificateDer<'_>) -> Result<(Vec<String>, Option<String>), String> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| format!("no certificate: {error}"))?;
    let expired = match parsed.validity().is_valid() {
        true => None,
        false => Some(format!(
            "is valid from {} to {} only",
            parsed.validity().not_before,
            parsed.validity().not_after
        )),
    };
    Ok((dns_names(&parsed).map(str::to_ascii_lowercase).collect(), expired))
}

fn dns_names<'a>(certificate: &'a X509Certificate<'_>) -> impl Iterator<Item = &'a str> {
    let names = certificate.subject_alternative_name().ok().flatten();
    names.into_iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    })
}

/// Chooses by the name that the client asks for (SNI).
#[derive(Debug)]
struct ByName(Vec<Named>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let wanted = hello.server_name().map(str::to_ascii_lowercase);
        let fits = |named: &&Named| {
            wanted.as_deref().is_some_and(|wanted| named.names.iter().any(|name| is_for(name, wanted)))
        };
        let chosen = self.0.iter().find(fits).or(self.0.first());
        chosen.map(|named| named.certified.clone())
    }
}

/// Whether a certificate's name, perhaps with `*` as its first label, is for `wanted`.
fn is_for(name: &str, wanted: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(rest) => {
            wanted.split_once('.').is_some_and(|(label, domain)| !label.is_empty() && domain == rest)
        }
        None => name == wanted,
    }
}

/// What a client's certificate says who it is; `None` when it does not have what is asked for.
pub fn identity(certificate: &CertificateDer<'_>, what: Identity) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = match what {
        Identity::None => return None,
        Identity::Cn => parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned(),
        Identity::Dns => dns_names(&parsed).next()?.to_owned(),
        Identity::Subject => subject(&parsed)?,
    };
    (!name.is_empty()).then_some(name)
}

/// The subject as RFC 4514 writes it: the most special part first.
fn subject(certificate: &X509Certificate<'_>) -> Option<String> {
    let mut text = String::new();
    let parts: Vec<_> = certificate.subject().iter_rdn().collect();
    for (index, part) in parts.iter().rev().enumerate() {
        if index > 0 {
            text.push(',');
        }
        for (index, attribute) in part.iter().enumerate() {
            if index > 0 {
                text.push('+');
            }
            let registry = x509_parser::objects::oid_registry();
            let kind = attribute.attr_type();
            match x509_parser::objects::oid2abbrev(kind, registry) {
                Ok(short) => text.push_str(short),
                Err(_) => {
                    let _ = write!(text, "{kind}");
                }
            }
            text.push('=');
            escape(attribute.as_str().ok()?, &mut text);
        }
    }
    Some(text)
}

fn escape(value: &str, out: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (index, letter) in value.chars().enumerate() {
        let is_edge = letter == ' ' && (index == 0 || index == last) || letter == '#' && index == 0;
        if is_edge || matches!(letter, '"' | '+' | ',' | ';' | '<' | '>' | '\\') {
            out.push('\\');
        }
        out.push(letter);
    }
}
