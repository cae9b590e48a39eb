//! Getting files: over HTTPS, or out of a folder (a USB stick). Both are untrusted, and bounded in size and
//! time.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::http::StatusCode;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

/// Until a connection stands, and until an answer begins.
const PATIENCE: Duration = Duration::from_secs(20);

/// The slowest that a body may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// It has this long, and ...
    pub grace: Duration,
    /// ... comes at least at this rate, in bytes a second.
    pub slowest: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { grace: Duration::from_mins(1), slowest: 8 * 1024 }
    }
}

impl Pace {
    fn is_missed(self, elapsed: Duration, read: u64) -> bool {
        elapsed > self.grace + Duration::from_secs(read / self.slowest.max(1))
    }
}

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(
        "{0}: not an https:// or file:// address, nor a folder; http:// is for this machine alone"
    )]
    Address(String),
    #[error("{address}: is not there")]
    Missing { address: String },
    #[error("{address}: {why}")]
    Failed { address: String, why: String },
    #[error("{address}: larger than {limit} bytes")]
    TooLarge { address: String, limit: u64 },
    #[error("{address}: slower than {slowest} bytes a second")]
    TooSlow { address: String, slowest: u64 },
}

/// A place with files below it.
#[derive(Debug, Clone)]
pub enum Source {
    Folder(PathBuf),
    Http { base: String, agent: Agent, pace: Pace },
}

impl Source {
    /// An `https://` or `file://` address or an absolute path; `http://` on loopback only.
    pub fn new(address: &str) -> Result<Self, FetchError> {
        let wrong = || FetchError::Address(address.to_owned());
        let base = address.trim_end_matches('/').to_owned();
        if let Some(path) = base.strip_prefix("file://").or(base.starts_with('/').then_some(&base))
        {
            return if path.starts_with('/') {
                Ok(Self::Folder(PathBuf::from(path)))
            } else {
                Err(wrong())
            };
        }
        let loopback = base.strip_prefix("http://").is_some_and(is_loopback);
        if loopback || base.starts_with("https://") {
            Ok(Self::Http { base, agent: agent(loopback), pace: Pace::default() })
        } else {
            Err(wrong())
        }
    }

    /// A place below this one; `name` is quoted where that is needed.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        match self {
            Self::Folder(folder) => Self::Folder(folder.join(name)),
            Self::Http { base, agent, pace } => {
                Self::Http { base: format!("{base}/{name}"), agent: agent.clone(), pace: *pace }
            }
        }
    }

    /// With another patience for a server; a folder has none.
    #[must_use]
    pub fn with_pace(mut self, wanted: Pace) -> Self {
        if let Self::Http { pace, .. } = &mut self {
            *pace = wanted;
        }
        self
    }

    /// A whole file of at most `limit` bytes.
    pub fn read(&self, file: &str, limit: u64) -> Result<Vec<u8>, FetchError> {
        let mut bytes = Vec::new();
        let mut take = |part: &[u8]| {
            bytes.extend_from_slice(part);
            Ok(())
        };
        self.stream(file, 0, limit, &mut take)?;
        Ok(bytes)
    }

    /// A file of at most `limit` bytes, piece by piece, from byte `from` on. `false` if it came from the
    /// beginning all the same: a server that does not resume.
    pub fn stream(
        &self,
        file: &str,
        from: u64,
        limit: u64,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<bool, FetchError> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(unquote(file));
                let address = path.display().to_string();
                let open = || {
                    // A stick may hold anything: opening a FIFO must not wait for somebody to write to it.
                    let mut options = File::options();
                    let mut opened =
                        options.read(true).custom_flags(libc::O_NONBLOCK).open(&path)?;
                    if !opened.metadata()?.is_file() {
                        return Err(io::Error::other("is not a file"));
                    }
                    opened.seek(SeekFrom::Start(from))?;
                    Ok(opened)
                };
                let opened = open().map_err(|error: io::Error| match error.kind() {
                    ErrorKind::NotFound => FetchError::Missing { address: address.clone() },
                    _ => FetchError::Failed { address: address.clone(), why: error.to_string() },
                })?;
                pump(&address, opened, limit.saturating_sub(from), Pace::default(), take)?;
                Ok(true)
            }
            Self::Http { base, agent, pace } => {
                let address = format!("{base}/{file}");
                let failed = |why: String| FetchError::Failed { address: address.clone(), why };
                let mut request = agent.get(&address);
                if from > 0 {
                    request = request.header("Range", format!("bytes={from}-"));
                }
                let response = request.call().map_err(|error| failed(error.to_string()))?;
                let resumed = match response.status() {
                    StatusCode::OK => false,
                    StatusCode::PARTIAL_CONTENT if from > 0 && starts_at(&response, from) => true,
                    StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::GONE => {
                        return Err(FetchError::Missing { address });
                    }
                    status => return Err(failed(format!("the server answers {status}"))),
                };
                let limit = if resumed { limit.saturating_sub(from) } else { limit };
                let body = response.into_body().into_reader();
                if from > 0 && !resumed {
                    take(&[]).map_err(|error| failed(error.to_string()))?;
                }
                pump(&address, body, limit, *pace, take)?;
                Ok(resumed || from == 0)
            }
        }
    }
}

