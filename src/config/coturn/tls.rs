//! The certificate. Where coturn finds none it serves without TLS, and so does this, aloud.

use super::{Conf, End, Value};
use crate::config::file::Tls;
use crate::config::layers::Origins;
use crate::config::tls::Identity;

impl Conf<'_> {
    /// `[tls]`; whether there is a certificate that can be used.
    pub(super) fn certificate(&mut self) -> bool {
        let no_tls = self.on("no-tls");
        let (cert, key) = (self.last("cert"), self.last("pkey"));
        if let Some(at) = no_tls {
            self.note(at, End::Carried, "no certificate, listen.tls = []");
            for at in [cert, key].into_iter().flatten() {
                self.note(at, End::Nothing, "no-tls: it is not loaded");
            }
            return false;
        }
        let path = |at: Option<usize>| at.map_or(String::new(), |at| self.path(at).display().to_string());
        let tls = Tls { cert: path(cert), key: path(key) };
        match Identity::read(&tls, &Origins::default()) {
            Ok(Some(_)) => {
                for (path, at, value) in [("tls.cert", cert, tls.cert), ("tls.key", key, tls.key)] {
                    if let Some(at) = at {
                        self.set(path, Value::Text(value), &[at]);
                        self.note(at, End::Carried, path);
                    }
                }
                if let Some(at) = self.last("pkey-pwd") {
                    self.note(at, End::Nothing, "the key is not encrypted");
                }
                true
            }
            Ok(None) => false,
            Err(fault) => {
                let fault = fault.to_string().replace(" (tls.cert)", "").replace(" (tls.key)", "");
                let lines: Vec<&str> = fault.lines().map(|line| line.trim_matches([' ', '='])).collect();
                let text = format!("TLS is off: {}", lines.join("; "));
                match (cert, key) {
                    (Some(cert), Some(key)) => {
                        self.note(cert, End::NeedsYou, text);
                        let text = format!("TLS is off, as {} says", self.place(cert));
                        self.note(key, End::NeedsYou, text);
                    }
                    (at, other) => at.or(other).into_iter().for_each(|at| self.note(at, End::NeedsYou, text.clone())),
                }
                false
            }
        }
    }
}
