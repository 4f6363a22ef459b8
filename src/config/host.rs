//! What a configuration needs to know about the machine, as a value, so that tests can invent one.

use std::net::IpAddr;
use std::ops::RangeInclusive;

/// The machine.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name; the realm when none is configured.
    pub name: String,
    /// Its addresses, loopback included.
    pub addresses: Vec<IpAddr>,
    /// Usable cores.
    pub cores: usize,
    /// Ports the kernel gives to sockets that ask for none in particular.
    pub ephemeral: Option<RangeInclusive<u16>>,
    /// Ports the kernel keeps out of that.
    pub reserved: Vec<RangeInclusive<u16>>,
}

impl Host {
    /// Looks at this machine. What can not be found out has a harmless stand-in, but for the
    /// addresses, without which nothing can be bound.
    pub fn look() -> std::io::Result<Self> {
        let kernel = |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
        Ok(Host {
            name: name([kernel("kernel/hostname"), std::fs::read_to_string("/etc/hostname").unwrap_or_default()]),
            addresses: crate::engine::local_addresses()?,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            ephemeral: range(&kernel("net/ipv4/ip_local_port_range")),
            reserved: kernel("net/ipv4/ip_local_reserved_ports").split(',').filter_map(range).collect(),
        })
    }

    /// Whether an address can be bound here.
    pub fn has(&self, ip: IpAddr) -> bool {
        let loopback = matches!(ip, IpAddr::V4(ip) if ip.is_loopback());
        loopback || ip.is_unspecified() || self.addresses.contains(&ip)
    }
}

/// The first name that can be a realm.
fn name(candidates: [String; 2]) -> String {
    let usable = |name: &&str| !name.is_empty() && *name != "(none)" && name.parse::<super::value::Realm>().is_ok();
    candidates.iter().map(|name| name.trim()).find(usable).unwrap_or("turnpike").to_owned()
}

/// `32768 60999`, `49152-65535` or `8080`.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut ports = text.split(|c: char| c == '-' || c.is_whitespace()).filter(|part| !part.is_empty());
    let first = ports.next()?.parse().ok()?;
    let last = ports.next().map_or(Some(first), |last| last.parse().ok())?;
    Some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_ranges_are_read() {
        assert_eq!(range("32768\t60999\n"), Some(32768..=60999));
        assert_eq!(range("49152-65535"), Some(49152..=65535));
        assert_eq!(range("8080\n"), Some(8080..=8080));
        assert_eq!((range(""), range("x"), range("1-x")), (None, None, None));
    }

    #[test]
    fn a_host_without_a_usable_name_is_turnpike() {
        assert_eq!(name(["vm\n".into(), "other".into()]), "vm");
        assert_eq!(name(["\n".into(), "other\n".into()]), "other");
        assert_eq!(name(["(none)".into(), "x".repeat(128)]), "turnpike");
    }

    #[test]
    fn this_host_has_a_loopback_address() {
        let host = Host::look().unwrap();
        assert!(host.cores >= 1 && host.has("127.0.0.1".parse().unwrap()), "{host:?}");
    }
}
