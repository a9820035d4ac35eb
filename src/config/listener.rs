//! A `[[listener]]` table of the configuration file.
use super::units::ListenAddress;
use std::net::SocketAddr;

/// The keys of a `[[listener]]` table. They are clap arguments, so that values are read and described like those of the
/// flags, but no command line has them.
#[derive(clap::Args, Clone, Debug)]
pub struct ListenerArgs {
    /// Address and port to listen on, as with listen
    #[arg(long, value_name = "ADDR:PORT", required = true)]
    pub address: ListenAddress,
    /// Let everybody in here without a password; needed to listen on anything but loopback
    #[arg(long)]
    pub allow_anonymous: bool,
}

/// A listener whose settings fit together.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// Where to listen.
    pub address: SocketAddr,
    /// Clients that do not say who they are are let in.
    pub anonymous: bool,
}

impl ListenerArgs {
    /// What `--listen ADDRESS` means.
    pub fn plain(address: ListenAddress) -> ListenerArgs {
        ListenerArgs { address, allow_anonymous: false }
    }

    /// Checks what concerns more than one key. `open`: everybody may connect everywhere. `authenticates`: clients can
    /// say who they are, and who does not is let in only where that is wanted.
    pub fn check(&self, open: bool, authenticates: bool) -> Result<ListenerSettings, String> {
        let address = self.address.0;
        let is_allowed = self.allow_anonymous || open;
        if !address.ip().to_canonical().is_loopback() && !is_allowed && !authenticates {
            return Err(format!(
                "listening on {address} would let everybody in who can reach this machine; \
                 add --password-file (or another way to say who they are), --allow-anonymous if that is meant, \
                 or listen on 127.0.0.1"
            ));
        }
        Ok(ListenerSettings { address, anonymous: is_allowed || !authenticates })
    }
}
