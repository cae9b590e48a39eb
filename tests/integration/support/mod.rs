//! What several topics' tests need.

pub mod bundle;
pub mod judge;
