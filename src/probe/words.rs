//! Why a step failed, in words that say what to do about it. Pure.

use crate::load::client::{Refused, Step, TRIES_MAX};
use crate::load::link::TlsFault;
use crate::load::uri::Scheme;
use crate::wire::attribute::Family;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Why a server did not do what it was asked.
#[derive(Debug)]
pub enum Fault {
    /// It did not answer in time.
    Silence {
        /// How often it was asked.
        tries: u32,
    },
    /// It answered otherwise.
    Refused(Refused),
    /// The TLS session failed.
    Tls(rustls::Error),
    /// The connection did, or the answer was not as it must be.
    Io(io::Error),
    /// The user wanted an early end.
    Stopped,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none() {
            // A client that gave up before the step's time was over.
            return Fault::Silence { tries: TRIES_MAX };
        }
        let inner = error.get_ref();
        if let Some(refused) = inner.and_then(|inner| inner.downcast_ref::<Refused>()) {
            return Fault::Refused(*refused);
        }
        if let Some(TlsFault(error)) = inner.and_then(|inner| inner.downcast_ref()) {
            return Fault::Tls(error.clone());
        }
        Fault::Io(error)
    }
}

impl Fault {
    /// The error code of a refusal.
    pub fn code(&self) -> Option<u16> {
        match self {
            Fault::Refused(refused) => Some(refused.code),
            _ => None,
        }
    }
}

/// The name of a transport in reports.
pub const fn transport(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Udp => "udp",
        Scheme::Tcp => "tcp",
        Scheme::Tls => "tls",
    }
}

/// The resolver does not answer.
pub fn name_is_slow(host: &str, waited: Duration) -> String {
    format!("{host} is not found: the name servers of this host did not answer within {}", seconds(waited))
}

/// A host lacks addresses of the family that was wanted.
pub fn no_address_of(host: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("{host} has no IPv4 address: leave -4 out, or give it an A record"),
        Family::V6 => format!("{host} has no IPv6 address: leave -6 out, or give it an AAAA record"),
    }
}

/// A duration in seconds, as short as it can be told.
pub fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

/// A server can not be reached.
pub fn unreached(scheme: Scheme, server: SocketAddr, fault: &Fault, waited: Duration) -> String {
    let what = if scheme == Scheme::Udp { "UDP" } else { "TCP" };
    match fault {
        Fault::Silence { tries } if scheme == Scheme::Udp => {
            format!("no answer from {server} in {}: a firewall drops UDP, or nothing listens there", times(*tries))
        }
        Fault::Silence { .. } => format!(
            "no connection to {server} within {}: a firewall drops {what} to this port, or the host is down",
            seconds(waited)
        ),
        Fault::Io(error) => match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => {
                format!("refused by {server}: nothing listens at this port by {what}, or a firewall rejects it")
            }
            Some(libc::ENETUNREACH | libc::EADDRNOTAVAIL) => {
                let (family, flag) = if server.is_ipv6() { ("IPv6", "-4") } else { ("IPv4", "-6") };
                format!("this host has no {family} way to {server}: {flag} leaves it out")
            }
            Some(libc::EHOSTUNREACH | libc::EACCES | libc::EPERM) => {
                format!("{server} can not be reached from here: {error} (a router or a firewall says so)")
            }
            _ if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                closed(scheme, server)
            }
            _ => format!("{server}: {error}"),
        },
        Fault::Tls(error) => tls(server, error),
        other => answer("Binding", server, other, waited),
    }
}

fn closed(scheme: Scheme, server: SocketAddr) -> String {
    let hint = match scheme {
        Scheme::Tls => "it may speak no TLS here, or have no certificate",
        _ => "it may speak another protocol here, or have too many connections",
    };
    format!("{server} closed the connection: {hint}")
}

fn tls(server: SocketAddr, error: &rustls::Error) -> String {
    use rustls::Error;
    match error {
        Error::InvalidMessage(_) => {
            format!("{server} answers, but not by TLS: this may be the port of plain TURN, or of something else")
        }
        Error::AlertReceived(alert) => format!(
            "{server} ends the TLS session ({alert:?}): it may have no certificate for this name, or only old versions \
             of TLS; turnpike's client takes 1.2 and 1.3"
        ),
        Error::PeerIncompatible(_) => {
            format!("{server} and turnpike's client have no version or cipher of TLS in common: {error}")
        }
        _ => format!("TLS with {server}: {error}"),
    }
}

/// An exchange behind a connection that stands came to nothing.
pub fn answer(what: &str, server: SocketAddr, fault: &Fault, waited: Duration) -> String {
    match fault {
        Fault::Silence { tries } => {
            format!("no answer to {what} from {server} in {} and {}", times(*tries), seconds(waited))
        }
        Fault::Refused(refused) => format!("{what} is refused ({})", refused.code),
        Fault::Tls(error) => tls(server, error),
        Fault::Io(error) => match (error.kind(), error.raw_os_error()) {
            (_, Some(libc::ECONNREFUSED)) => format!("{server} no longer listens"),
            (io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset, _) => {
                format!("{what} is not answered: {server} closed the connection (it may speak another protocol here)")
            }
            _ => format!("{what}: {error}"),
        },
        Fault::Stopped => stopped(),
    }
}

