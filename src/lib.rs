//! turnpike
pub mod wire;
