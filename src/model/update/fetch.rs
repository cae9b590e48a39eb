//! Getting files: over HTTPS, or out of a folder (a USB stick). Both are untrusted, and bounded in size and
//! time.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use ureq::Agent;
use ureq::http::StatusCode;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, TcpConnector};

use super::connector::{self, Answering, Tls};
use crate::system::dial;
use crate::system::tls::{self, TlsError};

use crate::system::plain::{redacted, redacted_address};

/// How slow a server may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until a connection stands, and until an answer begins.
    pub answer: Duration,
    /// A body has this long, and ...
    pub grace: Duration,
    /// ... comes at least at this rate, in bytes a second.
    pub slowest: u64,
    /// A whole body.
    pub body: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(20),
            grace: Duration::from_mins(1),
            slowest: 8 * 1024,
            body: Duration::from_mins(30),
        }
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
    #[error("[update] {0}")]
    Tls(#[from] TlsError),
}

/// A place with files below it.
#[derive(Debug, Clone)]
pub enum Source {
    Folder(PathBuf),
    Http { base: String, agent: Agent, limits: Limits },
}

impl Source {
    /// An `https://` or `file://` address or an absolute path; `http://` on loopback only.
    pub fn new(address: &str) -> Result<Self, FetchError> {
        Self::with(address, None, Limits::default())
    }

    /// `ca`: PEM file with the certificates that may sign an `https://` server's; then those alone, else the
    /// system's.
    pub fn with(address: &str, ca: Option<&Path>, limits: Limits) -> Result<Self, FetchError> {
        let wrong = || FetchError::Address(redacted_address(address));
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
        if !loopback && !base.starts_with("https://") {
            return Err(wrong());
        }
        let tls = if loopback {
            None
        } else {
            Some(tls::client(tls::Files { ca, ..tls::Files::default() }, tls::REPOSITORY)?)
        };
        Ok(Self::Http { base, agent: agent(tls, dial::system_resolver(), limits), limits })
    }

    /// A place below this one; `name` is quoted where that is needed.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        match self {
            Self::Folder(folder) => Self::Folder(folder.join(name)),
            Self::Http { base, agent, limits } => {
                let (base, agent) = (format!("{base}/{name}"), agent.clone());
                Self::Http { base, agent, limits: *limits }
            }
        }
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
                pump(&address, opened, limit.saturating_sub(from), Limits::default(), take)?;
                Ok(true)
            }
            Self::Http { base, agent, limits } => {
                let url = format!("{base}/{file}");
                // The text of a failure goes into logs and into `health`.
                let address = redacted_address(&url);
                let failed = |why: String| FetchError::Failed { address: address.clone(), why };
                let mut request = agent.get(&url);
                if from > 0 {
                    request = request.header("Range", format!("bytes={from}-"));
                }
                let response = request
                    .call()
                    .map_err(|error| failed(redacted(&connector::words(&error)).into_owned()))?;
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
                pump(&address, body, limit, *limits, take)?;
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
    limits: Limits,
    take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), FetchError> {
    let too_slow = || FetchError::TooSlow { address: address.to_owned(), slowest: limits.slowest };
    let address = || address.to_owned();
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
        if is_too_slow(began.elapsed(), read, limits) {
            return Err(too_slow());
        }
    }
}

fn is_too_slow(elapsed: Duration, read: u64, limits: Limits) -> bool {
    elapsed > limits.grace + Duration::from_secs(read / limits.slowest.max(1))
}

/// Without TLS it speaks to this machine alone.
fn agent(tls: Option<Arc<ClientConfig>>, resolver: dial::Resolver, limits: Limits) -> Agent {
    let config = Agent::config_builder()
        .https_only(tls.is_some())
        .http_status_as_error(false)
        .max_redirects(3)
        .user_agent(concat!("familiar/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(limits.answer))
        .timeout_connect(Some(limits.answer))
        .timeout_recv_response(Some(limits.answer))
        // The rate is watched by `pump`; a server that says nothing at all is cut off here.
        .timeout_recv_body(Some(limits.body));
    let resolver = Answering(resolver);
    match tls {
        None => {
            let tcp = ().chain(TcpConnector::default());
            Agent::with_parts(config.proxy(None).build(), tcp, resolver)
        }
        Some(tls) => {
            let proxy = ().chain(ConnectProxyConnector::default());
            let chain = proxy.chain(TcpConnector::default()).chain(Tls(tls));
            Agent::with_parts(config.build(), chain, resolver)
        }
    }
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The rule as it is configured; a server that trickles is in the integration tests.
    /// Holds UPD-40.
    #[test]
    fn slow_retrieval() {
        let is_too_slow = |elapsed, read| is_too_slow(elapsed, read, Limits::default());
        assert!(!is_too_slow(Duration::from_secs(59), 0));
        assert!(is_too_slow(Duration::from_secs(62), 1024));
        assert!(!is_too_slow(Duration::from_mins(10), 600 * 8 * 1024));
        assert!(is_too_slow(Duration::from_mins(30), 600 * 8 * 1024));
    }

    #[test]
    fn password_in_the_address_is_in_no_error() {
        for address in ["ftp://ann:hunter22@h", "http://ann:hunter22@models.example.org"] {
            let error = Source::new(address).unwrap_err().to_string();
            assert!(error.contains("***@") && !error.contains("hunter22"), "{error}");
        }
        // Nobody listens there.
        let source = Source::new("https://ann:hunter22@127.0.0.1:9").unwrap();
        let error = source.read("root.json", 10).unwrap_err().to_string();
        let hidden = error.contains("https://***@127.0.0.1:9/root.json");
        assert!(hidden && !error.contains("hunter22"), "{error}");
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
            let source = Source::new(address);
            // A machine may trust nobody at all.
            let opened = matches!(source, Ok(_) | Err(FetchError::Tls(TlsError::NoRoots)));
            assert!(opened, "{address}");
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