/// The user wanted an early end.
pub fn stopped() -> String {
    "not tried: ended early".to_owned()
}

/// How the server came to think that a credential is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login<'a> {
    /// A user with a password.
    Password(&'a str),
    /// A credential minted with a secret.
    Secret,
}

/// An allocation was not made.
pub fn unallocated(login: Login<'_>, server: SocketAddr, fault: &Fault, waited: Duration) -> String {
    let Fault::Refused(refused) = fault else {
        let silent = matches!(fault, Fault::Silence { .. });
        let hint = if silent { ": it may serve STUN alone, with TURN turned off" } else { "" };
        return answer("Allocate", server, fault, waited) + hint;
    };
    let why = match (refused.code, login) {
        (401 | 441, Login::Password(user)) => format!(
            "the password is wrong, or the user {} is unknown there (is it a secret? then give it as --secret)",
            plain(user)
        ),
        (401 | 441, Login::Secret) => "the secret is not the server's, or its clock is not this machine's".to_owned(),
        (300, _) => match refused.alternate {
            Some(alternate) => format!("the server sends its clients to {alternate}: probe that one"),
            None => "the server sends its clients to another one".to_owned(),
        },
        (400, _) => "the server takes the request for malformed: it may serve STUN alone, or speak an old draft".into(),
        (403, _) => "the server does not serve this client's address, or this user".to_owned(),
        (405, _) | (500, _) => "the server has an error of its own: its log says which".to_owned(),
        (437, _) => "the server still holds an older allocation of this address and port: try again".to_owned(),
        (420, _) => "the server does not know an attribute of the request: it may speak an old draft of TURN".into(),
        (440, _) => "the server relays no address of this family: it has none in its relay addresses".to_owned(),
        (442, _) => "the server does not relay UDP".to_owned(),
        (486, _) => "the user has as many allocations as it may: end some, wait until old ones expire, or raise the \
                     limit (turnpike: limits.allocations_per_user; coturn: user-quota)"
            .to_owned(),
        (508, _) => "the server has no relay port left, is full, or takes no new allocations because it drains \
                     (turnpike: relay.ports, limits.allocations; coturn: min-port, max-port, total-quota)"
            .to_owned(),
        (code, _) => format!("the server answers with an error that Allocate does not have ({code})"),
    };
    format!("{} is refused ({}): {why}", refused.step.name(), refused.code)
}

/// This host is not permitted as a peer.
pub fn unpermitted_here(peer: IpAddr, server: SocketAddr, fault: &Fault, waited: Duration) -> String {
    match fault.code() {
        Some(code) => format!("not tried: the server does not relay to this host's address, {peer} ({code})"),
        None => answer(Step::Permit.name(), server, fault, waited),
    }
}

/// An allocation is not permitted as the peer of another.
pub fn unpermitted_between(peer: IpAddr, server: SocketAddr, fault: &Fault, waited: Duration) -> String {
    match fault.code() {
        Some(403) => format!(
            "the server does not relay to its own relayed address, {peer} (403): two clients that are both relayed by it \
             would not hear each other; allow it there (turnpike: relay.allow_peers = [\"{peer}\"], for loopback \
             relay.allow_loopback_peers = true; coturn: allowed-peer-ip={peer}, for loopback allow-loopback-peers)"
        ),
        Some(code) => format!("its own relayed address, {peer}, is refused as a peer ({code})"),
        None => answer(Step::Bind.name(), server, fault, waited),
    }
}

/// A server on the internet relays from an address that is not there.
pub fn private_relay(relayed: SocketAddr) -> String {
    format!(
        "the server tells {} as its relayed address, which nobody on the internet reaches: name its public address \
         there (turnpike: relay.external; coturn: external-ip)",
        relayed.ip()
    )
}

/// Whether an address can be that of a host on the internet, as far as it shows.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            // 100.64.0.0/10 is between providers and their customers (RFC 6598).
            let is_shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xC0 == 64;
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || is_shared)
        }
        IpAddr::V6(ip) => {
            !(ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified())
        }
    }
}

/// This host has no way to the relayed address.
pub fn outside_has_no_way(relayed: SocketAddr, error: &io::Error) -> String {
    format!(
        "nothing can be sent from this host to {relayed}: {error} (a wrong address is mended there with turnpike's \
         relay.external or coturn's external-ip)"
    )
}

/// Nothing came from this host to the relayed address.
pub fn outside_is_deaf(relayed: SocketAddr) -> String {
    format!(
        "nothing that this host sent to {relayed} came through: a firewall there or here drops UDP to the relay's ports, \
         or the server tells a wrong address (turnpike: relay.external; coturn: external-ip)"
    )
}

/// Nothing came from the relayed address to this host.
pub fn outside_is_mute(peer: SocketAddr) -> String {
    format!("what the relay sent to this host at {peer} did not come: a firewall here drops UDP")
}

