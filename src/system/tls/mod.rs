//! TLS 1.2 and 1.3 by rustls on ring, for broker and update repository: whom to trust, what to show, and
//! what went wrong in a user's words.

mod certificate;
mod file;
mod trust;
mod words;

use std::path::Path;
use std::sync::Arc;

use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

pub use file::FileError;
pub use words::{explain, explain_io, not_tls};

use crate::system::clock::TlsClock;
use crate::system::secret::SecretError;
use certificate::Known;
use trust::Trust;

/// Whom one speaks to, and the configuration's names of the files: for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// "the broker"
    pub name: &'static str,
    /// `[mqtt]`
    pub section: &'static str,
}

pub const BROKER: Peer = Peer { name: "the broker", section: "[mqtt]" };
pub const REPOSITORY: Peer = Peer { name: "the repository's server", section: "[update]" };

/// Files that the configuration names.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files<'a> {
    pub ca: Option<&'a Path>,
    pub cert: Option<&'a Path>,
    pub key: Option<&'a Path>,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("`cert` and `key` belong together: one of them is missing")]
    Half,
    #[error(
        "this system has no trusted certificates (package ca-certificates); or name the CA with `ca`"
    )]
    NoRoots,
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// How to speak TLS: trusts `ca` alone if it is given, else the system's roots; shows the client certificate
/// `cert` if it is given.
pub fn client(files: Files<'_>, peer: Peer) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (roots, given) = match files.ca {
        Some(path) => given(path)?,
        None => (system_roots()?, Vec::new()),
    };
    let trust = Trust::new(roots, given, &provider, peer)?;
    let builder = ClientConfig::builder_with_details(provider.clone(), Arc::new(TlsClock))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trust));
    Ok(Arc::new(match (files.cert, files.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let shown = Arc::new(SingleCertAndKey::from(certified(cert, key, &provider)?));
            builder.with_client_cert_resolver(shown)
        }
        _ => return Err(TlsError::Half),
    }))
}

/// The certificates in `ca`: authorities, and each of them itself.
fn given(path: &Path) -> Result<(RootCertStore, Vec<Known>), TlsError> {
    let wrong = |what: String| FileError::new("ca", path, what);
    let mut roots = RootCertStore::empty();
    let mut given = Vec::new();
    let mut unusable = None;
    let mut damaged = false;
    for der in file::certificates("ca", path)? {
        let Some(known) = Known::parse(&der) else {
            // webpki reads some that this parser does not.
            damaged |= roots.add(der).is_err();
            continue;
        };
        if let Some(why) = known.unusable_key() {
            unusable = Some(why);
            continue;
        }
        // What cannot be an authority may still be the very certificate that the peer shows. A server's own vouches
        // for no other: as an anchor it could sign for any name.
        if known.is_authority() || (known.is_version_1() && known.names_itself_as_issuer()) {
            let _ = roots.add(der);
        }
        given.push(known);
    }
    let empty = given.is_empty() && roots.is_empty();
    match unusable {
        Some(why) if empty => Err(wrong(format!("its certificate has {why}")).into()),
        _ if empty => {
            Err(wrong("holds a certificate that is damaged: copy it anew".to_owned()).into())
        }
        _ => {
            if damaged {
                log::warn!("`ca` {}: a certificate in it is damaged, and left out", path.display());
            }
            Ok((roots, given))
        }
    }
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    // Some certificates of a system's store are often unusable; the others count.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
}

/// The client's own certificate with its key. A certificate of version 1 does as well: whether it is good
/// enough is for the peer to say.
fn certified(
    cert: &Path,
    key: &Path,
    provider: &rustls::crypto::CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain = file::certificates("cert", cert)?;
    let wrong = |what: String| FileError::new("cert", cert, what);
    let known: Vec<_> = chain.iter().map(Known::parse).collect();
    let Some(Some(own)) = known.first() else {
        return Err(wrong("holds a certificate that is damaged: copy it anew".to_owned()).into());
    };
    if let Some(why) = own.unusable_key() {
        return Err(wrong(format!("its certificate has {why}")).into());
    }
    let signer = provider.key_provider.load_private_key(file::private_key(key)?).map_err(|_| {
        let what = "is a private key of a kind that is not supported: make one on P-256 (openssl ecparam \
                    -name prime256v1 -genkey), or RSA of 2048 bits or more";
        FileError::new("key", key, what)
    })?;
    let public = signer.public_key();
    let belongs = |known: &Known| public.as_ref().is_none_or(|key| known.has_key(key));
    if !belongs(own) {
        let elsewhere = known.iter().flatten().any(belongs);
        return Err(wrong(if elsewhere {
            "the device's own certificate must come first in it, then the one of who signed it"
                .to_owned()
        } else {
            format!("does not go with `key` {}: they are of two pairs", key.display())
        })
        .into());
    }
    Ok(CertifiedKey::new(chain, signer))
}
