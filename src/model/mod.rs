//! The models: trust (who signed them, are these the signed bytes) and running them in tract.

pub mod manifest;
