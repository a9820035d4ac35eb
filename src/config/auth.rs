//! Flags of `ringmq serve` about who may come in and who may do what.
use super::units::Span;
use super::{count, within};
use std::path::PathBuf;

/// Most threads that look at credentials.
const MAX_THREADS: i64 = 64;

/// The flags about authentication and authorisation. docs/SECURITY.md says how they play together.
#[derive(clap::Args, Clone, Debug)]
pub struct AuthArgs {
    /// Users and their hashed passwords, as `ringmq passwd` and mosquitto_passwd write them [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Authentication")]
    pub password_file: Option<PathBuf>,
    /// Users for the methods SCRAM-SHA-256 and SCRAM-SHA-512, as `ringmq passwd --scram` writes them [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Authentication")]
    pub scram_file: Option<PathBuf>,
    /// Users, groups and roles that mosquitto_ctrl dynsec changes at run time; `ringmq dynsec init` makes the file [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Authentication")]
    pub dynsec_file: Option<PathBuf>,
    /// Client ids, user names and networks that are not let in [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Authentication")]
    pub ban_file: Option<PathBuf>,
    /// Threads that check credentials, apart from the shards (1 to 64)
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=MAX_THREADS), help_heading = "Authentication")]
    pub auth_threads: u16,
    /// CONNECTs that may wait for their credentials to be checked; one more is refused as server unavailable
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = count(1), help_heading = "Authentication")]
    pub auth_queue: usize,

    /// Key that tokens (JWT) in the place of passwords are signed with: a public key in PEM, a JWKS, or the secret of HMAC [default: none]
    #[arg(long, value_name = "FILE", conflicts_with = "jwt_jwks_url", help_heading = "Tokens")]
    pub jwt_key_file: Option<PathBuf>,
    /// Where the keys of tokens are fetched from, as a JWKS [default: none]
    #[arg(long, value_name = "URL", help_heading = "Tokens")]
    pub jwt_jwks_url: Option<String>,
    /// Time between two looks at the JWKS URL (10s to 1d)
    #[arg(long, value_name = "TIME", default_value_t = Span::secs(300), help_heading = "Tokens")]
    pub jwt_jwks_refresh: Span,
    /// What the claim iss of a token must be [default: anything]
    #[arg(long, value_name = "TEXT", help_heading = "Tokens")]
    pub jwt_issuer: Option<String>,
    /// What the claim aud of a token must hold [default: anything]
    #[arg(long, value_name = "TEXT", help_heading = "Tokens")]
    pub jwt_audience: Option<String>,
    /// Claim of a token that is the user name
    #[arg(long, value_name = "CLAIM", default_value = "sub", help_heading = "Tokens")]
    pub jwt_user_claim: String,
    /// Claim of a token that the client id must be the same as [default: none, any client id will do]
    #[arg(long, value_name = "CLAIM", help_heading = "Tokens")]
    pub jwt_client_id_claim: Option<String>,
    /// Claim of a token that says what may be published and subscribed to
    #[arg(long, value_name = "CLAIM", default_value = "acl", help_heading = "Tokens")]
    pub jwt_acl_claim: String,

    /// Where user names and passwords are asked about [default: none]
    #[arg(long, value_name = "URL", help_heading = "HTTP service")]
    pub auth_http_user_url: Option<String>,
    /// Where it is asked whether a user may do everything [default: none]
    #[arg(long, value_name = "URL", help_heading = "HTTP service")]
    pub auth_http_superuser_url: Option<String>,
    /// Where it is asked who may do what with which topics [default: none]
    #[arg(long, value_name = "URL", help_heading = "HTTP service")]
    pub auth_http_acl_url: Option<String>,
    /// Form of what is sent
    #[arg(long, value_name = "FORM", default_value = "form", value_enum, help_heading = "HTTP service")]
    pub auth_http_format: HttpFormat,
    /// Time after which an answer counts as missing (100ms to 60s)
    #[arg(long, value_name = "TIME", default_value_t = Span::secs(5), help_heading = "HTTP service")]
    pub auth_http_timeout: Span,
    /// Time for which answers are remembered; 0 asks each time (0 to 1d)
    #[arg(long, value_name = "TIME", default_value_t = Span::secs(30), help_heading = "HTTP service")]
    pub auth_http_cache: Span,
    /// Certificates (PEM) that HTTPS servers are verified by [default: those of the system]
    #[arg(long, value_name = "FILE", help_heading = "HTTP service")]
    pub auth_ca_file: Option<PathBuf>,

    /// Who may do what with which topics, in Mosquitto's syntax [default: everybody may everything]
    #[arg(long, value_name = "FILE", help_heading = "Authorisation")]
    pub acl_file: Option<PathBuf>,
}

/// Form of what is sent to the HTTP service.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HttpFormat {
    /// Fields of a form.
    #[default]
    Form,
    /// One JSON object.
    Json,
}

impl AuthArgs {
    /// Tokens are taken in the place of passwords.
    pub fn takes_tokens(&self) -> bool {
        self.jwt_key_file.is_some() || self.jwt_jwks_url.is_some()
    }

    /// Checks what clap cannot. The error is one sentence with the remedy.
    pub fn check(&self) -> Result<(), String> {
        within("--jwt-jwks-refresh", self.jwt_jwks_refresh, Span::secs(10)..=Span::secs(86_400))?;
        within("--auth-http-timeout", self.auth_http_timeout, Span::millis(100)..=Span::secs(60))?;
        within("--auth-http-cache", self.auth_http_cache, Span::secs(0)..=Span::secs(86_400))?;
        let service = [&self.auth_http_superuser_url, &self.auth_http_acl_url];
        if self.auth_http_user_url.is_none()
            && service.iter().any(|url| url.is_some())
            && !self.authenticates()
        {
            return Err(
                "--auth-http-acl-url needs clients that say who they are; add --auth-http-user-url, \
                        --password-file or another way"
                    .to_string(),
            );
        }
        Ok(())
    }

    /// There is somebody who verifies user names and passwords.
    pub fn verifies(&self) -> bool {
        self.password_file.is_some()
            || self.dynsec_file.is_some()
            || self.takes_tokens()
            || self.auth_http_user_url.is_some()
    }

    /// Something tells clients apart, so that those who do not say who they are stay outside unless they are let in
    /// explicitly.
    pub fn authenticates(&self) -> bool {
        self.verifies() || self.scram_file.is_some()
    }
}
