//! turnpike
pub mod turn;
pub mod wire;
