//! Errors of TLS in a user's words.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::Peer;

/// What to say of an error that came from a stream: `None` if TLS has nothing to do with it.
pub fn explain_io(error: &io::Error, peer: Peer) -> Option<String> {
    let cause = error.get_ref()?.downcast_ref::<Error>()?;
    Some(explain(cause, peer))
}

pub fn explain(error: &Error, peer: Peer) -> String {
    let name = peer.name;
    log::debug!("TLS with {name}: {error:?}");
    match error {
        // By `trust`, in words already.
        Error::InvalidCertificate(CertificateError::Other(why)) => why.0.to_string(),
        Error::InvalidCertificate(_) => format!("the certificate of {name} does not hold"),
        Error::AlertReceived(alert) => by_alert(*alert, peer),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::MessageTooLarge,
        )
        | Error::InappropriateMessage { .. } => not_tls(peer),
        Error::InvalidMessage(_) | Error::DecryptError | Error::PeerMisbehaved(_) => {
            format!("{name} breaks the rules of TLS, or something on the way does")
        }
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => old(name),
        Error::PeerIncompatible(_) => {
            format!(
                "{name} and this device have no version or cipher of TLS in common (1.2 or 1.3)"
            )
        }
        Error::General(text) => text.clone(),
        other => format!("TLS: {other}"),
    }
}

fn by_alert(alert: AlertDescription, peer: Peer) -> String {
    let (name, section) = (peer.name, peer.section);
    let own = |why: &str| format!("{name} does not take this device's certificate: {why}");
    match alert {
        AlertDescription::CertificateRequired => {
            format!("{name} wants a certificate of this device: set `cert` and `key` in {section}")
        }
        AlertDescription::UnknownCA => {
            own("it does not know the CA that signed `cert` (in Mosquitto: `cafile`)")
        }
        AlertDescription::CertificateExpired => {
            own("`cert` has expired, or the clock there is wrong")
        }
        AlertDescription::CertificateRevoked => own("`cert` was revoked"),
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate => own(
            "`cert` must be of X.509 version 3, for clients (clientAuth), and signed by the CA named there",
        ),
        AlertDescription::DecryptError => own("`key` does not prove it"),
        AlertDescription::ProtocolVersion => old(name),
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => format!(
            "{name} found no cipher in common, or wants a certificate of this device (`cert` and `key` in {section})"
        ),
        AlertDescription::UnrecognisedName => {
            format!("{name} does not know the name by which it was called: check the address")
        }
        AlertDescription::AccessDenied => {
            format!("{name} denies access to this device's certificate")
        }
        AlertDescription::InternalError => {
            format!("{name} has an internal error in TLS: look into its own log")
        }
        other => format!("{name} ended TLS with the alert {other:?}"),
    }
}

/// What answers there speaks something else.
pub fn not_tls(Peer { name, .. }: Peer) -> String {
    format!(
        "{name} does not speak TLS on that port: is it that of plain text? (mqtts:// is usually 8883)"
    )
}

fn old(name: &str) -> String {
    format!("{name} speaks neither TLS 1.2 nor 1.3, and older versions are not safe: update it")
}
