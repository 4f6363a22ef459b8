//! The certificate of the server under load: self-signed, ECDSA P-256, made anew each time.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes a fresh certificate and its key into `room`, in place of those that are there.
pub fn write(room: &Path) -> io::Result<()> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).map_err(io::Error::other)?;
    let text = made.cert.pem() + &made.signing_key.serialize_pem();
    // One file for both, replaced at once: a server that looks meanwhile sees a pair.
    let fresh = room.join("certificate.new");
    private(&fresh, &text)?;
    fs::rename(fresh, room.join("certificate.pem"))
}

/// Writes a file that nobody else can read, which a server would warn of.
pub fn private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
