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
use turnpike::load::{self, BURST_MAX, Config, Gso, Mode, Via};
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
            moderation_max: std::time::Duration::ZERO,
            limits: Limits { allocations_per_user: per_account, ..Limits::default() },
            log: turnpike::bus::LogChoice::default(),
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
            gso: Gso::Auto,
            window: 4,
            warm_up: Duration::ZERO,
            duration: Duration::from_millis(200),
            size: 161,
            threads: 1,
            spin: false,
            sources: None,
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
fn bursts_with_one_system_call_and_as_super_packets() {
    let server = Server::start(true, 0);
    for gso in [Gso::Auto, Gso::Off] {
        for mode in RELAYED {
            for (burst, ip, via) in [(3, LOOPBACK[0], Via::Channel), (70, LOOPBACK[1], Via::Indication)] {
                let load = server.load(Protocol::Udp, ip);
                run_whole(&Config { mode, via, gso, burst, size: 200, rate: 2000.0, pace: Pace::Even, ..load });
            }
        }
        let load = server.load(Protocol::Udp, LOOPBACK[0]);
        run_whole(&Config { mode: Mode::ToPeer, gso, burst: 4, window: 8, rate: 0.0, ..load });
    }
}

#[test]
fn what_leaves_before_the_window_opens_is_not_counted() {
    let server = Server::start(true, 0);
    for mode in [Mode::Both, Mode::Pair, Mode::Allocate] {
        for rate in [200.0, 0.0] {
            let short = Duration::from_millis(100);
            let load = server.load(Protocol::Udp, LOOPBACK[0]);
            let report = run_whole(&Config { mode, rate, warm_up: short, duration: short, spin: true, ..load });
            assert!(report.warm_up_seconds > 0.0 && (0.0..=1.0).contains(&report.generator_busy), "{report:?}");
        }
    }
}

#[test]
fn more_connections_than_a_server_takes_at_once_from_one_address() {
    let server = Server::start(true, 0);
    for threads in [1, 3] {
        run_whole(&Config { allocations: 50, threads, ..server.load(Protocol::Tcp, LOOPBACK[0]) });
    }
}

#[test]
fn clients_come_from_addresses_of_their_own() {
    let server = Server::start(true, 0);
    for protocol in LISTENERS {
        let load = server.load(protocol, LOOPBACK[0]);
        let network = |text: &str| Some(text.parse().expect("it is a network"));
        run_whole(&Config { sources: network("127.20.0.0/29"), ..load.clone() });
        let few = run(&Config { sources: network("127.20.0.0/31"), ..load.clone() }).expect_err("there is one");
        assert!(few.to_string().contains("--sources 127.20.0.0/31"), "{few}");
        let foreign = run(&Config { sources: network("192.0.2.0/24"), ..load }).expect_err("they are not ours");
        assert!(foreign.to_string().contains("192.0.2.1 is no address of this host"), "{foreign}");
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
fn a_set_up_that_fails_gives_back_what_it_made() {
    let server = Server::start(true, 4);
    for threads in [1, 2] {
        let load = Config { threads, ..server.load(Protocol::Udp, LOOPBACK[0]) };
        let full = run(&Config { allocations: 6, ..load.clone() }).expect_err("there is room for four").to_string();
        assert!(full.contains("486"), "{full}");
        run_whole(&load);
    }
}

#[test]
fn lives_that_end_on_the_way_leave_nothing_behind() {
    let server = Server::start(false, 4);
    for _ in 0..3 {
        let load = server.load(Protocol::Udp, LOOPBACK[0]);
        let denied = run(&Config { mode: Mode::Allocate, ..load }).expect_err("the peer is denied").to_string();
        assert!(denied.contains("403"), "{denied}");
    }
}

#[test]
fn a_wish_to_stop_before_it_began_ends_it() {
    let server = Server::start(true, 4);
    let load = server.load(Protocol::Udp, LOOPBACK[0]);
    let error = load::run(&load, &AtomicBool::new(true), &mut |_| ()).expect_err("there is nothing to report");
    assert_eq!(error.kind(), std::io::ErrorKind::Interrupted);
    run_whole(&load);
}

#[test]
fn a_server_that_goes_away_leaves_what_was_counted() {
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let mut server = Server::start(true, 0);
        let load = Config { duration: Duration::from_secs(2), ..server.load(protocol, LOOPBACK[0]) };
        let report = load::run(&load, &AtomicBool::new(false), &mut |_| {
            if let Some(engine) = server.engine.take() {
                engine.stop();
            }
        });
        let report = report.expect("it has results");
        assert!(report.arrived > 0 && report.loss > 0.0 && report.failed > 0, "{report:?}");
        assert!(report.notes.iter().any(|note| note.contains("allocations were lost")), "{report:?}");
    }
}

#[test]
fn a_report_is_a_table_and_json() {
    let server = Server::start(true, 0);
    let report = run_whole(&Config { pid: Some(std::process::id()), ..server.load(Protocol::Udp, LOOPBACK[0]) });
    let text = report.text();
    for row in ["server", "sent", "delivered", "loss", "latency", "generator", "server's CPU", "server's RSS"] {
        assert!(text.lines().any(|line| line.starts_with(row)), "{row}: {text}");
    }
    let json = serde_json::json!(report);
    assert_eq!((json["mode"].as_str(), json["transport"].as_str()), (Some("both"), Some("udp")));
    assert_eq!(json["sent"].as_u64(), Some(report.sent));
    assert!(json["usage"]["rss_after_kib"].as_u64() > Some(0));
    assert!(json["usage"]["threads"][0]["name"].is_string());
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
        Config { size: 31, ..load.clone() },
        Config { size: 65_001, ..load.clone() },
        Config { rate: f64::NAN, ..load.clone() },
        Config { burst: 0, ..load.clone() },
        Config { burst: BURST_MAX + 1, ..load.clone() },
        Config { window: 0, ..load.clone() },
        Config { threads: 0, ..load },
    ] {
        assert!(run(&wrong).is_err(), "{wrong:?}");
    }
}

