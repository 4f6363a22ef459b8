//! `turnpike load` against an engine in this process: every mode and transport, and what it says when it can not.
//!
//! Nothing here is timed: a run is short and slow, and what counts is that everything came, whole and once.

mod wire_client;

#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/certificate.rs"]
mod certificate;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/ports.rs"]
mod ports;

use ports::{LOOPBACK, Stretch};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use turnpike::engine::{self, Engine, Limits, Listen, Protocol, RelayConfig};
use turnpike::load::client::Account;
use turnpike::load::link::Transport;
use turnpike::load::pace::Pace;
use turnpike::load::report::Report;
use turnpike::load::{self, Config, Mode, Via};
use turnpike::turn;
use turnpike::turn::auth::Credentials;
use turnpike::turn::policy::PeerPolicy;
use wire_client::{ALICE, REALM};

const LISTENERS: [Protocol; 3] = [Protocol::Udp, Protocol::Tcp, Protocol::Tls];
const RELAYED: [Mode; 4] = [Mode::ToPeer, Mode::ToClient, Mode::Both, Mode::Pair];

/// An engine, stopped when the test is over.
struct Server {
    engine: Option<Engine>,
    _ports: Stretch,
}

impl Server {
    fn start(allow_loopback: bool, per_account: usize) -> Server {
        let mut auth = Credentials::new(REALM);
        auth.add_user(ALICE.0, ALICE.1);
        let ports = Stretch::next();
        let listen = LOOPBACK
            .into_iter()
            .flat_map(|ip| LISTENERS.map(|protocol| Listen { addr: SocketAddr::new(ip, 0), protocol, required: true }));
        let engine = engine::spawn(engine::Config {
            workers: 1,
            listen: listen.collect(),
            tls: Some(certificate::server()),
            relay: RelayConfig { ports: ports.relay(), addresses: Vec::new(), external: Vec::new() },
            limits: Limits { allocations_per_user: per_account, ..Limits::default() },
            turn: turn::Config {
                realm: REALM.into(),
                auth,
                policy: PeerPolicy { allow_loopback, ..PeerPolicy::default() },
                limits: turn::Limits { unverified_per_second: 0, ..turn::Limits::default() },
                ..turn::Config::default()
            },
        });
        Server { engine: Some(engine.expect("the engine starts")), _ports: ports }
    }

    /// A short and slow load of it.
    fn load(&self, protocol: Protocol, ip: IpAddr) -> Config {
        let listening = self.engine.as_ref().expect("it runs until it is dropped").listening();
        let found = listening.iter().find(|listen| listen.protocol == protocol && listen.addr.ip() == ip);
        let transport = match protocol {
            Protocol::Udp => Transport::Udp,
            Protocol::Tcp => Transport::Tcp,
            Protocol::Tls => {
                let name = certificate::NAME.try_into().expect("it is a DNS name");
                Transport::Tls(certificate::client(&[&rustls::version::TLS13], &[]), name)
            }
        };
        Config {
            server: found.expect("every protocol is served on both addresses").addr,
            transport,
            account: Account { user: ALICE.0.to_owned(), password: ALICE.1.to_owned().into() },
            mode: Mode::Both,
            via: Via::Channel,
            allocations: 4,
            rate: 400.0,
            pace: Pace::Poisson,
            burst: 1,
            window: 4,
            duration: Duration::from_millis(200),
            size: 161,
            threads: 1,
            peer: ip,
            pid: None,
            seed: 7,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.stop();
        }
    }
}

fn run(config: &Config) -> std::io::Result<Report> {
    load::run(config, &AtomicBool::new(false), &mut |_| ())
}

/// Runs a load of which everything must arrive, whole and once.
fn run_whole(config: &Config) -> Report {
    let what = format!("{:?} {:?} by {}", config.mode, config.via, config.transport.name());
    let report = run(config).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(report.sent > 0, "{what}: {report:?}");
    assert_eq!((report.arrived, report.loss), (report.sent, 0.0), "{what}: {report:?}");
    assert_eq!((report.corrupted, report.duplicates, report.failed), (0, 0, 0), "{what}: {report:?}");
    let legs = if config.mode == Mode::Both { 2 } else { 1 };
    assert_eq!(report.delivered, report.sent * legs, "{what}: {report:?}");
    assert!(report.latency.is_some(), "{what}");
    report
}

#[test]
fn every_way_of_a_packet_by_every_transport() {
    let server = Server::start(true, 0);
    for protocol in LISTENERS {
        for mode in RELAYED {
            for via in [Via::Channel, Via::Indication] {
                run_whole(&Config { mode, via, ..server.load(protocol, LOOPBACK[0]) });
            }
        }
    }
}

