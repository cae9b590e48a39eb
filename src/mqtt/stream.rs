//! The way to the broker: name, addresses, TCP, and TLS where it is asked for.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::broker::{Broker, Security};
use super::client::ClientError;
use crate::system::dial::{self, Miss};
use crate::system::tls;

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where the broker may be; where it is to be on this machine, nowhere else.
pub async fn addresses(broker: &Broker) -> Result<Vec<SocketAddr>, ClientError> {
    let addresses = dial::resolve(&broker.resolver, &broker.host, broker.port).await?;
    if matches!(broker.security, Security::Loopback)
        && let Some(address) = addresses.iter().find(|address| !address.ip().is_loopback())
    {
        return Err(ClientError::NotLoopback { host: broker.host.clone(), address: *address });
    }
    Ok(addresses)
}

/// A stream to the first of them that lets one in.
pub async fn open(
    broker: &Broker,
    addresses: &[SocketAddr],
) -> Result<(SocketAddr, Box<dyn Stream>), Vec<Miss>> {
    dial::staggered(addresses, |address| {
        let security = broker.security.clone();
        async move {
            let stream = dial::connect(address).await.map_err(|error| dial::words(&error))?;
            let stream: Box<dyn Stream> = match security {
                Security::Loopback | Security::Plaintext => Box::new(stream),
                Security::Tls(config, name) => Box::new(
                    TlsConnector::from(config)
                        .connect(name, stream)
                        .await
                        .map_err(|error| handshake(&error))?,
                ),
            };
            Ok(stream)
        }
    })
    .await
}

fn handshake(error: &std::io::Error) -> String {
    tls::explain_io(error, tls::BROKER).unwrap_or_else(|| match error.kind() {
        std::io::ErrorKind::UnexpectedEof
        | std::io::ErrorKind::ConnectionReset
        | std::io::ErrorKind::ConnectionAborted
        | std::io::ErrorKind::BrokenPipe => {
            format!("closed during the TLS handshake; {}", tls::not_tls(tls::BROKER))
        }
        _ => format!("during the TLS handshake: {}", dial::words(error)),
    })
}
