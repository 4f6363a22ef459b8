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

/// Bytes in pieces of these lengths, over and over; without any, in one.
fn cut<'a>(mut bytes: &'a [u8], lens: &[u8]) -> Vec<&'a [u8]> {
    let (mut pieces, mut lens) = (Vec::new(), lens.iter().cycle());
    while !bytes.is_empty() {
        let len = lens.next().map_or(bytes.len(), |len| usize::from(*len).clamp(1, bytes.len()));
        let (piece, rest) = bytes.split_at(len);
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
