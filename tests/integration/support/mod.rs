//! What several topics' tests need.

pub mod bundle;
pub mod device;
pub mod home;
pub mod judge;
pub mod mosquitto;
pub mod proxy;
