//! What is allowed but probably not meant. `check` prints it, `run` logs it once.

use super::accounts::Accounts;
use super::host::Host;
use super::value::PortRange;
use super::web::HttpAddress;
use super::{Loaded, listeners};
use crate::engine::Listen;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Below this a limit of bytes a second cuts off a voice call.
const BYTES_PER_SECOND_CALL: u64 = 16_000;

/// Every warning about this configuration on this host, one sentence or two each.
pub fn warnings(loaded: &Loaded, host: &Host, listen: &[Listen], accounts: &Accounts) -> Vec<String> {
    let mut warnings = Vec::new();
    warnings.extend(open(loaded, accounts));
    warnings.extend(loopback_peers(loaded));
    warnings.extend(foreign(loaded, host));
    warnings.extend(private_relay(loaded, listen));
    warnings.extend(ephemeral(&loaded.file.relay.ports, host));
    warnings.extend(tiny(loaded));
    warnings.extend(unused_certificate(loaded));
    warnings.extend(plane(loaded, accounts));
    warnings.extend(readable_secrets(loaded));
    warnings
}

fn open(loaded: &Loaded, accounts: &Accounts) -> Option<String> {
    let auth = &loaded.file.auth;
    if auth.anonymous {
        return Some("this is an open relay: anonymous = true lets anyone send through this server".into());
    }
    (accounts.secrets.is_empty() && accounts.users.is_empty()).then(|| {
        "there is no secret and no user: STUN works, every Allocate is answered 401; \
         add secrets = [\"…\"] under [auth], `openssl rand -base64 24` makes one"
            .into()
    })
}

fn loopback_peers(loaded: &Loaded) -> Option<String> {
    loaded.file.relay.allow_loopback_peers.then(|| {
        "allow_loopback_peers = true lets every user reach the services on this host's loopback; \
         it is meant for development"
            .into()
    })
}

fn foreign(loaded: &Loaded, host: &Host) -> Option<String> {
    listeners::foreign(&loaded.file, host).map(|foreign| {
        let origin = loaded.origins.of(foreign.key);
        format!("{} ({origin}): {} is not an address of this host now", foreign.key, foreign.ip)
    })
}

/// Relaying from private addresses alone, with nothing said about a public one.
fn private_relay(loaded: &Loaded, listen: &[Listen]) -> Option<String> {
    let relay = &loaded.file.relay;
    let mut from: Vec<IpAddr> = match relay.addresses.is_empty() {
        true => listen.iter().map(|listen| listen.addr.ip()).collect(),
        false => relay.addresses.iter().map(|address| address.0).collect(),
    };
    from.retain(|ip| ip.is_ipv4() && !ip.is_loopback());
    let private = |ip: &IpAddr| matches!(ip, IpAddr::V4(ip) if ip.is_private());
    let first = *from.first()?;
    let on_purpose = !relay.external.is_empty() || relay.allow_peers.iter().any(|n| n.0.contains(first));
    (!on_purpose && from.iter().all(private)).then(|| {
        format!(
            "the relay address {first} is private and relay.external is not set: behind a 1:1 NAT set \
             relay.external = [\"PUBLIC/{first}\"]; peers in private ranges get 403; for a LAN set \
             relay.allow_peers = [\"{}\"]",
            lan(first)
        )
    })
}

/// The network that is probably the LAN of `ip`.
fn lan(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{}/24", Ipv4Addr::from_bits(ip.to_bits() & !0xFF)),
        IpAddr::V6(ip) => format!("{ip}/128"),
    }
}

/// A port the kernel hands to somebody else is one the relay can not have.
fn ephemeral(ports: &PortRange, host: &Host) -> Option<String> {
    let ephemeral = host.ephemeral.as_ref()?;
    let first = *ports.0.start().max(ephemeral.start());
    let last = *ports.0.end().min(ephemeral.end());
    let taken = first <= last && !covered(first..=last, &host.reserved);
    taken.then(|| {
        let reserved = host.reserved.iter().map(|range| format!("{}-{},", range.start(), range.end()));
        format!(
            "relay.ports {ports} overlaps the ports the kernel gives to other programs ({}-{}); \
             `sysctl -w net.ipv4.ip_local_reserved_ports={}{first}-{last}` keeps them free",
            ephemeral.start(),
            ephemeral.end(),
            reserved.collect::<String>()
        )
    })
}

