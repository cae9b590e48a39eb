//! People: the store under kills and several processes, and the verbs `enroll`, `people`, `identify`, `forget`.

mod processes;
mod verbs;
