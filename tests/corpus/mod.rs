//! Bodies of the fuzz targets whose inputs are text or streams, and where all targets keep their inputs. `tests/sim`
//! has the others.

#[allow(dead_code, reason = "every test uses a part")]
#[path = "../daemon/certificate.rs"]
mod certificate;
pub mod config;
pub mod http;
pub mod plane;
mod secrets;
pub mod tls;
mod words;

#[cfg(test)]
pub mod folder;
#[cfg(test)]
pub mod foreign_stun;
#[cfg(test)]
pub mod seeds;