#[test]
fn both_families() {
    let server = Server::start(true, 0);
    for via in [Via::Channel, Via::Indication] {
        run_whole(&Config { via, ..server.load(Protocol::Udp, LOOPBACK[1]) });
    }
}

#[test]
fn flat_out_in_bursts_and_in_several_threads() {
    let server = Server::start(true, 0);
    let short = Duration::from_millis(100);
    for protocol in LISTENERS {
        let load = server.load(protocol, LOOPBACK[0]);
        run_whole(&Config { rate: 0.0, duration: short, ..load.clone() });
        run_whole(&Config { burst: 4, size: 1200, pace: Pace::Even, ..load.clone() });
        run_whole(&Config { threads: 2, mode: Mode::Pair, allocations: 6, ..load });
    }
}

#[test]
fn requests_in_place_of_packets() {
    let server = Server::start(true, 0);
    for protocol in LISTENERS {
        for mode in [Mode::Allocate, Mode::Binding] {
            for (rate, via) in [(40.0, Via::Channel), (0.0, Via::Indication)] {
                let duration = Duration::from_millis(100);
                let load = server.load(protocol, LOOPBACK[0]);
                let report = run_whole(&Config { mode, rate, via, duration, allocations: 2, ..load });
                assert_eq!(report.delivered_mbit_per_second, None);
            }
        }
    }
}

#[test]
fn what_a_load_has_allocated_is_given_back() {
    let server = Server::start(true, 4);
    for _ in 0..2 {
        run_whole(&server.load(Protocol::Tcp, LOOPBACK[0]));
    }
}

#[test]
fn a_report_is_a_table_and_json() {
    let server = Server::start(true, 0);
    let report = run_whole(&Config { pid: Some(std::process::id()), ..server.load(Protocol::Udp, LOOPBACK[0]) });
    let text = report.text();
    for row in ["server", "sent", "delivered", "loss", "latency", "server's CPU", "server's RSS"] {
        assert!(text.lines().any(|line| line.starts_with(row)), "{row}: {text}");
    }
    let json = serde_json::json!(report);
    assert_eq!((json["mode"].as_str(), json["transport"].as_str()), (Some("both"), Some("udp")));
    assert_eq!(json["sent"].as_u64(), Some(report.sent));
    assert!(json["process"]["rss_after_kib"].as_u64() > Some(0));
}

#[test]
fn a_refusal_is_told_in_words() {
    let server = Server::start(false, 2);
    let refused = |config: &Config| run(config).expect_err("the server refuses").to_string();
    for protocol in LISTENERS {
        let load = Config { allocations: 1, ..server.load(protocol, LOOPBACK[0]) };
        let denied = refused(&load);
        assert!(denied.contains("403") && denied.contains("allow_loopback_peers"), "{denied}");
        let account = Account { user: ALICE.0.to_owned(), password: "wrong".to_owned().into() };
        for mode in [Mode::Both, Mode::Allocate] {
            let wrong = refused(&Config { mode, account: account.clone(), ..load.clone() });
            assert!(wrong.contains("401") && wrong.contains("--password"), "{wrong}");
        }
    }
}

#[test]
fn a_full_account_is_told_in_words() {
    let server = Server::start(true, 2);
    let full = run(&server.load(Protocol::Udp, LOOPBACK[0])).expect_err("there is room for two").to_string();
    assert!(full.contains("486") && full.contains("limits.allocations_per_user"), "{full}");
}

#[test]
fn a_wish_to_stop_ends_it_with_what_there_is() {
    let server = Server::start(true, 0);
    let load = Config { duration: Duration::from_secs(3600), ..server.load(Protocol::Udp, LOOPBACK[0]) };
    let stop = AtomicBool::new(false);
    // The second word of progress is about packets: the wish comes in the midst of the load.
    let report = load::run(&load, &stop, &mut |progress| {
        if matches!(progress, load::Progress::Running { sent: 1.., .. }) {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let report = report.expect("it has results");
    assert!(report.interrupted && report.sent > 0 && report.loss == 0.0, "{report:?}");
}

#[test]
fn what_can_not_be_done_is_refused() {
    let server = Server::start(true, 0);
    let load = server.load(Protocol::Udp, LOOPBACK[0]);
    for wrong in [
        Config { duration: Duration::ZERO, ..load.clone() },
        Config { allocations: 0, ..load.clone() },
        Config { allocations: 3, mode: Mode::Pair, ..load.clone() },
        Config { size: 23, ..load.clone() },
        Config { size: 65_001, ..load.clone() },
        Config { rate: f64::NAN, ..load.clone() },
        Config { burst: 0, ..load.clone() },
        Config { window: 0, ..load.clone() },
        Config { threads: 0, ..load },
    ] {
        assert!(run(&wrong).is_err(), "{wrong:?}");
    }
}
