//! System calls.

pub mod namespace;