/// In a network namespace of its own, whose loopback has the MTU of an Ethernet.
const NARROW: &str = r#"
set -eu
ip link set lo mtu 1500 up
"$TURNPIKE" run -c "$ROOM/turnpike.toml" > "$ROOM/log" 2>&1 & server=$!
trap 'kill $server' EXIT
tries=0
until "$TURNPIKE" load turn:127.0.0.1 --mode binding --allocations 1 --duration 1 > "$ROOM/ready" 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || { cat "$ROOM/ready" "$ROOM/log"; exit 1; }
    sleep 0.05
done
for size in 1480 1200; do
    for via in channel indication; do
        for mode in both pair; do
            "$TURNPIKE" load turn:127.0.0.1 --user alice --password wonderland --peer 127.0.0.1 --mode $mode --via $via \
                --size $size --burst 8 --allocations 4 --rate 1000 --duration 1 --max-loss 0
        done
    done
done
"#;

#[test]
fn bursts_that_do_not_fit_the_link_arrive_all_the_same() {
    let room = std::env::temp_dir().join(format!("turnpike-narrow-{}", std::process::id()));
    std::fs::create_dir_all(&room).unwrap();
    let config = "realm = \"x\"\nworkers = 1\n[listen]\nudp = [\"127.0.0.1:3478\"]\ntcp = []\n\
                  [relay]\nallow_loopback_peers = true\n[auth]\nusers = { alice = \"wonderland\" }\n\
                  [http]\nlisten = \"\"\nadmin_listen = \"\"\nadmin_socket = \"\"\n";
    std::fs::write(room.join("turnpike.toml"), config).unwrap();
    let run = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", NARROW])
        .env("TURNPIKE", env!("CARGO_BIN_EXE_turnpike"))
        .env("ROOM", &room)
        .output()
        .expect("unshare is there (util-linux)");
    let said = [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(run.status.success(), "{}\n{}", said[0], said[1]);
    // Every load of the eight says so in its table.
    assert_eq!(said[0].matches("corrupted      0\n").count(), 8, "{}", said[0]);
    std::fs::remove_dir_all(&room).unwrap();
}
