//! Other servers. coturn sends every new client on to them; here they are for the time when this
//! server is about to end.

use super::parser::Line;
use super::{Conf, End};
use crate::config::ALTERNATES_MAX;
use crate::config::address::AlternateServer;
use std::net::{Ipv6Addr, SocketAddr};

/// The keys of servers that take clients without TLS, which is every kind of client: one list here
/// is for all.
const PLAIN: [&str; 3] = ["alternate-server", "udp-alternate-server", "tcp-alternate-server"];
const TLS: &str = "tls-alternate-server";
/// Their ports where none is written.
const PORT: u16 = 3478;
const TLS_PORT: u16 = 5349;

/// What is to be known of every one of them.
const WHEN: &str = "here clients are sent there only while this server drains, and otherwise served; coturn sends on \
                    every one: for that, share load by DNS or name several servers to the clients";

impl Conf<'_> {
    /// `alternate_servers`.
    pub(super) fn alternates(&mut self) {
        let (mut list, mut known): (Vec<(String, usize)>, Vec<AlternateServer>) = (Vec::new(), Vec::new());
        let plain = PLAIN.iter().flat_map(|key| self.all(key)).map(|at| (at, PORT));
        let named: Vec<(usize, u16)> = plain.chain(self.all(TLS).into_iter().map(|at| (at, TLS_PORT))).collect();
        let has_plain = named.iter().any(|&(_, port)| port == PORT);
        for (at, port) in named {
            match self.alternate(self.value(at), port) {
                Ok((server, _)) if known.iter().any(|other| other.addr.ip() == server.addr.ip()) => {
                    self.note(at, End::Nothing, "alternate_servers has it: one list is for every transport");
                }
                Ok((server, _)) if self.is_own(server.addr) => {
                    self.note(at, End::Nothing, "it is this server itself");
                }
                Ok(_) if port == TLS_PORT && has_plain => {
                    let text = "alternate_servers is one list for every transport, and a port for TLS alone would \
                                mislead the others: add NAME=ADDRESS:PORT with a port that serves all";
                    self.note(at, End::NeedsYou, text);
                }
                Ok(_) if list.len() == ALTERNATES_MAX => {
                    self.note(at, End::NeedsYou, format!("{ALTERNATES_MAX} alternate servers are the most"));
                }
                Ok((server, found)) => {
                    list.push((server.to_string(), at));
                    known.push(server);
                    self.note(at, End::NeedsYou, format!("alternate_servers{found}; {WHEN}"));
                }
                Err(what) => {
                    self.note(at, End::NeedsYou, format!("{what}: write 192.0.2.8:3478 or [2001:db8::8]:3478"));
                }
            }
        }
        self.set_list("alternate_servers", list);
    }

    /// Whether the file says that this server is there: coturn would send its clients round in circles.
    fn is_own(&self, addr: SocketAddr) -> bool {
        let is_port = |(key, default): (&str, u16)| {
            let written = self.lines.iter().rev().find(|line| line.key == key);
            addr.port() == written.map_or(default, |line| line.value.parse().unwrap_or(default))
        };
        let is_ip = |line: &Line| match line.key.as_str() {
            "listening-ip" => self.address(&line.value).is_ok_and(|(ip, _)| ip == addr.ip()),
            "external-ip" => self.external(&line.value).is_ok_and(|(external, _)| external.public == addr.ip()),
            _ => false,
        };
        let ports = [("listening-port", PORT), ("tls-listening-port", TLS_PORT)];
        self.lines.iter().any(is_ip) && ports.into_iter().any(is_port)
    }

    /// Reads `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`; the second part says what a name was
    /// found to be. A name is what TLS clients will look for in that server's certificate.
    fn alternate(&self, text: &str, port: u16) -> Result<(AlternateServer, String), String> {
        let text = text.trim();
        let is_bare_ipv6 = text.parse::<Ipv6Addr>().is_ok();
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !is_bare_ipv6 && !text.ends_with(']') => {
                (host, port.parse().map_err(|_| format!("`{port}` is not a port", port = super::printable(port)))?)
            }
            _ => (text, port),
        };
        let (ip, found) = self.address(host)?;
        let address = SocketAddr::new(ip, port);
        match found.is_empty() {
            true => address.to_string().parse().map(|server| (server, found)),
            false => format!("{host}={address}").parse().map(|server| (server, format!(": {found}"))),
        }
    }
}
