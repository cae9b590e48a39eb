//! Whether a server's certificate holds: by rustls, against the authorities that are trusted; or because it
//! is the very certificate that `ca` holds. What does not hold is refused with cause and mend.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::certificate::{Known, date};
use super::{Peer, TlsError};

/// A clock before this has not been set since the device was switched on: 2025-01-01.
const NEVER_SET: i64 = 1_735_689_600;
/// Where files made by hand are explained.
const MAKE: &str = "make certificates HOST=…, or docs/home-assistant.md";

/// Who may answer for the peer.
#[derive(Debug)]
pub struct Trust {
    /// Absent where nothing given can be an authority.
    chains: Option<Arc<WebPkiServerVerifier>>,
    /// What `ca` holds; empty where the system's authorities are trusted.
    given: Vec<Known>,
    algorithms: WebPkiSupportedAlgorithms,
    peer: Peer,
}

/// Why a certificate does not hold, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl Trust {
    pub fn new(
        roots: RootCertStore,
        given: Vec<Known>,
        provider: &Arc<CryptoProvider>,
        peer: Peer,
    ) -> Result<Self, TlsError> {
        let chains = if roots.is_empty() {
            None
        } else {
            let builder =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            Some(builder.build().map_err(|error| Error::General(error.to_string()))?)
        };
        Ok(Self { chains, given, algorithms: provider.signature_verification_algorithms, peer })
    }

    fn is_given(&self, certificate: &CertificateDer<'_>) -> bool {
        self.given.iter().any(|given| given.der == *certificate)
    }

    fn why(
        &self,
        error: &Error,
        shown: &Known,
        others: &[Known],
        name: &ServerName<'_>,
        now: Timestamp,
    ) -> String {
        let peer = self.peer.name;
        let subject = shown.subject();
        if shown.is_version_1() {
            return format!(
                "the certificate \"{subject}\" of {peer} is of X.509 version 1, which names no host; make it anew \
                 as version 3 with a subjectAltName ({MAKE}), or give that very certificate as `ca`"
            );
        }
        let all = || std::iter::once(shown).chain(others);
        match error {
            Error::InvalidCertificate(error) => match error {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    let ended = all().find(|known| known.not_after() < now).unwrap_or(shown);
                    self.expired(ended, now)
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    let early = all().find(|known| known.not_before() > now).unwrap_or(shown);
                    self.not_yet(early, now)
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => self.other_name(shown, name),
                CertificateError::InvalidPurpose
                | CertificateError::InvalidPurposeContext { .. } => format!(
                    "the certificate \"{subject}\" of {peer} is not for a server: its extendedKeyUsage lacks \
                     serverAuth; make it anew ({MAKE})"
                ),
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    self.unknown_issuer(shown, others)
                }
                CertificateError::UnsupportedSignatureAlgorithmContext { .. }
                | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                    format!(
                        "the certificate \"{subject}\" of {peer} was signed by \"{}\" with {}; that is not \
                         supported: make the CA anew with a key on P-256, P-384 or RSA ({MAKE})",
                        shown.issuer(),
                        shown.signed_by()
                    )
                }
                CertificateError::Revoked => {
                    format!("the certificate \"{subject}\" of {peer} was revoked")
                }
                _ if shown.names_itself_as_issuer() => self.unknown_issuer(shown, others),
                _ if shown.is_authority() => self.an_authority(shown),
                _ => format!(
                    "the certificate \"{subject}\" of {peer} does not hold: it, or who signed it, breaks a rule of \
                     X.509; make it anew ({MAKE})"
                ),
            },
            other => other.to_string(),
        }
    }

    fn expired(&self, ended: &Known, now: Timestamp) -> String {
        format!(
            "the certificate \"{}\" of {} expired on {}, and it is {} by this device's clock: renew it there",
            ended.subject(),
            self.peer.name,
            date(ended.not_after()),
            date(now)
        )
    }

    fn not_yet(&self, early: &Known, now: Timestamp) -> String {
        let clock = if now.as_second() < NEVER_SET {
            "the clock was not set since the device was switched on: it connects once the time is right \
             (timedatectl; NTP)"
        } else {
            "one of the two clocks is wrong: this device's, or that of who made the certificate"
        };
        format!(
            "the certificate \"{}\" of {} is valid from {} on, and it is {} by this device's clock: {clock}",
            early.subject(),
            self.peer.name,
            date(early.not_before()),
            date(now)
        )
    }

    fn other_name(&self, shown: &Known, name: &ServerName<'_>) -> String {
        let (subject, peer) = (shown.subject(), self.peer.name);
        let wanted = name.to_str();
        let names = shown.names();
        if names.is_empty() {
            format!(
                "the certificate \"{subject}\" of {peer} names no host: it has no subjectAltName, and a common name \
                 does not count; make it anew for {wanted} ({MAKE}), or give that very certificate as `ca`"
            )
        } else {
            format!(
                "the certificate of {peer} is for {}, and not for {wanted}: write one of these names into the \
                 address, or make it anew for {wanted} ({MAKE})",
                names.join(", ")
            )
        }
    }

    fn an_authority(&self, shown: &Known) -> String {
        format!(
            "{} shows the certificate \"{}\" of an authority (CA:TRUE) as its own: make one for it, signed by that \
             authority ({MAKE}), or give that very certificate as `ca`",
            self.peer.name,
            shown.subject()
        )
    }

    fn unknown_issuer(&self, shown: &Known, others: &[Known]) -> String {
        let (subject, peer) = (shown.subject(), self.peer.name);
        if shown.names_itself_as_issuer() {
            let (what, section) = ("that very certificate", self.peer.section);
            return format!(
                "the certificate \"{subject}\" of {peer} is signed by itself, and it is not the one that is trusted: \
                 copy {what} from there, and name it in {section} as `ca`"
            );
        }
        let last = others.iter().rfind(|known| !known.names_itself_as_issuer()).unwrap_or(shown);
        let issuer = last.issuer();
        if self.given.is_empty() {
            return format!(
                "the certificate \"{subject}\" of {peer} was issued by \"{issuer}\", which this system does not know: \
                 name the certificate of that CA in {} as `ca`",
                self.peer.section
            );
        }
        if self.given.iter().any(|given| last.was_issued_in_the_name_of(given)) {
            return format!(
                "the certificate \"{subject}\" of {peer} was signed by another CA of the same name \"{issuer}\" than \
                 the one in `ca`: the CA was made anew; copy its certificate again"
            );
        }
        let given: Vec<_> =
            self.given.iter().map(|given| format!("\"{}\"", given.subject())).collect();
        format!(
            "the certificate \"{subject}\" of {peer} was issued by \"{issuer}\", and `ca` holds {}: either `ca` is \
             the wrong file, or {peer} does not send the certificate of \"{issuer}\" along (in Mosquitto `certfile` \
             holds the server's own certificate, then that of each intermediate CA)",
            given.join(", ")
        )
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let by_authorities = || match &self.chains {
            Some(chains) => chains.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        let Some(shown) = Known::parse(end_entity) else {
            // rustls reads some that this parser does not.
            if let Ok(verified) = by_authorities() {
                return Ok(verified);
            }
            let damaged =
                format!("the certificate of {} cannot be read: it is damaged", self.peer.name);
            return Err(refused(CertificateError::BadEncoding, damaged));
        };
        let time = i64::try_from(now.as_secs()).ok().and_then(|s| Timestamp::from_second(s).ok());
        let time = time.unwrap_or(Timestamp::MAX);
        // The chain may hold all the same; the handshake would fail on it, and without a word of why.
        if let Some(why) = shown.unusable_key() {
            let (subject, peer) = (shown.subject(), self.peer.name);
            let why = format!("the certificate \"{subject}\" of {peer} has {why}");
            return Err(refused(CertificateError::BadEncoding, why));
        }
        if self.is_given(end_entity) {
            // Whoever has its private key is who was meant, by whatever name; the handshake proves that.
            return if time > shown.not_after() {
                Err(refused(CertificateError::Expired, self.expired(&shown, time)))
            } else if time < shown.not_before() {
                Err(refused(CertificateError::NotValidYet, self.not_yet(&shown, time)))
            } else {
                Ok(ServerCertVerified::assertion())
            };
        }
        by_authorities().map_err(|error| {
            let others: Vec<_> = intermediates.iter().filter_map(Known::parse).collect();
            let why = self.why(&error, &shown, &others, server_name, time);
            match error {
                Error::InvalidCertificate(kind) => refused(kind, why),
                _ => refused(CertificateError::ApplicationVerificationFailure, why),
            }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.of_version_1(cert) {
            None => rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms),
            Some(known) => {
                let bad = || Error::from(CertificateError::BadSignature);
                let (algorithm, key) = known.raw_key().ok_or_else(bad)?;
                let mapping = self.algorithms.mapping.iter();
                mapping
                    .filter(|(scheme, _)| *scheme == dss.scheme)
                    .flat_map(|(_, verifiers)| verifiers.iter())
                    .filter(|verifier| verifier.public_key_alg_id().as_ref() == algorithm)
                    .any(|verifier| {
                        verifier.verify_signature(&key, message, dss.signature()).is_ok()
                    })
                    .then(HandshakeSignatureValid::assertion)
                    .ok_or_else(bad)
            }
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.of_version_1(cert) {
            None => rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms),
            Some(known) => {
                let key = known.public_key().ok_or(CertificateError::BadSignature)?;
                rustls::crypto::verify_tls13_signature_with_raw_key(
                    message,
                    &key,
                    dss,
                    &self.algorithms,
                )
            }
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.algorithms.supported_schemes();
        // Not so: but a server that has nothing else then shows its certificate, and can be told what is the
        // matter with it. Without, it ends the handshake and says nothing. Last, so that nobody else takes it.
        schemes.push(SignatureScheme::ECDSA_NISTP521_SHA512);
        schemes
    }
}

impl Trust {
    /// rustls reads no certificate of version 1, even where it was given itself.
    fn of_version_1(&self, certificate: &CertificateDer<'_>) -> Option<&Known> {
        self.given.iter().find(|given| given.der == *certificate && given.is_version_1())
    }
}

/// With the kind kept, so that the peer is sent the alert that belongs to it, where one does.
fn refused(kind: CertificateError, why: String) -> Error {
    log::debug!("{kind:?}");
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refused(why)))))
}
