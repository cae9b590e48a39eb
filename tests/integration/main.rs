//! Behaviour through what the outside sees: the binary, its files and its messages.

mod documents;
