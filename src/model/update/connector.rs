//! How the update client connects: to the first address that answers, and by the TLS that the broker gets, so that
//! certificates are taken and explained alike.

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};
use ureq::{Error, Timeout};

use crate::system::dial;
use crate::system::tls;

/// Gives the one address of a server that answers, of those its name has.
pub struct Answering(pub dial::Resolver);

impl fmt::Debug for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answering")
    }
}

impl Resolver for Answering {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let host = host(uri);
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default);
        let within: Duration =
            if timeout.after.is_not_happening() { dial::PATIENCE * 2 } else { *timeout.after };
        let found = async {
            let addresses = dial::resolve(&self.0, host, port).await?;
            // A proxy connects by itself; and where there is no choice, there is nothing to try.
            if config.proxy().is_some() || addresses.len() < 2 {
                return Ok(addresses);
            }
            let connected = dial::staggered(&addresses, |address| async move {
                dial::connect(address).await.map_err(|error| dial::words(&error))
            });
            match connected.await {
                Ok((address, _)) => Ok(vec![address]),
                Err(misses) => Err(dial::DialError::Unreachable { host: host.to_owned(), misses }),
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let outcome = runtime.block_on(async { tokio::time::timeout(within, found).await });
        // A look-up that hangs is not waited for, as dropping the runtime would.
        runtime.shutdown_background();
        let addresses = outcome
            .map_err(|_| Error::Timeout(Timeout::Resolve))?
            .map_err(|error| Error::Other(Box::new(error)))?;
        let mut answer = self.empty();
        for address in addresses.into_iter().take(16) {
            answer.push(address);
        }
        Ok(answer)
    }
}

/// The host of an address; of IPv6 without its brackets.
fn host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

/// TLS by a configuration of ours.
pub struct Tls(pub Arc<ClientConfig>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = host(details.uri);
        let name = ServerName::try_from(host.to_owned()).map_err(|e| Error::Other(Box::new(e)))?;
        let mut session = ClientConnection::new(self.0.clone(), name)?;
        let mut socket = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        session.complete_io(&mut socket)?;
        let buffers = LazyBuffers::new(
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        let stream = StreamOwned { conn: session, sock: socket };
        Ok(Some(Either::B(TlsTransport { buffers, stream })))
    }
}

pub struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// Why a request failed, in a user's words.
pub fn words(error: &Error) -> String {
    match error {
        Error::Io(error) => {
            tls::explain_io(error, tls::REPOSITORY).unwrap_or_else(|| dial::words(error))
        }
        Error::Rustls(error) => tls::explain(error, tls::REPOSITORY),
        Error::Timeout(_) => "no answer in time".to_owned(),
        Error::HostNotFound => "no address is known for that name".to_owned(),
        Error::Other(error) => error.to_string(),
        other => other.to_string(),
    }
}