/// Whether every port is in one of the ranges.
fn covered(ports: RangeInclusive<u16>, ranges: &[RangeInclusive<u16>]) -> bool {
    ports.into_iter().all(|port| ranges.iter().any(|range| range.contains(&port)))
}

fn tiny(loaded: &Loaded) -> Vec<String> {
    let limits = &loaded.file.limits;
    let (each, total) = (limits.bytes_per_second, limits.bytes_per_second_total);
    let mut tiny = Vec::new();
    for (key, bytes) in [("bytes_per_second", each), ("bytes_per_second_total", total)] {
        if (1..BYTES_PER_SECOND_CALL).contains(&bytes) {
            tiny.push(format!(
                "limits.{key} = {bytes} is {bytes} bytes a second, too little for a voice call; \
                 it is bytes, not kilobits"
            ));
        }
    }
    if total > 0 && each > total {
        tiny.push(format!("limits.bytes_per_second = {each} is more than bytes_per_second_total = {total}"));
    }
    tiny
}

fn unused_certificate(loaded: &Loaded) -> Option<String> {
    let tls = &loaded.file.tls;
    let named = !tls.cert.is_empty() || !tls.key.is_empty();
    let used = !loaded.file.listen.tls.is_empty() || loaded.file.http.tls || loaded.file.http.admin_tls;
    (named && !used).then(|| "a certificate is configured but listen.tls is empty: TLS is off".into())
}

/// What of the side plane reaches further than its owner may think, or not as far.
fn plane(loaded: &Loaded, accounts: &Accounts) -> Vec<String> {
    let (http, rooms) = (&loaded.file.http, &loaded.file.rooms);
    let is_outside = |address: HttpAddress| address.0.filter(|address| !address.ip().is_loopback());
    let mut warnings = Vec::new();
    if let Some(address) = is_outside(http.listen) {
        if !http.tls && http.trusted_proxies.is_empty() {
            warnings.push(format!(
                "http.listen = {address} is plain HTTP: passwords cross the network readable, and browsers open no \
                 camera; set http.tls = true, or listen on loopback behind a proxy"
            ));
        }
        if rooms.enabled && !accounts.secrets.is_empty() {
            warnings.push(format!(
                "everyone who reaches {address} may open a room and is given credentials for this relay; \
                 limits.allocations_per_user bounds each room, rooms.enabled = false turns rooms off"
            ));
        }
    }
    if let Some(address) = is_outside(http.admin_listen)
        && http.admin_token_file.is_empty()
    {
        warnings.push(format!(
            "http.admin_listen = {address} without http.admin_token_file: it answers this host only; \
             `openssl rand -base64 24` makes a token"
        ));
    }
    if !http.api_keys.is_empty() && accounts.secrets.is_empty() {
        warnings.push("http.api_keys are set but no secret: no credentials can be made; set auth.secrets".into());
    }
    warnings
}

/// Files with secrets that any user of this host can read.
fn readable_secrets(loaded: &Loaded) -> Vec<String> {
    let (origins, file) = (&loaded.origins, &loaded.file);
    let named = [
        ("auth.secret_file", &file.auth.secret_file),
        ("auth.users_file", &file.auth.users_file),
        ("http.admin_token_file", &file.http.admin_token_file),
        ("tls.key", if file.tls.key.is_empty() { &file.tls.cert } else { &file.tls.key }),
    ];
    let named = named.into_iter().filter(|(_, path)| !path.is_empty()).map(|(key, path)| origins.path(key, path));
    let files: Vec<PathBuf> = origins.secret_files().into_iter().map(Path::to_owned).chain(named).collect();
    let readable = files.iter().filter(|path| is_world_readable(path));
    readable.map(|path| format!("any user of this host can read {0}: `chmod o-r {0}`", path.display())).collect()
}

