//! What several topics' tests need.

pub mod authority;
pub mod bundle;
pub mod device;
pub mod fake_broker;
pub mod faults;
pub mod files;
pub mod home;
pub mod house;
pub mod judge;
pub mod mosquitto;
pub mod not_run;
pub mod onnx;
pub mod painted;
pub mod program;
pub mod proxy;
pub mod small;
pub mod terminal;

pub use not_run::not_run;
