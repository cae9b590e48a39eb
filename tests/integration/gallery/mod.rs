//! People: the store under kills and several processes, and the verbs `enroll`, `people`, `identify`, `forget`.

mod lookalikes;
mod passphrase;
mod processes;
mod secrets;
mod stills;
mod verbs;
