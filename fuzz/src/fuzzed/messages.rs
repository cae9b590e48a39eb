//! What comes over the wire: from a broker, an operator, another device.

use std::time::Duration;

use familiar::command::{Judgement, LIMIT, Reported};
use familiar::config::{DeviceName, UnsignedCommand};
use familiar::event::chain::Chain;
use familiar::event::jws::Envelope;
use familiar::event::payload::Link;
use familiar::event::pins::Pins;
use familiar::event::{Line, Typ, identity};
use familiar::untrusted;

use crate::fuzzed::keys::{SIGNER, Site};

/// MQTT packets.
pub fn packets(bytes: &[u8]) {
    if let Ok((count, left)) = untrusted::packets(bytes) {
        // The smallest has two bytes.
        assert!(2 * count + left <= bytes.len());
    }
}

/// A signed message, by whomever: nobody here has the key, so none is believed.
pub fn envelope(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(envelope) = Envelope::parse(text) else { return };
    Site::with(|site| {
        let ring = site.device.public().clone().into();
        assert!(envelope.clone().verify(&ring, None).is_err(), "a forgery was believed");
    });
    if let Ok(met) = identity::introduction(envelope) {
        let _ = Pins::default().meet(&met.device, &met);
    }
}

/// What a device's key has signed, a line for each message: the first byte says of what kind.
pub fn signed_messages(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (mut chain, mut pins) = (Chain::default(), Pins::default());
    for line in text.lines() {
        let Some((kind, payload)) = line.split_at_checked(1) else { continue };
        let typ = match kind {
            "e" => Typ::Event,
            "i" => Typ::Identity,
            "r" => Typ::Result,
            "h" => Typ::Health,
            "c" => Typ::Command,
            _ => Typ::Presence,
        };
        Site::with(|site| {
            let Some(message) = site.sign(typ, payload) else { return };
            let envelope = Envelope::parse(&message).expect("our own message");
            let ring = site.device.public().clone().into();
            let verified = envelope.clone().verify(&ring, Some(typ)).expect("our own signature");
            assert_eq!(verified.payload, payload, "it says what was signed");
            match typ {
                Typ::Event => {
                    if let Ok(link) = Link::of(payload) {
                        chain.add(&verified, &link);
                    }
                }
                Typ::Identity => {
                    // The payload may ask for the real key's place.
                    let key = site.device.public().to_jwk();
                    let payload = payload.replace("\"KEY\"", &key);
                    let Some(message) = site.sign(typ, &payload) else { return };
                    let envelope = Envelope::parse(&message).expect("our own message");
                    if let Ok(met) = identity::introduction(envelope) {
                        assert_eq!(met.key, *site.device.public());
                        let _ = pins.meet(&met.device, &met);
                        chain.follow(&Line::from(&met));
                    }
                }
                Typ::Result => drop(Reported::parse(payload)),
                Typ::Presence | Typ::Health | Typ::Command => {}
            }
        });
    }
    let report = chain.report();
    assert!(report.events <= text.lines().count() as u64);
}

/// A message on `command` or `set/NAME`, by whomever: without an operator's key nothing is obeyed.
pub fn command(bytes: &[u8]) {
    Site::with(|site| {
        site.at.monotonic += Duration::from_secs(7);
        let judged = site.gate.judge(bytes, bytes.len().is_multiple_of(2), &site.at);
        let Judgement::Refused(refused) = judged else { panic!("obeyed without a signature") };
        assert!(bytes.len() <= LIMIT || refused.id().is_none());
        answer(site, refused.answer());
        let (name, payload) = bytes.split_at(bytes.iter().position(|b| *b == b' ').unwrap_or(0));
        let Ok(name) = str::from_utf8(name) else { return };
        if let Judgement::Refused(refused) =
            site.gate.unsigned(name, payload, false, &[UnsignedCommand::Pause], &site.at)
        {
            answer(site, refused.answer());
        }
    });
}

/// What an operator signed.
pub fn order(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    Site::with(|site| {
        site.at.monotonic += Duration::from_secs(7);
        let now = site.at.time.to_string();
        let later = (site.at.time + Duration::from_mins(1)).to_string();
        let payload = text.replace("NOW", &now).replace("LATER", &later);
        let Some(message) = site.sign(Typ::Command, &payload) else { return };
        match site.gate.judge(message.as_bytes(), false, &site.at) {
            Judgement::Accepted(accepted) => {
                let _ = accepted.command().name();
                assert!(accepted.id().is_some() && payload.contains("porch"));
                answer(site, Some(accepted.done("fuzzed")));
                let again = site.gate.judge(message.as_bytes(), false, &site.at);
                assert!(matches!(again, Judgement::Refused(_)), "done twice");
            }
            Judgement::Refused(refused) => answer(site, refused.answer()),
        }
    });
}

/// What a trusted key has signed of a bundle.
pub fn model_statement(bytes: &[u8]) {
    let text = SIGNER.sign(bytes);
    if let Ok(files) = untrusted::model_signature(text.as_bytes(), &SIGNER.anchors) {
        assert!(files > 0, "a signature for nothing");
    }
}

/// Every answer can be signed and sent.
fn answer(site: &Site, answer: Option<familiar::command::Answer>) {
    let Some(answer) = answer else { return };
    let device = DeviceName::try_from("porch".to_owned()).expect("a name");
    let payload = answer.to_json(&device, &site.at);
    assert!(site.sign(Typ::Result, &payload).is_some(), "too long: {payload}");
}