/// What came from one allocation to another was nothing.
pub fn between_is_dead(ends: [SocketAddr; 2]) -> String {
    format!(
        "nothing came through between {} and {}, two allocations of this server: two clients that are both relayed by \
         it would not hear each other (behind NAT the host must reach its own external address)",
        ends[0], ends[1]
    )
}

/// Text of a server, fit for a terminal.
pub fn plain(text: &str) -> String {
    const CHARS_MAX: usize = 128;
    text.chars().filter(|c| !c.is_control()).take(CHARS_MAX).collect()
}

fn times(tries: u32) -> String {
    if tries == 1 { "1 try".to_owned() } else { format!("{tries} tries") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITED: Duration = Duration::from_secs(5);

    fn server() -> SocketAddr {
        SocketAddr::from(([203, 0, 113, 5], 3478))
    }

    fn refused(step: Step, code: u16) -> Fault {
        let refused = Refused { step, code, peer: server(), alternate: None };
        Fault::from(io::Error::other(refused))
    }

    #[test]
    fn silence_says_how_often_it_was_asked_and_what_it_may_be() {
        let fault = Fault::Silence { tries: 3 };
        assert_eq!(
            unreached(Scheme::Udp, server(), &fault, WAITED),
            "no answer from 203.0.113.5:3478 in 3 tries: a firewall drops UDP, or nothing listens there"
        );
        let tcp = unreached(Scheme::Tcp, server(), &fault, WAITED);
        assert!(tcp.starts_with("no connection to 203.0.113.5:3478 within 5 s: a firewall drops TCP"), "{tcp}");
        let allocate = unallocated(Login::Secret, server(), &fault, WAITED);
        assert!(allocate.contains("in 3 tries and 5 s") && allocate.contains("STUN alone"), "{allocate}");
    }

    #[test]
    fn a_refused_connection_is_told_from_a_dropped_one() {
        let fault = Fault::from(io::Error::from_raw_os_error(libc::ECONNREFUSED));
        for (scheme, name) in [(Scheme::Udp, "UDP"), (Scheme::Tcp, "TCP"), (Scheme::Tls, "TCP")] {
            let said = unreached(scheme, server(), &fault, WAITED);
            assert!(said.contains(&format!("nothing listens at this port by {name}")), "{said}");
        }
        let gone = Fault::from(io::Error::from(io::ErrorKind::UnexpectedEof));
        assert!(unreached(Scheme::Tls, server(), &gone, WAITED).contains("may speak no TLS here"));
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let say = |login, code| unallocated(login, server(), &refused(Step::Allocate, code), WAITED);
        let wrong = say(Login::Password("alice"), 401);
        assert!(wrong.contains("the password is wrong, or the user alice is unknown"), "{wrong}");
        assert!(say(Login::Secret, 401).contains("the secret is not the server's"));
        assert!(say(Login::Secret, 486).contains("limits.allocations_per_user"));
        assert!(say(Login::Secret, 508).contains("relay.ports"));
        assert!(say(Login::Secret, 403).contains("(403): the server does not serve this client"));
        assert!(say(Login::Secret, 499).contains("(499)"));
        let denied = unpermitted_between(server().ip(), server(), &refused(Step::Bind, 403), WAITED);
        assert!(denied.contains("relay.allow_peers = [\"203.0.113.5\"]"), "{denied}");
        let denied = unpermitted_here(server().ip(), server(), &refused(Step::Permit, 403), WAITED);
        assert_eq!(denied, "not tried: the server does not relay to this host's address, 203.0.113.5 (403)");
        let alternate = Some(SocketAddr::from(([203, 0, 113, 9], 3478)));
        let elsewhere = Fault::Refused(Refused { step: Step::Allocate, code: 300, peer: server(), alternate });
        assert!(unallocated(Login::Secret, server(), &elsewhere, WAITED).contains("203.0.113.9:3478: probe that one"));
    }

    #[test]
    fn a_private_address_is_none_for_the_internet() {
        for ip in ["10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "169.254.0.1", "100.64.0.1", "0.0.0.0"] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["::1", "fd00::1", "fe80::1", "::"] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["203.0.113.5", "100.63.255.255", "100.128.0.0", "172.32.0.1", "2001:db8::1"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        let said = private_relay(SocketAddr::from(([10, 0, 0, 5], 50_000)));
        assert!(said.contains("10.0.0.5") && said.contains("relay.external"), "{said}");
    }

    #[test]
    fn a_tls_fault_is_known_behind_its_io_error() {
        let fault = Fault::from(io::Error::other(TlsFault(rustls::Error::InvalidMessage(
            rustls::InvalidMessage::InvalidContentType,
        ))));
        let said = unreached(Scheme::Tls, server(), &fault, WAITED);
        assert!(said.contains("answers, but not by TLS"), "{said}");
    }

    #[test]
    fn what_a_server_calls_itself_moves_no_cursor() {
        assert_eq!(plain("turn\x1b[2Jserver\r\n"), "turn[2Jserver");
        assert_eq!(plain(&"x".repeat(1000)).len(), 128);
    }
}
