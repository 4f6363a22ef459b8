//! Where clients and peers reach the server: listeners, relay addresses and ports.

use super::conf::STORED;
use super::{Conf, End, NO_LINE, Value};
use crate::config::address::{External, RelayAddress};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// coturn's ports.
const PORT: u16 = 3478;
const TLS_PORT: u16 = 5349;
const RELAY_PORTS: (u16, u16) = (49_152, 65_535);
/// Lowest relay port of turnpike.
const RELAY_PORT_MIN: u16 = 1024;

/// The lists of `[listen]` under construction: an address with the line it comes from.
#[derive(Default)]
struct Lists {
    udp: Vec<(String, usize)>,
    tcp: Vec<(String, usize)>,
    tls: Vec<(String, usize)>,
}

/// Addresses to listen on, each with its line; empty: every address.
type Addresses = Vec<(IpAddr, usize)>;

impl Conf<'_> {
    /// `[listen]`.
    pub(super) fn listeners(&mut self, has_tls: bool) {
        let addresses = self.listening_addresses();
        let port = self.port("listening-port");
        let tls_port = self.port("tls-listening-port");
        let (no_udp, no_tcp) = (self.on("no-udp"), self.on("no-tcp"));
        let proxy = self.port("tcp-proxy-port").map(|(at, _)| at);
        let (port_of, tls_port_of) = (port.map_or(PORT, |(_, port)| port), tls_port.map_or(TLS_PORT, |(_, port)| port));
        let shares_port = has_tls && port_of == tls_port_of && port_of != 0;
        let from = [port.map(|(at, _)| at), addresses.first().map(|&(_, at)| at)].into_iter().flatten().next();
        let tls_from = tls_port.map(|(at, _)| at).or(from);

        let mut lists = Lists::default();
        if no_udp.is_none() {
            lists.udp = endpoints(&addresses, port_of, port.map(|(at, _)| at));
        }
        if no_tcp.is_none() && !shares_port && proxy.is_none() {
            lists.tcp = endpoints(&addresses, port_of, port.map(|(at, _)| at));
        }
        if has_tls && proxy.is_none() {
            lists.tls = endpoints(&addresses, tls_port_of, tls_port.map(|(at, _)| at));
        }
        self.more_ports(&mut lists, &addresses, has_tls && proxy.is_none(), no_udp.is_none(), no_tcp.is_none());
        self.aux_servers(&mut lists, no_udp.is_none(), (no_tcp.is_none() || has_tls) && proxy.is_none());

        let addresses_of = |list: &[(String, usize)]| list.iter().map(|(text, _)| text.clone()).collect::<Vec<_>>();
        let default = addresses_of(&endpoints(&Addresses::new(), PORT, None));
        for (path, list, off) in [("listen.udp", lists.udp, no_udp), ("listen.tcp", lists.tcp, no_tcp.or(proxy))] {
            if addresses_of(&list) != default {
                let lines = lines_of(&list, off.or(from).or(tls_from));
                self.set(path, Value::List(list), &lines);
            }
        }
        if !lists.tls.is_empty() {
            let cert = (0..self.lines.len()).find(|&at| ["cert", "pkey"].contains(&self.lines[at].key.as_str()));
            let lines = lines_of(&lists.tls, tls_from.or(cert));
            self.set("listen.tls", Value::List(lists.tls), &lines);
        }
        self.say_ports(port, tls_port, has_tls && proxy.is_none(), shares_port, (no_udp, no_tcp));
    }

    fn say_ports(
        &mut self,
        port: Option<(usize, u16)>,
        tls_port: Option<(usize, u16)>,
        has_tls: bool,
        shares_port: bool,
        (no_udp, no_tcp): (Option<usize>, Option<usize>),
    ) {
        if let Some((at, _)) = port {
            let text = if shares_port { "listen.udp, listen.tls" } else { "listen.udp, listen.tcp" };
            self.note(at, End::Carried, text);
        }
        match tls_port {
            Some((at, _)) if has_tls => self.note(at, End::Carried, "listen.tls"),
            Some((at, _)) => {
                let off = self.lines.iter().any(|line| line.key == "no-tls");
                let end = if off { End::Nothing } else { End::Dropped };
                self.note(at, end, "TLS is off: there is no usable certificate, or no-tls");
            }
            None => {}
        }
        for (at, text) in [(no_udp, "listen.udp = []"), (no_tcp, "listen.tcp = []")] {
            if let Some(at) = at {
                self.note(at, End::Carried, text);
            }
        }
    }

    fn listening_addresses(&mut self) -> Addresses {
        let mut addresses = Addresses::new();
        for at in self.all("listening-ip") {
            match self.address(self.value(at)) {
                Ok((ip, _)) if addresses.iter().any(|&(known, _)| known == ip) => {
                    self.note(at, End::Nothing, "it is there twice");
                }
                Ok((ip, name)) => {
                    addresses.push((ip, at));
                    let sep = if name.is_empty() { "" } else { "; " };
                    self.note(at, End::Carried, format!("the addresses under [listen]{sep}{name}"));
                }
                // Every address instead would be more than was asked for.
                Err(what) => self.refuse(at, what, "name an address of this host"),
            }
        }
        addresses
    }

    /// RFC 5780's second ports, which coturn opens for it alone.
    fn more_ports(&mut self, lists: &mut Lists, addresses: &Addresses, tls: bool, udp: bool, tcp: bool) {
        if self.on("rfc5780").is_none() {
            return;
        }
        // For coturn 0 is the port after the first one, which it opens unasked.
        if let Some((at, port)) = self.port("alt-listening-port").filter(|&(_, port)| port != 0) {
            let more = endpoints(addresses, port, Some(at));
            lists.udp.extend(more.iter().filter(|_| udp).cloned());
            lists.tcp.extend(more.into_iter().filter(|_| tcp));
            self.note(at, End::Carried, "listen.udp, listen.tcp: one more port");
        }
        if let Some((at, port)) = self.port("alt-tls-listening-port").filter(|&(_, port)| tls && port != 0) {
            lists.tls.extend(endpoints(addresses, port, Some(at)));
            self.note(at, End::Carried, "listen.tls: one more port");
        }
        // The other list has a port already when both name it.
        let Lists { tcp, tls, .. } = lists;
        tcp.retain(|(address, _)| !tls.iter().any(|(taken, _)| taken == address));
    }

    fn aux_servers(&mut self, lists: &mut Lists, udp: bool, tcp: bool) {
        for at in self.all("aux-server") {
            let text = self.value(at).trim().to_owned();
            let Ok(address) = text.parse::<SocketAddr>() else {
                self.note(at, End::NeedsYou, "it is not an address and port: write 192.0.2.7:443 or [2001:db8::7]:443");
                continue;
            };
            if address.port() == 0 {
                self.note(at, End::NeedsYou, "0 is no port to listen on");
                continue;
            }
            // A port of listen.tls serves clients without TLS too.
            let is_taken = lists.tls.iter().any(|(taken, _)| overlaps(taken, address));
            if udp {
                lists.udp.push((address.to_string(), at));
            }
            if tcp && !is_taken {
                lists.tcp.push((address.to_string(), at));
            }
            self.note(at, End::Carried, "listen.udp, listen.tcp");
        }
    }

    /// `[relay]`, without peers; and the number of workers.
    pub(super) fn relay(&mut self) {
        self.relay_addresses();
        self.external_addresses();
        self.relay_ports();
        let cpus = self.last("cpus").map(|at| (at, self.number(at)));
        let threads = self.last("relay-threads").map(|at| (at, self.number(at)));
        if let Some((at, _)) = cpus.filter(|_| threads.is_some()) {
            self.note(at, End::Nothing, "relay-threads decides");
        }
        // Zero threads are one, no cpus are a mistake that coturn passes over.
        let wanted = threads.map(|(at, n)| (at, n.max(1))).or(cpus.filter(|&(_, n)| n >= 1));
        if let Some((at, n)) = wanted {
            let workers = u64::try_from(n).unwrap_or(1).min(crate::engine::WORKERS_MAX as u64);
            self.set("workers", Value::Number(workers), &[at]);
            self.note(at, End::Carried, format!("workers = {workers}"));
        } else if let Some((at, _)) = cpus {
            self.note(at, End::Nothing, "it is not positive: one worker a core");
        }
    }

    fn relay_addresses(&mut self) {
        let mut list: Vec<(String, usize)> = Vec::new();
        for at in self.all("relay-ip") {
            let read = self.address(self.value(at)).and_then(|(ip, name)| {
                ip.to_string().parse::<RelayAddress>().map(|address| (address.to_string(), name))
            });
            match read {
                Ok((address, _)) if list.iter().any(|(known, _)| *known == address) => {
                    self.note(at, End::Nothing, "it is there twice");
                }
                Ok((address, name)) => {
                    list.push((address, at));
                    self.note(at, End::Carried, with("relay.addresses", &name));
                }
                Err(what) => self.note(at, End::NeedsYou, format!("{what}: name a local address to relay from")),
            }
        }
        self.set_list("relay.addresses", list);
    }

    fn external_addresses(&mut self) {
        let mut list: Vec<(String, usize)> = Vec::new();
        let mut families = Vec::new();
        for at in self.all("external-ip") {
            let (external, names) = match self.external(self.value(at)) {
                Ok(read) => read,
                Err(what) => {
                    self.note(at, End::NeedsYou, format!("{what}: write the public address, or PUBLIC/PRIVATE"));
                    continue;
                }
            };
            if external.private.is_none() {
                if families.contains(&external.public.is_ipv4()) {
                    self.note(at, End::Dropped, "coturn takes the first address only: write PUBLIC/PRIVATE for each");
                    continue;
                }
                families.push(external.public.is_ipv4());
            }
            list.push((external.to_string(), at));
            self.note(at, End::Carried, with("relay.external", &names));
        }
        self.set_list("relay.external", list);
    }

    /// Reads `PUBLIC` or `PUBLIC/PRIVATE`; the second part says what names were found to be.
    pub(super) fn external(&self, text: &str) -> Result<(External, String), String> {
        let (public, private) = match text.split_once('/') {
            Some((public, private)) => (public, Some(private)),
            None => (text, None),
        };
        let (ip, mut names) = self.address(public)?;
        let mut written = ip.to_string();
        if let Some(private) = private {
            let (ip, name) = self.address(private)?;
            written = format!("{written}/{ip}");
            names = [names, name].into_iter().filter(|name| !name.is_empty()).collect::<Vec<_>>().join(", ");
        }
        Ok((written.parse()?, names))
    }

    fn relay_ports(&mut self) {
        let (min, max) = (self.last("min-port"), self.last("max-port"));
        let read = |conf: &Self, at: Option<usize>, default| {
            at.map_or(default, |at| super::parser::port(conf.value(at)).unwrap_or(default))
        };
        let (first, last) = (read(self, min, RELAY_PORTS.0), read(self, max, RELAY_PORTS.1));
        let Some(at) = min.or(max) else { return };
        let raised = first.max(RELAY_PORT_MIN);
        if last < raised {
            let what = format!("the relay ports {first}-{last} are none: min-port is {RELAY_PORT_MIN} to max-port");
            return self.refuse(max.unwrap_or(at), what, "without the key, min-port is 49152 and max-port 65535");
        }
        let lines: Vec<usize> = [min, max].into_iter().flatten().collect();
        self.set("relay.ports", Value::Text(format!("{raised}-{last}")), &lines);
        for at in lines {
            match Some(at) == min && raised != first {
                true => self.note(at, End::Safer, format!("relay.ports begin at {RELAY_PORT_MIN}: below are services")),
                false => self.note(at, End::Carried, "relay.ports"),
            }
        }
    }

    /// Sets a list unless it is empty.
    pub(super) fn set_list(&mut self, path: &str, list: Vec<(String, usize)>) {
        if !list.is_empty() {
            match lines_of(&list, None) {
                // Only a database without a line has any then.
                lines if lines.is_empty() => self.set_habit(path, Value::List(list), STORED),
                lines => self.set(path, Value::List(list), &lines),
            }
        }
    }

    pub(super) fn number(&self, at: usize) -> i64 {
        super::parser::number(self.value(at)).0
    }
}