fn is_world_readable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::File;

    fn host(ephemeral: Option<RangeInclusive<u16>>, reserved: Vec<RangeInclusive<u16>>) -> Host {
        let addresses = ["10.1.2.3", "127.0.0.1"].map(|ip| ip.parse().unwrap()).to_vec();
        Host { name: "host".into(), addresses, cores: 1, ephemeral, reserved }
    }

    /// The warnings about a configuration that has a user.
    fn all(change: impl FnOnce(&mut File), host: &Host) -> Vec<String> {
        let mut file = File::default();
        file.auth.users.insert("alice".parse().unwrap(), "wonderland".parse().unwrap());
        change(&mut file);
        match Loaded::from(file).plan(host) {
            Ok(plan) => plan.warnings,
            Err(fault) => panic!("{fault}"),
        }
    }

    #[test]
    fn a_private_relay_address_alone_is_pointed_out() {
        let host = host(None, Vec::new());
        let warnings = all(|_| {}, &host);
        assert!(
            warnings.len() == 1 && warnings[0].starts_with("the relay address 10.1.2.3 is private"),
            "{warnings:?}"
        );
        assert!(warnings[0].ends_with("for a LAN set relay.allow_peers = [\"10.1.2.0/24\"]"), "{warnings:?}");
        assert!(all(|file| file.relay.external = vec!["203.0.113.7".parse().unwrap()], &host).is_empty());
        assert!(all(|file| file.relay.allow_peers = vec!["10.0.0.0/8".parse().unwrap()], &host).is_empty());
    }

    #[test]
    fn an_overlap_with_the_ephemeral_ports_is_pointed_out_unless_reserved() {
        let quiet = |file: &mut File| file.relay.external = vec!["203.0.113.7".parse().unwrap()];
        let warnings = all(quiet, &host(Some(32768..=60999), vec![8080..=8080]));
        assert!(warnings[0].contains("49152-65535 overlaps") && warnings[0].contains("(32768-60999)"), "{warnings:?}");
        assert!(warnings[0].contains("=8080-8080,49152-60999`"), "{warnings:?}");
        assert!(all(quiet, &host(Some(32768..=49151), Vec::new())).is_empty());
        assert!(all(quiet, &host(Some(32768..=60999), vec![49152..=50000, 50001..=60999])).is_empty());
        assert_eq!(all(quiet, &host(Some(32768..=60999), vec![49153..=65535])).len(), 1);
    }

    #[test]
    fn a_side_plane_that_reaches_outside_is_pointed_out() {
        let host = host(None, Vec::new());
        let plane = |change: &dyn Fn(&mut File)| {
            all(
                |file| {
                    file.relay.external = vec!["203.0.113.7".parse().unwrap()];
                    change(file);
                },
                &host,
            )
        };
        assert!(plane(&|_| ()).is_empty(), "loopback is nobody else's");
        let outside = plane(&|file| {
            file.http.listen = "10.1.2.3:80".parse().unwrap();
            file.http.admin_listen = "10.1.2.3:9641".parse().unwrap();
            file.http.api_keys = vec!["0123456789abcdef".parse().unwrap()];
        });
        assert_eq!(outside.len(), 3, "{outside:?}");
        assert!(outside[0].contains("plain HTTP") && outside[1].contains("this host only"), "{outside:?}");
        assert!(outside[2].contains("set auth.secrets"), "{outside:?}");
        let rooms = plane(&|file| {
            file.http.listen = "10.1.2.3:80".parse().unwrap();
            file.http.trusted_proxies = vec!["10.1.2.4".parse().unwrap()];
            file.auth.secrets = vec!["0123456789abcdef".parse().unwrap()];
        });
        assert!(rooms.len() == 1 && rooms[0].contains("may open a room"), "{rooms:?}");
    }

    #[test]
    fn loopback_peers_tiny_limits_and_idle_certificates_are_pointed_out() {
        let host = host(None, Vec::new());
        let warnings = all(
            |file| {
                file.relay.external = vec!["203.0.113.7".parse().unwrap()];
                file.relay.allow_loopback_peers = true;
                file.limits.bytes_per_second = 64_000;
                file.limits.bytes_per_second_total = 15_999;
            },
            &host,
        );
        let starts =
            ["allow_loopback_peers = true", "limits.bytes_per_second_total = 15999", "limits.bytes_per_second = 64000"];
        assert_eq!(warnings.len(), starts.len(), "{warnings:?}");
        for (warning, start) in warnings.iter().zip(starts) {
            assert!(warning.starts_with(start), "{warning}");
        }
    }
}
