//! Devices and their keys, as `listen` and `command` know them.

use super::verdict::envelope;
use super::{Failure, key};
use crate::config::DeviceName;
use crate::event::jws::{Verified, VerifyError};
use crate::event::pins::Pins;
use crate::event::{DeviceKey, KeyError, identity};
use crate::system::state::StateDirectory;

/// The pins of this machine; its own device needs none.
pub fn pins(state: &StateDirectory, own: &DeviceName) -> Result<Pins, Failure> {
    let mut pins = Pins::open(state).map_err(Failure::failed)?;
    match DeviceKey::look(state) {
        Ok(key) => pins.trust(own.as_str(), key.line()),
        Err(KeyError::Missing) => {}
        Err(error) => return Err(key::failure(error)),
    }
    Ok(pins)
}

/// Meets a device by its identity message: pinned at the first contact, followed by its vouches later, and
/// kept.
pub fn meet(pins: &mut Pins, device: &str, message: &[u8]) -> Result<Verified, VerifyError> {
    let met = identity::introduction(envelope(message)?)?;
    let news = pins.meet(device, &met).inspect_err(|error| {
        log::error!("the identity of {device} is refused: {error}");
    })?;
    if let Some(news) = news {
        log::warn!("{news}");
        if let Err(error) = pins.save() {
            log::warn!("cannot keep that: {error}");
        }
    }
    Ok(met.verified)
}