/// `to`, and what a name was found to be.
fn with(to: &str, name: &str) -> String {
    if name.is_empty() { to.to_owned() } else { format!("{to}; {name}") }
}

/// The lines of a list's elements, each once; `other` if there is none.
fn lines_of(list: &[(String, usize)], other: Option<usize>) -> Vec<usize> {
    let mut lines: Vec<usize> = list.iter().map(|&(_, at)| at).filter(|&at| at != NO_LINE).collect();
    lines.sort_unstable();
    lines.dedup();
    if lines.is_empty() { other.into_iter().collect() } else { lines }
}

/// Each address with the port, and the line to point at.
fn endpoints(addresses: &Addresses, port: u16, of_port: Option<usize>) -> Vec<(String, usize)> {
    let every = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let every = every.map(|ip| (ip, of_port.unwrap_or(NO_LINE)));
    let addresses = if addresses.is_empty() { &every[..] } else { addresses };
    addresses.iter().map(|&(ip, at)| (SocketAddr::new(ip, port).to_string(), at)).collect()
}

/// Whether a listener that is there takes the address.
fn overlaps(taken: &str, address: SocketAddr) -> bool {
    taken.parse::<SocketAddr>().is_ok_and(|taken| {
        let same_ip = taken.ip() == address.ip() || taken.ip().is_unspecified() || address.ip().is_unspecified();
        taken.port() == address.port() && taken.is_ipv4() == address.is_ipv4() && same_ip
    })
}
