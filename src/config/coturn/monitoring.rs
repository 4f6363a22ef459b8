//! Prometheus and the console: coturn's two listeners for the operator are one here.

use super::{Conf, End, Value};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// coturn's ports.
const PROMETHEUS_PORT: u16 = 9641;
const WEB_ADMIN_PORT: u16 = 8080;

impl Conf<'_> {
    /// `[http]` and `[metrics]`.
    pub(super) fn monitoring(&mut self, has_tls: bool) {
        let habit = "coturn serves no pages; \"127.0.0.1:8080\" turns on calls, rooms and credentials";
        self.set_habit("http.listen", Value::Text(String::new()), habit);
        let tls = self.on("prometheus-tls");
        let asked = self.on("prometheus").or(tls);
        let (web, is_admin) = (self.on("web-admin"), asked.is_none());
        match asked {
            Some(at) => self.prometheus(at, tls, has_tls),
            None => {
                for key in ["prometheus-port", "prometheus-address"] {
                    for at in self.all(key) {
                        self.note(at, End::Nothing, "prometheus is not on");
                    }
                }
            }
        }
        let no_tls = self.lines.iter().any(|line| line.key == "no-tls");
        match web {
            Some(at) if no_tls && !has_tls => {
                self.note(at, End::Nothing, "coturn turns it off where no-tls is set");
                self.silence_web_admin("web-admin is off");
                if is_admin {
                    self.no_admin();
                }
            }
            Some(at) if is_admin => self.web_admin(at, has_tls),
            Some(at) => {
                self.note(at, End::Carried, "http.admin_listen: the console is where prometheus is");
                self.silence_web_admin("the console is where prometheus is");
            }
            None => {
                self.silence_web_admin("web-admin is not on");
                if is_admin {
                    self.no_admin();
                }
            }
        }
    }

    fn no_admin(&mut self) {
        let habit = "coturn has neither prometheus nor web-admin on; `turnpike status` asks over a unix socket";
        self.set_habit("http.admin_listen", Value::Text(String::new()), habit);
    }

    fn prometheus(&mut self, at: usize, tls: Option<usize>, has_tls: bool) {
        let port = self.port("prometheus-port");
        let (ip, address) = self.operator_address("prometheus-address", IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let addr = SocketAddr::new(ip, port.map_or(PROMETHEUS_PORT, |(_, port)| port));
        let lines: Vec<usize> = [port.map(|(at, _)| at), address, Some(at)].into_iter().flatten().collect();
        self.set("http.admin_listen", Value::Text(addr.to_string()), &lines);
        self.set("metrics.coturn_names", Value::Flag(true), &[at]);
        let text = format!("http.admin_listen = {addr}, with coturn's names too");
        match ip.is_loopback() {
            true => self.note(at, End::Carried, text),
            false => {
                let text = format!(
                    "{text}; it answers this host alone until http.admin_token_file names a token, which Prometheus \
                     sends by `authorization: {{ credentials: TOKEN }}`"
                );
                self.note(at, End::Safer, text);
            }
        }
        for at in [port.map(|(at, _)| at), address].into_iter().flatten() {
            self.note(at, End::Carried, "http.admin_listen");
        }
        if let Some(path) = self.last("prometheus-path").filter(|&at| self.value(at) == "/metrics") {
            self.note(path, End::Nothing, "the path is /metrics");
        }
        match tls {
            Some(tls) if has_tls => {
                self.set("http.admin_tls", Value::Flag(true), &[tls]);
                if tls != at {
                    self.note(tls, End::Carried, "http.admin_tls");
                }
                self.operator_certificate();
            }
            Some(tls) => {
                self.note(tls, End::NeedsYou, "there is no usable cert and pkey: it is plain HTTP");
            }
            None => {}
        }
    }

    /// The exporter's own certificate, which is that of the server or none.
    fn operator_certificate(&mut self) {
        for (key, of_server) in [("prometheus-cert", "cert"), ("prometheus-key", "pkey")] {
            let Some(at) = self.last(key) else { continue };
            let (value, own) = (self.value(at), self.lines.iter().rev().find(|line| line.key == of_server));
            if own.is_some_and(|line| line.value == value) {
                self.note(at, End::Nothing, "it is the server's own");
            }
        }
    }

    fn web_admin(&mut self, at: usize, has_tls: bool) {
        let port = self.port("web-admin-port");
        let (ip, address) = self.operator_address("web-admin-ip", IpAddr::V4(Ipv4Addr::LOCALHOST));
        let addr = SocketAddr::new(ip, port.map_or(WEB_ADMIN_PORT, |(_, port)| port));
        let lines: Vec<usize> = [port.map(|(at, _)| at), address, Some(at)].into_iter().flatten().collect();
        self.set("http.admin_listen", Value::Text(addr.to_string()), &lines);
        if has_tls {
            self.set("http.admin_tls", Value::Flag(true), &[at]);
        }
        let text = format!("http.admin_listen = {addr}; accounts of admin_user are not read");
        match ip.is_loopback() {
            true => self.note(at, End::Carried, text),
            false => {
                let text = format!("{text}; it answers this host alone until http.admin_token_file names a token");
                self.note(at, End::Safer, text);
            }
        }
        for at in [port.map(|(at, _)| at), address].into_iter().flatten() {
            self.note(at, End::Carried, "http.admin_listen");
        }
    }

    fn silence_web_admin(&mut self, why: &str) {
        for key in ["web-admin-ip", "web-admin-port"] {
            for at in self.all(key) {
                self.note(at, End::Nothing, why);
            }
        }
    }

    /// An address of one of coturn's listeners for the operator, and its line.
    fn operator_address(&mut self, key: &str, default: IpAddr) -> (IpAddr, Option<usize>) {
        let Some(at) = self.last(key) else { return (default, None) };
        match self.address(self.value(at)) {
            Ok((ip, _)) => (ip, Some(at)),
            Err(what) => {
                self.note(at, End::NeedsYou, format!("{what}: 127.0.0.1 is taken"));
                (IpAddr::V4(Ipv4Addr::LOCALHOST), None)
            }
        }
    }
}
