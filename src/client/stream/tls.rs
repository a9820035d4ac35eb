//! Whose certificates a client believes, and which one it shows.
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where systems keep the authorities that everybody believes.
const OF_THE_SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The flags about TLS.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct TlsArgs {
    /// PEM file with the authorities whose brokers are believed; turns TLS on
    #[arg(long = "cafile", value_name = "FILE")]
    pub authorities: Option<PathBuf>,
    /// Believe the authorities of this system; turns TLS on
    #[arg(long = "tls-use-os-certs")]
    pub of_the_system: bool,
    /// PEM file with a certificate of one's own
    #[arg(long = "cert", value_name = "FILE", requires = "key")]
    pub certificate: Option<PathBuf>,
    /// PEM file with its private key
    #[arg(long = "key", value_name = "FILE", requires = "certificate")]
    pub key: Option<PathBuf>,
    /// Take a broker's certificate whatever name it is for
    #[arg(long = "insecure")]
    pub insecure: bool,
}

impl TlsArgs {
    /// Whether the flags ask for TLS.
    pub fn is_wanted(&self) -> bool {
        self.authorities.is_some() || self.of_the_system
    }

    /// Reads the files. The error is one sentence.
    pub fn trust(&self) -> Result<Trust, String> {
        let system = || OF_THE_SYSTEM.iter().map(Path::new).find(|path| path.exists()).map(Path::to_owned);
        let authorities = self.authorities.clone().or_else(system);
        let authorities =
            authorities.ok_or("this system has no list of authorities; name one with --cafile")?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&authorities)? {
            // A system's list may have one that nobody can use; the others are of use all the same.
            let _ = roots.add(certificate);
        }
        let provider = Arc::new(default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = verifier.build().map_err(|error| format!("{}: {error}", authorities.display()))?;
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        let builder = builder.dangerous().with_custom_certificate_verifier(match self.insecure {
            true => Arc::new(AnyName(verifier)),
            false => verifier,
        });
        let config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let private = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| format!("{} has no private key: {error}", key.display()))?;
                builder
                    .with_client_auth_cert(certificates(certificate)?, private)
                    .map_err(|error| format!("{}: {error}", certificate.display()))?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Trust(Arc::new(config)))
    }
}

/// Whom a client believes, and who it is.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// For MQTT on TLS, or for a WebSocket.
    pub(super) fn config(&self, for_websocket: bool) -> Arc<ClientConfig> {
        let mut config = (*self.0).clone();
        config.alpn_protocols = vec![if for_websocket { b"http/1.1".to_vec() } else { b"mqtt".to_vec() }];
        Arc::new(config)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match all {
        Ok(all) if all.is_empty() => Err(format!("{} has no certificate in PEM form", path.display())),
        Ok(all) => Ok(all),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

/// Believes a certificate of a known authority whatever name it is for.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
