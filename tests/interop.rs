//! coturn's own test client, `turnutils_uclient`, against the real binary: nothing may be lost.
//!
//! The client does what old clients do (RFC 5766's habits, long-term SHA-1 credentials, TLS 1.2 as often as 1.3),
//! so it is a witness that the server works for those who wrote against coturn. Cases of one test run at the same
//! time.

#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/certificate.rs"]
mod certificate;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/client.rs"]
mod client;
mod foreign;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/link.rs"]
mod link;
mod wire_client;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use foreign::{Daemon, LOOPBACK, PASSWORD, USER, ask, free_ports, require};

/// The shared secret of the daemon's time-limited credentials.
const SECRET: &str = "north-wind-and-sun";
/// Seconds one client may take; it needs seven, most of them its own pauses.
const CLIENT_LIMIT_S: &str = "60";

/// coturn's echo peer on both loopback addresses; it also takes the next port, for RTCP.
struct EchoPeer {
    child: Child,
    port: u16,
}

impl EchoPeer {
    fn start() -> Self {
        require("turnutils_peer");
        let port = free_ports(2);
        let mut command = Command::new("turnutils_peer");
        for ip in LOOPBACK {
            command.args(["-L", &ip.to_string()]);
        }
        let child = command
            .args(["-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("turnutils_peer starts");
        let mut peer = Self { child, port };
        for ip in LOOPBACK {
            let address = SocketAddr::new(ip, port);
            let answered = ask(address, b"are you there?", || matches!(peer.child.try_wait(), Ok(None)));
            assert!(answered, "turnutils_peer does not answer on {address}");
        }
        peer
    }
}

impl Drop for EchoPeer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One run of the client: its own flags, and how many messages it must send and see again.
///
/// Flags used: `-t` TCP, `-S` TLS, `-s` Send indications instead of channels, `-c` no second flow for RTCP,
/// `-m` clients, `-n` messages a client, `-l` message bytes, `-z` milliseconds between messages, `-e` peer,
/// `-y` clients send to each other's relayed address, `-x` an IPv6 relayed address, `-X` an IPv4 one asked for
/// by name, `-g` DONT-FRAGMENT, `-D` channel data padded over UDP too, `-G` requests that are not needed and some
/// that must be refused.
///
/// Not used: `-Z`, an address of each family. This client asks for it with attribute 0x8032, a number of coturn's
/// own; RFC 8656 §18.11 gives ADDITIONAL-ADDRESS-FAMILY 0x8000.
struct Case {
    flags: &'static str,
    messages: u64,
}

const fn case(flags: &'static str, messages: u64) -> Case {
    Case { flags, messages }
}

/// What a client says that binds two peers to one channel number. It draws both numbers at random and gives up when it
/// draws one twice, once in 16,384 allocations: the server must refuse that (RFC 8656 §12.2). Such a run is repeated,
/// once.
const DRAWN_TWICE: &str = "channel bind: error 400";

/// Runs one client to its end and returns whether it was content and what it printed.
fn run_client(daemon: &Daemon, peer: &EchoPeer, credentials: &[&str], flags: &str) -> (bool, String) {
    let port = if flags.split(' ').any(|flag| flag == "-S") { daemon.tls_port } else { daemon.port };
    let output = Command::new("timeout")
        .args([CLIENT_LIMIT_S, "turnutils_uclient", "-p", &port.to_string(), "-r", &peer.port.to_string()])
        .args(credentials)
        .args(flags.split(' '))
        .output()
        .expect("timeout runs");
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
    )
}

/// The number that follows `label` the last time it stands in the text.
fn number_after(text: &str, label: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(label)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// What is wrong with a run, from its totals; nothing when every message came back.
fn judge(case: &Case, content: bool, printed: &str) -> Option<String> {
    let sent = number_after(printed, "tot_send_msgs=");
    let received = number_after(printed, "tot_recv_msgs=");
    let lost = number_after(printed, "Total lost packets ");
    let dropped = number_after(printed, "total send dropped ");
    let all = Some(case.messages);
    let arrived = received.is_some_and(|received| received + lossy(case.messages) >= case.messages);
    let accounted = received.zip(lost).map(|(received, lost)| received + lost) == all;
    if content && sent == all && arrived && accounted && dropped == Some(0) {
        return None;
    }
    Some(format!(
        "turnutils_uclient {}: wanted {} messages sent and received; sent {sent:?}, received {received:?}, \
         lost {lost:?}, never sent {dropped:?}, {}\n{printed}",
        case.flags,
        case.messages,
        if content { "exit 0" } else { "failed" },
    ))
}

/// How many of so many messages may be lost. The way to the peer is UDP: a thousand messages or more at full
/// speed overflow a socket's buffer when other programs keep the reader from its core.
fn lossy(messages: u64) -> u64 {
    if messages >= 1000 { messages / 100 } else { 0 }
}

/// Runs every case at once against a daemon of their own, as the long-term user.
fn relay_all(cases: &[Case]) {
    let daemon = Daemon::start(SECRET);
    relay(&daemon, &["-u", USER, "-w", PASSWORD], cases);
    daemon.stop();
}

/// Runs every case at once and fails on more messages lost than may be.
fn relay(daemon: &Daemon, credentials: &[&str], cases: &[Case]) {
    require("turnutils_uclient");
    let peer = &EchoPeer::start();
    let faults: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = cases
            .iter()
            .map(|case| {
                scope.spawn(move || {
                    let (mut content, mut printed) = run_client(daemon, peer, credentials, case.flags);
                    if printed.contains(DRAWN_TWICE) {
                        (content, printed) = run_client(daemon, peer, credentials, case.flags);
                    }
                    judge(case, content, &printed)
                })
            })
            .collect();
        runs.into_iter().filter_map(|run| run.join().expect("the client's thread ends")).collect()
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn udp() {
    relay_all(&[
        case("-c -n 50 -l 200 -e 127.0.0.1 127.0.0.1", 50),
        case("-c -n 50 -l 200 -s -e 127.0.0.1 127.0.0.1", 50),
        case("-n 20 -l 171 -e 127.0.0.1 127.0.0.1", 40),
        case("-c -n 20 -l 1 -D -e 127.0.0.1 127.0.0.1", 20),
        case("-c -n 20 -l 1400 -g -e 127.0.0.1 127.0.0.1", 20),
        case("-c -n 20 -G -e 127.0.0.1 127.0.0.1", 20),
        case("-c -m 10 -n 100 -z 5 -l 1000 -e 127.0.0.1 127.0.0.1", 1000),
    ]);
}

#[test]
fn tcp() {
    relay_all(&[
        case("-t -c -n 50 -l 200 -e 127.0.0.1 127.0.0.1", 50),
        case("-t -c -n 50 -l 200 -s -e 127.0.0.1 127.0.0.1", 50),
        case("-t -n 20 -l 171 -e 127.0.0.1 127.0.0.1", 40),
        case("-t -c -n 20 -G -e 127.0.0.1 127.0.0.1", 20),
        case("-t -c -m 20 -n 300 -z 1 -l 1000 -e 127.0.0.1 127.0.0.1", 6000),
    ]);
}

// The client takes a TLS record for a message and counts two in one record as lost, though a stream may be cut
// anywhere. So its TLS cases leave time between messages, more than a busy machine delays them, and there is no
// case of clients that write to each other over TLS.
#[test]
fn tls() {
    relay_all(&[
        case("-t -S -c -z 250 -n 12 -l 200 -e 127.0.0.1 127.0.0.1", 12),
        case("-t -S -c -z 250 -n 12 -l 200 -s -e 127.0.0.1 127.0.0.1", 12),
        case("-t -S -z 250 -n 12 -l 171 -e 127.0.0.1 127.0.0.1", 24),
        case("-t -S -c -m 10 -z 250 -n 12 -l 1000 -e 127.0.0.1 127.0.0.1", 120),
    ]);
}

#[test]
fn ipv6_clients_and_peers() {
    relay_all(&[
        case("-c -n 50 -l 200 -x -e ::1 ::1", 50),
        case("-c -n 50 -l 200 -x -s -e ::1 ::1", 50),
        case("-t -c -n 50 -l 200 -x -e ::1 ::1", 50),
        case("-t -S -c -z 250 -n 12 -l 200 -x -e ::1 ::1", 12),
    ]);
}

#[test]
fn a_relayed_address_of_the_other_family() {
    relay_all(&[
        case("-c -n 50 -l 200 -x -e ::1 127.0.0.1", 50),
        case("-t -c -n 50 -l 200 -x -s -e ::1 127.0.0.1", 50),
        case("-c -n 50 -l 200 -X -e 127.0.0.1 ::1", 50),
        case("-t -S -c -z 250 -n 12 -l 200 -X -e 127.0.0.1 ::1", 12),
    ]);
}

#[test]
fn clients_of_the_same_server_to_each_other() {
    relay_all(&[
        case("-y -c -m 2 -n 50 -l 200 127.0.0.1", 100),
        case("-y -c -m 2 -n 50 -l 200 -s 127.0.0.1", 100),
        case("-y -m 4 -n 20 -l 171 127.0.0.1", 80),
        case("-y -c -m 4 -n 50 -l 200 -x ::1", 200),
        case("-y -t -c -m 4 -n 50 -l 1000 127.0.0.1", 200),
    ]);
}

#[test]
fn time_limited_credentials() {
    let daemon = Daemon::start(SECRET);
    relay(
        &daemon,
        &["-u", "bob", "-W", SECRET],
        &[
            case("-c -n 50 -l 200 -e 127.0.0.1 127.0.0.1", 50),
            case("-t -c -n 50 -l 200 -s -e 127.0.0.1 127.0.0.1", 50),
            case("-t -S -c -z 250 -n 12 -l 200 -x -e ::1 ::1", 12),
        ],
    );
    let (name, password) = daemon.mint("carol");
    relay(&daemon, &["-u", &name, "-w", &password], &[case("-c -n 50 -l 200 -e 127.0.0.1 127.0.0.1", 50)]);
    daemon.stop();
}

#[test]
fn a_draining_server_sends_its_clients_to_another() {
    let other = Daemon::start(SECRET);
    let first = Daemon::start_beside(SECRET, Some(&other));
    // Without an allocation it would end at once.
    let (held, _) = client::Caller::allocated(link::Via::Udp, SocketAddr::new(LOOPBACK[0], first.port));
    first.drain();
    relay(
        &first,
        &["-u", USER, "-w", PASSWORD],
        &[
            case("-c -n 50 -l 200 -e 127.0.0.1 127.0.0.1", 50),
            case("-t -c -n 50 -l 200 -e 127.0.0.1 127.0.0.1", 50),
            case("-c -n 50 -l 200 -x -e ::1 ::1", 50),
        ],
    );
    assert!(!first.log().contains("allocation ended"), "the draining server took a client\n{}", first.log());
    assert!(other.log().contains("allocation ended"), "no client came to the other server\n{}", other.log());
    drop(held);
    first.stop();
    other.stop();
}

#[test]
fn wrong_credentials_get_no_allocation() {
    require("turnutils_uclient");
    let (daemon, peer) = (Daemon::start(SECRET), EchoPeer::start());
    for credentials in
        [["-u", USER, "-w", "Wonderland"], ["-u", "mallory", "-w", PASSWORD], ["-u", "bob", "-W", "south-wind-and-sun"]]
    {
        let (content, printed) = run_client(&daemon, &peer, &credentials, "-c -n 5 -e 127.0.0.1 127.0.0.1");
        assert!(!content, "{credentials:?} were accepted\n{printed}");
        assert!(printed.contains("Cannot complete Allocation"), "{credentials:?}: {printed}");
    }
    daemon.stop();
}
