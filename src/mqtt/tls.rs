//! TLS 1.2 and 1.3 by rustls on ring.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config;
use crate::system::clock::TlsClock;
use crate::system::secret;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("`{key}` {}: {what}", .path.display())]
    File { key: &'static str, path: PathBuf, what: String },
    #[error("`cert` and `key` belong together: one of them is missing")]
    Half,
    #[error("this system has no trusted certificates; name the broker's CA with `ca`")]
    NoRoots,
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
    #[error(transparent)]
    Secret(#[from] secret::SecretError),
}

/// How to speak TLS to the broker: trusts `ca` alone if it is given, else the system's roots; shows
/// the client certificate `cert` if it is given.
pub fn client(mqtt: &config::Mqtt) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(TlsClock))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(mqtt.ca.as_deref())?);
    let config = match (&mqtt.cert, &mqtt.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let chain = certificates("cert", cert)?;
            builder.with_client_auth_cert(chain, private_key(key)?).map_err(|e| TlsError::File {
                key: "cert",
                path: cert.clone(),
                what: format!("does not go with `key`: {e}"),
            })?
        }
        _ => return Err(TlsError::Half),
    };
    Ok(Arc::new(config))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        for certificate in certificates("ca", path)? {
            roots.add(certificate).map_err(|e| TlsError::File {
                key: "ca",
                path: path.to_owned(),
                what: e.to_string(),
            })?;
        }
    } else {
        // Some certificates of a system's store are often unusable; the others count.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
    }
    Ok(roots)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |what: String| TlsError::File { key, path: path.to_owned(), what };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| wrong(e.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong("holds no PEM certificate".to_owned()));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let wrong = |what: String| TlsError::File { key: "key", path: path.to_owned(), what };
    // A service's group may read it; nobody else.
    let pem = secret::read_file(path, 0o007)?.ok_or_else(|| wrong("is not there".to_owned()))?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|e| wrong(e.to_string()))
}