fn starts_at(response: &ureq::http::Response<ureq::Body>, from: u64) -> bool {
    let range = response.headers().get("Content-Range").and_then(|value| value.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {from}-")))
}

fn pump(
    address: &str,
    mut body: impl Read,
    limit: u64,
    pace: Pace,
    take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), FetchError> {
    let address = || address.to_owned();
    let too_slow = || FetchError::TooSlow { address: address(), slowest: pace.slowest };
    let began = Instant::now();
    let (mut buffer, mut read) = (vec![0; 64 * 1024], 0_u64);
    loop {
        let failed = |error: io::Error| match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => too_slow(),
            _ => FetchError::Failed { address: address(), why: error.to_string() },
        };
        let length = match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        read += length as u64;
        if read > limit {
            return Err(FetchError::TooLarge { address: address(), limit });
        }
        take(&buffer[..length]).map_err(failed)?;
        if pace.is_missed(began.elapsed(), read) {
            return Err(too_slow());
        }
    }
}

fn agent(loopback: bool) -> Agent {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(RootCerts::Specific(Arc::new(if loopback { Vec::new() } else { roots() })))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .https_only(!loopback)
        .http_status_as_error(false)
        .max_redirects(3)
        .user_agent(concat!("familiar/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(PATIENCE))
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        // The rate is watched by `pump`; a server that says nothing at all is cut off here.
        .timeout_recv_body(Some(Duration::from_mins(30)));
    let config = if loopback { config.proxy(None) } else { config };
    config.build().new_agent()
}

fn roots() -> Vec<Certificate<'static>> {
    let found = rustls_native_certs::load_native_certs();
    found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
}

fn is_loopback(rest: &str) -> bool {
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // No user in front: `http://localhost@elsewhere/` goes elsewhere.
    let name = host.strip_prefix("[::1]").map_or_else(
        || host.split(':').next().unwrap_or_default(),
        |port| if port.is_empty() || port.starts_with(':') { "localhost" } else { "" },
    );
    !host.contains('@') && (name == "localhost" || name == "127.0.0.1")
}

/// Files in a folder go by their own names.
fn unquote(name: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(super::key::unhex).as_deref() {
            Some([byte]) if first == b'%' && ![b'/', 0].contains(byte) => {
                bytes.push(*byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_retrieval() {
        let pace = Pace::default();
        assert!(!pace.is_missed(Duration::from_secs(59), 0));
        assert!(pace.is_missed(Duration::from_secs(62), 1024));
        assert!(!pace.is_missed(Duration::from_mins(10), 600 * pace.slowest));
        assert!(pace.is_missed(Duration::from_mins(30), 600 * pace.slowest));
    }

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for address in [
            "https://models.example.org/familiar/",
            "http://127.0.0.1:8080/x",
            "http://localhost/",
            "http://[::1]:80/",
            "file:///media/usb",
            "/media/usb",
        ] {
            assert!(Source::new(address).is_ok(), "{address}");
        }
        for address in [
            "http://models.example.org/",
            "http://localhost@models.example.org/",
            "http://localhost.example.org/",
            "http://127.0.0.1.example.org/",
            "http://[::1].example.org/",
            "ftp://localhost/",
            "file://media",
            "media/usb",
            "",
        ] {
            assert!(Source::new(address).is_err(), "{address}");
        }
    }
}
