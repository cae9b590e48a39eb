//! Where the broker is and how to speak to it: `[mqtt]` of the configuration, parsed.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use zeroize::Zeroizing;

use super::client::ClientError;
use super::stream;
use super::topics::Prefix;
use crate::config;
use crate::system::dial::{self, Resolver};
use crate::system::plain::redacted_address;
use crate::system::secret::{self, SecretError};
use crate::system::state::StateDirectory;
use crate::system::tls::{self, TlsError};

/// Name of the secret that holds the password.
pub const PASSWORD: &str = "mqtt-password";

/// A broker, with everything needed to log in.
#[derive(Clone)]
pub struct Broker {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) security: Security,
    pub(super) login: Option<Login>,
    pub(super) resolver: Resolver,
    prefix: Prefix,
}

#[derive(Clone)]
pub(super) enum Security {
    /// Only to addresses of this machine.
    Loopback,
    /// Allowed by the configuration.
    Plaintext,
    Tls(Arc<rustls::ClientConfig>, ServerName<'static>),
}

#[derive(Clone)]
pub(super) struct Login {
    pub username: String,
    pub password: Zeroizing<String>,
}

/// What is wrong with `[mqtt]`: each but a readable secret is a configuration error.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("[mqtt] `url` {url:?} is not mqtts://HOST[:PORT] or mqtt://HOST[:PORT]{}", login(.url))]
    Url { url: String },
    #[error(
        "[mqtt] `url` {url:?} would send in plain text to another machine; use mqtts://, or set \
         `allow_plaintext = true` in a network that you trust"
    )]
    Plaintext { url: String },
    #[error("[mqtt] {0}")]
    Prefix(String),
    #[error("[mqtt] {0}")]
    Tls(#[from] TlsError),
    #[error("[mqtt] `ca`, `cert` and `key` need mqtts://")]
    TlsWithoutTls,
    #[error("[mqtt] secret `{PASSWORD}` is not a text")]
    Password,
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// What to do where a user and a password stand in the address.
fn login(url: &str) -> &'static str {
    if url.contains('@') {
        "; the user is `username`, and the password is the secret `mqtt-password`, not part of the address"
    } else {
        ""
    }
}

impl Broker {
    /// Parses the configuration and reads what it names: certificates and the password.
    pub fn new(mqtt: &config::Mqtt, state: &StateDirectory) -> Result<Self, BrokerError> {
        let (encrypted, host, port) = parse(&mqtt.url)?;
        let security = if encrypted {
            let name = ServerName::try_from(host.clone())
                .map_err(|_| BrokerError::Url { url: redacted_address(&mqtt.url) })?;
            let files = tls::Files {
                ca: mqtt.ca.as_deref(),
                cert: mqtt.cert.as_deref(),
                key: mqtt.key.as_deref(),
            };
            Security::Tls(tls::client(files, tls::BROKER)?, name)
        } else if mqtt.ca.is_some() || mqtt.cert.is_some() || mqtt.key.is_some() {
            return Err(BrokerError::TlsWithoutTls);
        } else if mqtt.allow_plaintext {
            Security::Plaintext
        } else if is_loopback(&host) {
            Security::Loopback
        } else {
            return Err(BrokerError::Plaintext { url: redacted_address(&mqtt.url) });
        };
        let login = match &mqtt.username {
            Some(username) => {
                Some(Login { username: username.clone(), password: password(state)? })
            }
            None => None,
        };
        let prefix = Prefix::try_from(mqtt.prefix.clone()).map_err(BrokerError::Prefix)?;
        let resolver = dial::system_resolver();
        Ok(Self { host, port, security, login, resolver, prefix })
    }

    /// Where it may be, as its name says now.
    pub async fn addresses(&self) -> Result<Vec<SocketAddr>, ClientError> {
        stream::addresses(self).await
    }

    /// The same broker, with its name looked up in another way.
    #[must_use]
    pub fn resolved_by(self, resolver: Resolver) -> Self {
        Self { resolver, ..self }
    }

    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// What it is known by on record: the host, without scheme and port, which change when TLS is set up.
    pub fn name(&self) -> String {
        name(&self.host)
    }

    /// [`Self::name`] of the broker with this URL.
    pub fn name_of(url: &str) -> Result<String, BrokerError> {
        parse(url).map(|(_, host, _)| name(&host))
    }
}

impl std::fmt::Display for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if matches!(self.security, Security::Tls(..)) { "mqtts" } else { "mqtt" };
        match self.host.parse::<Ipv6Addr>() {
            Ok(address) => write!(f, "{scheme}://[{address}]:{}", self.port),
            Err(_) => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Broker({self})")
    }
}

/// Whether it is encrypted, the host and the port. No user, path or query: they would be ignored.
fn parse(url: &str) -> Result<(bool, String, u16), BrokerError> {
    let wrong = || BrokerError::Url { url: redacted_address(url) };
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let (encrypted, default) = match scheme {
        "mqtts" => (true, 8883),
        "mqtt" => (false, 1883),
        _ => return Err(wrong()),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
            host.parse::<Ipv6Addr>().map_err(|_| wrong())?;
            (host, port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or_else(wrong)?)
        }
        None => rest.split_once(':').unwrap_or((rest, "")),
    };
    let sound = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || host.len() > 253 || !host.chars().all(sound) {
        return Err(wrong());
    }
    let port = match port {
        "" if !rest.ends_with(':') => default,
        port => port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?,
    };
    Ok((encrypted, host.to_owned(), port))
}

fn name(host: &str) -> String {
    if is_loopback(host) { "localhost".to_owned() } else { host.to_ascii_lowercase() }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn password(state: &StateDirectory) -> Result<Zeroizing<String>, BrokerError> {
    let Some(bytes) = secret::read(state, PASSWORD)? else { return Ok(Zeroizing::default()) };
    let text = std::str::from_utf8(&bytes).map_err(|_| BrokerError::Password)?;
    // Editors and `echo` end a file with a line break that is no part of the password.
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn broker(url: &str, extra: &str) -> Result<Broker, BrokerError> {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().to_owned()).unwrap();
        let mqtt = toml::from_str(&format!("url = {url:?}\n{extra}")).unwrap();
        Broker::new(&mqtt, &state)
    }

    #[test]
    fn urls() {
        let shown = |url| broker(url, "").unwrap().to_string();
        assert_eq!(shown("mqtt://localhost"), "mqtt://localhost:1883");
        assert_eq!(shown("mqtt://127.0.0.1:42/"), "mqtt://127.0.0.1:42");
        assert_eq!(shown("mqtt://[::1]:42"), "mqtt://[::1]:42");
        assert_eq!(parse("mqtts://a.b").unwrap(), (true, "a.b".to_owned(), 8883));
        for url in [
            "localhost",
            "http://localhost",
            "mqtt://",
            "mqtt://a:0",
            "mqtt://a:",
            "mqtt://a:b",
            "mqtt://a:99999",
            "mqtt://u:p@localhost",
            "mqtt://a/b",
            "mqtt://[::1",
            "mqtt://[x]",
            "mqtt://[::1]x",
            "mqtt://a b",
        ] {
            assert!(matches!(parse(url), Err(BrokerError::Url { .. })), "{url}");
        }
    }

    #[test]
    fn plaintext_leaves_the_machine_only_when_allowed() {
        for url in ["mqtt://192.0.2.1", "mqtt://broker.local", "mqtt://localhost.example.org"] {
            assert!(matches!(broker(url, ""), Err(BrokerError::Plaintext { .. })), "{url}");
            assert!(broker(url, "allow_plaintext = true").is_ok());
        }
    }

    #[test]
    fn certificates_without_encryption() {
        let refused = broker("mqtt://localhost", "ca = \"/nowhere\"");
        assert!(matches!(refused, Err(BrokerError::TlsWithoutTls)));
        assert!(matches!(broker("mqtts://a", "ca = \"/nowhere\""), Err(BrokerError::Tls(_))));
    }
}
