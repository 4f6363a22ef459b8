//! `/metrics`: every name that is promised, live figures, and nothing Prometheus would complain about.

use crate::client::{Caller, Peer};
use crate::fixture::{Fixture, request, wait_until};
use crate::link::Via;
use crate::wire_client::{allocate, permit};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use turnpike::http::Certificate;
use turnpike::turn::DropReason;

/// Every family there is from the start, and its type.
const FAMILIES: [(&str, &str); 37] = [
    ("process_cpu_seconds_total", "counter"),
    ("process_max_fds", "gauge"),
    ("process_open_fds", "gauge"),
    ("process_resident_memory_bytes", "gauge"),
    ("process_start_time_seconds", "gauge"),
    ("process_threads", "gauge"),
    ("process_virtual_memory_bytes", "gauge"),
    ("turnpike_allocations", "gauge"),
    ("turnpike_allocations_created_total", "counter"),
    ("turnpike_allocations_ended_total", "counter"),
    ("turnpike_batch_packets", "histogram"),
    ("turnpike_build_info", "gauge"),
    ("turnpike_channels", "gauge"),
    ("turnpike_connections", "gauge"),
    ("turnpike_connections_closed_total", "counter"),
    ("turnpike_draining", "gauge"),
    ("turnpike_dropped_packets_total", "counter"),
    ("turnpike_http_requests_total", "counter"),
    ("turnpike_limits_reached_total", "counter"),
    ("turnpike_log_lines_lost_total", "counter"),
    ("turnpike_notices_lost_total", "counter"),
    ("turnpike_permissions", "gauge"),
    ("turnpike_ports_free", "gauge"),
    ("turnpike_relay_bytes_total", "counter"),
    ("turnpike_relay_packets_total", "counter"),
    ("turnpike_reloads_refused_total", "counter"),
    ("turnpike_requests_total", "counter"),
    ("turnpike_room_clients", "gauge"),
    ("turnpike_rooms", "gauge"),
    ("turnpike_session_bytes", "histogram"),
    ("turnpike_session_duration_seconds", "histogram"),
    ("turnpike_unverified_suppressed_total", "counter"),
    ("turnpike_workers", "gauge"),
    ("turn_", ""),
    ("stun_", ""),
    ("go_", ""),
    ("turnpike_certificate_expiry_timestamp_seconds", ""),
];

/// What one scrape said: each series with its labels, and its value.
struct Scrape {
    text: String,
    series: BTreeMap<String, f64>,
}

impl Scrape {
    fn of(fixture: &Fixture) -> Scrape {
        let answer = request(fixture.admin, "GET", "/metrics", &[], "");
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/plain; version=0.0.4")));
        let text = answer.text().to_owned();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series = lines.map(|line| line.rsplit_once(' ').expect("a series has a value"));
        let series: Vec<_> = series.map(|(name, value)| (name.to_owned(), value.parse().expect("a number"))).collect();
        let count = series.len();
        let series: BTreeMap<String, f64> = series.into_iter().collect();
        assert_eq!(series.len(), count, "no series is told twice");
        Scrape { text, series }
    }

    /// The value of a series.
    fn get(&self, series: &str) -> f64 {
        let family = series.split('{').next().unwrap_or(series);
        let beside = || self.series.iter().filter(|(name, _)| name.starts_with(family)).collect::<Vec<_>>();
        *self.series.get(series).unwrap_or_else(|| panic!("{series} is not there, but {:?}", beside()))
    }

    /// The families and their types.
    fn families(&self) -> BTreeMap<&str, &str> {
        let types = self.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        types.collect()
    }

    /// The values of a label of a family.
    fn values(&self, family: &str, label: &str) -> BTreeSet<String> {
        let start = format!("{family}{{");
        let series = self.series.keys().filter(|series| series.starts_with(&start));
        let value = |series: &String| {
            let value = series.split_once(&format!("{label}=\"")).expect("the label is there").1;
            value.split('"').next().expect("a value").to_owned()
        };
        series.map(value).collect()
    }
}

/// What `promtool check metrics` says about a scrape; empty: nothing.
fn complaints(text: &str) -> String {
    let mut tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs: install the package `prometheus`");
    tool.stdin.take().expect("its input is ours").write_all(text.as_bytes()).expect("it reads");
    let output = tool.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).expect("it says text");
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}

#[test]
fn the_document_lists_every_family_as_it_is_told() {
    let document = include_str!("../../docs/metrics.md");
    let certificate = Certificate { names: Vec::new(), issuer: String::new(), not_after_unix_s: 1 };
    let fixture = Fixture::with(|live| live.certificate = Some(certificate));
    let scrape = Scrape::of(&fixture);
    let told = scrape.text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    let told: BTreeMap<&str, &str> = told.collect();
    let listed = document.lines().filter(|line| line.starts_with("| `"));
    let listed = listed.map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        (cells[1].trim_matches('`'), cells[4])
    });
    assert_eq!(listed.collect::<BTreeMap<_, _>>(), told);
}

#[test]
fn every_family_is_there_from_the_start() {
    let fixture = Fixture::start();
    let scrape = Scrape::of(&fixture);
    let (named, absent): (Vec<_>, Vec<_>) = FAMILIES.into_iter().partition(|(_, kind)| !kind.is_empty());
    assert_eq!(scrape.families(), named.into_iter().collect());
    for (name, _) in absent {
        assert!(!scrape.text.contains(&format!("\n{name}")), "{name} is not there");
    }
    let set = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<BTreeSet<_>>();
    for family in ["turnpike_allocations", "turnpike_allocations_created_total"] {
        assert_eq!(scrape.values(family, "transport"), set(&["udp", "tcp", "tls"]));
        assert_eq!(scrape.values(family, "family"), set(&["ipv4", "ipv6"]));
    }
    let reasons = ["expired", "deleted", "disconnected", "closed", "revoked", "quota"];
    assert_eq!(scrape.values("turnpike_allocations_ended_total", "reason"), set(&reasons));
    let reasons: Vec<&str> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(scrape.values("turnpike_dropped_packets_total", "reason"), set(&reasons));
    for family in ["turnpike_relay_packets_total", "turnpike_relay_bytes_total"] {
        assert_eq!(scrape.values(family, "direction"), set(&["to_peer", "to_client"]));
        assert_eq!(scrape.values(family, "path"), set(&["user"]));
    }
    let methods = ["binding", "allocate", "refresh", "create_permission", "channel_bind"];
    assert_eq!(scrape.values("turnpike_requests_total", "method"), set(&methods));
    let codes = ["300", "400", "401", "403", "420", "437", "438", "440", "441", "486", "508", "other", "success"];
    assert!(scrape.values("turnpike_requests_total", "code").is_superset(&set(&codes)));
    for (series, value) in &scrape.series {
        let is_figure =
            ["process_", "turnpike_workers", "turnpike_build_info", "turnpike_ports_free", "turnpike_http_"];
        let counts = !is_figure.iter().any(|name| series.starts_with(name));
        assert!(!counts || *value == 0.0, "nothing has happened: {series} {value}");
    }
    assert_eq!(scrape.get(&format!("turnpike_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))), 1.0);
    assert_eq!(scrape.get("turnpike_workers"), 1.0);
}

#[test]
fn promtool_has_nothing_to_say() {
    let certificate = Certificate { names: vec!["a".into()], issuer: "b".into(), not_after_unix_s: 2_000_000_000 };
    let fixture = Fixture::with(|live| live.certificate = Some(certificate));
    let (mut alice, _) = Caller::allocated(Via::Udp, fixture.udp);
    alice.end();
    request(fixture.admin, "GET", "/api/v1/sessions/%22%0a\\", &[], "");
    let scrape = Scrape::of(&fixture);
    assert_eq!(complaints(&scrape.text), "");
    assert_eq!(scrape.get("turnpike_certificate_expiry_timestamp_seconds"), 2_000_000_000.0);
    // The tool does look: a name that a counter must not have, and a line that is none.
    assert!(complaints("# HELP a Is a.\n# TYPE a counter\na 1\n").contains("_total"));
    assert!(!complaints("a b c\n").is_empty());
}

#[test]
fn counters_move_while_a_call_runs() {
    const TO_PEER: [&str; 2] = [
        "turnpike_relay_packets_total{direction=\"to_peer\",path=\"user\"}",
        "turnpike_relay_bytes_total{direction=\"to_peer\",path=\"user\"}",
    ];
    const TO_CLIENT: [&str; 2] = [
        "turnpike_relay_packets_total{direction=\"to_client\",path=\"user\"}",
        "turnpike_relay_bytes_total{direction=\"to_client\",path=\"user\"}",
    ];
    let fixture = Fixture::start();
    let (mut alice, relayed) = Caller::allocated(Via::Tcp, fixture.tcp);
    let peer = Peer::new(relayed.ip());
    alice.bind(0x4000, peer.addr());
    for round in 1..=3 {
        alice.send_on(0x4000, &[1; 160]);
        peer.receive();
        peer.send(relayed, &[2; 40]);
        alice.receive();
        // Counted by the time the answer is here, and the call goes on.
        alice.echo();
        let scrape = Scrape::of(&fixture);
        assert_eq!(TO_PEER.map(|series| scrape.get(series)), [f64::from(round), f64::from(round * 160)]);
        assert_eq!(TO_CLIENT.map(|series| scrape.get(series)), [f64::from(round), f64::from(round * 40)]);
        assert_eq!(scrape.get("turnpike_session_bytes_count"), 0.0, "the call goes on");
    }
    let kind = "{transport=\"tcp\",family=\"ipv4\"}";
    let scrape = Scrape::of(&fixture);
    assert_eq!(scrape.get(&format!("turnpike_allocations{kind}")), 1.0);
    assert_eq!(scrape.get(&format!("turnpike_allocations_created_total{kind}")), 1.0);
    assert_eq!(scrape.get("turnpike_connections"), 1.0);
    assert_eq!(scrape.get("turnpike_requests_total{method=\"allocate\",code=\"401\"}"), 1.0);
    assert_eq!(scrape.get("turnpike_requests_total{method=\"allocate\",code=\"success\"}"), 1.0);
    assert_eq!(scrape.get("turnpike_requests_total{method=\"binding\",code=\"success\"}"), 3.0);
    assert!(scrape.get("turnpike_batch_packets_count") > 0.0);
    wait_until("the census has seen the permission and the channel", || {
        let scrape = Scrape::of(&fixture);
        scrape.get("turnpike_permissions") == 1.0 && scrape.get("turnpike_channels") == 1.0
    });
    alice.end();
    let scrape = Scrape::of(&fixture);
    assert_eq!(scrape.get(&format!("turnpike_allocations{kind}")), 0.0);
    assert_eq!(scrape.get("turnpike_allocations_ended_total{reason=\"deleted\"}"), 1.0);
    assert_eq!(scrape.get("turnpike_session_bytes_sum"), 600.0);
    assert_eq!(scrape.get("turnpike_session_bytes_bucket{le=\"1000\"}"), 1.0);
    assert_eq!(scrape.get("turnpike_session_duration_seconds_count"), 1.0);
    assert!(scrape.get("turnpike_session_duration_seconds_sum") < 60.0, "it is in seconds");
}

#[test]
fn refusals_and_drops_are_counted() {
    let fixture = Fixture::start();
    let (mut alice, _) = Caller::allocated(Via::Udp, fixture.udp);
    assert_eq!(alice.code(permit(&["169.254.169.254:80".parse().expect("an address and a port")])), 403);
    alice.send_on(0x4001, b"no such channel");
    alice.echo();
    let scrape = Scrape::of(&fixture);
    assert_eq!(scrape.get("turnpike_requests_total{method=\"create_permission\",code=\"403\"}"), 1.0);
    assert_eq!(scrape.get("turnpike_dropped_packets_total{reason=\"no_channel\"}"), 1.0);
    let before = scrape.get("turnpike_ports_free");
    let others: Vec<_> = (0..3).map(|_| Caller::allocated(Via::Udp, fixture.udp)).collect();
    wait_until("the ports of three allocations are counted as taken", || {
        let now = Scrape::of(&fixture).get("turnpike_ports_free");
        (1.0..=4.0).contains(&(before - now))
    });
    drop(others);
}

#[test]
fn http_requests_are_counted_by_route_and_not_by_path() {
    let fixture = Fixture::start();
    for path in ["/api/v1/sessions/0-0-1", "/api/v1/sessions/0-0-2", "/api/v1/sessions/x"] {
        assert_eq!(request(fixture.admin, "GET", path, &[], "").status, 404);
    }
    for path in ["/nothing/here/1", "/nothing/here/2/3"] {
        assert_eq!(request(fixture.admin, "GET", path, &[], "").status, 404);
    }
    let scrape = Scrape::of(&fixture);
    assert_eq!(scrape.get("turnpike_http_requests_total{route=\"/api/v1/sessions/{id}\",code=\"404\"}"), 3.0);
    assert_eq!(scrape.get("turnpike_http_requests_total{route=\"other\",code=\"404\"}"), 2.0);
    assert!(!scrape.text.contains("nothing"), "no path as it came");
    Scrape::of(&fixture);
    assert_eq!(Scrape::of(&fixture).get("turnpike_http_requests_total{route=\"/metrics\",code=\"200\"}"), 2.0);
}

#[test]
fn coturns_names_are_there_when_asked_for() {
    let fixture = Fixture::with(|live| live.coturn_names = true);
    let (mut alice, relayed) = Caller::allocated(Via::Udp, fixture.udp);
    let (mut bob, _) = Caller::allocated(Via::Tcp, fixture.tcp);
    let peer = Peer::new(relayed.ip());
    alice.bind(0x4000, peer.addr());
    for _ in 0..2 {
        alice.send_on(0x4000, &[1; 100]);
        peer.receive();
    }
    peer.send(relayed, &[2; 30]);
    alice.receive();
    alice.echo();
    assert_eq!(bob.code(allocate()), 437);
    let scrape = Scrape::of(&fixture);
    for (name, value) in [
        ("stun_binding_request", 1.0),
        ("stun_binding_response", 1.0),
        ("stun_binding_error", 0.0),
        ("turn_unauthenticated_401_requests", 2.0),
        ("turn_unauthenticated_401_responses", 2.0),
        ("turn_unauthenticated_401_dropped_responses", 0.0),
        ("turn_total_traffic_rcvp", 2.0),
        ("turn_total_traffic_rcvb", 200.0),
        ("turn_total_traffic_sentp", 1.0),
        ("turn_total_traffic_sentb", 30.0),
        ("turn_total_traffic_peer_rcvp", 1.0),
        ("turn_total_traffic_peer_rcvb", 30.0),
        ("turn_total_traffic_peer_sentp", 2.0),
        ("turn_total_traffic_peer_sentb", 200.0),
        ("turn_traffic_rcvb{realm=\"example.org\"}", 200.0),
        ("turn_traffic_peer_rcvp{realm=\"example.org\"}", 1.0),
        ("turn_total_allocations{type=\"UDP\"}", 1.0),
        ("turn_total_allocations{type=\"TCP\"}", 1.0),
        ("turn_total_allocations{type=\"TLS/TCP\"}", 0.0),
        ("turn_packet_dropped", 0.0),
    ] {
        assert_eq!(scrape.get(name), value, "{name}");
    }
    // Three packets; challenge and success of both allocations, a channel, a binding, a 437.
    assert_eq!(scrape.get("turn_packet_processed"), 3.0 + 7.0);
    assert!(scrape.get("turn_udp_recvmmsg_packets") >= scrape.get("turn_udp_recvmmsg_calls"));
    assert!(scrape.get("turnpike_allocations{transport=\"udp\",family=\"ipv4\"}") == 1.0, "beside its own");
    // coturn's counters have no `_total`; nothing else is wrong.
    let complaints = complaints(&scrape.text);
    for line in complaints.lines() {
        assert!(line.starts_with("turn_") || line.starts_with("stun_"), "{line}");
        assert!(line.contains("_total"), "{line}");
    }
    fixture.change(|live| live.coturn_names = false);
    assert!(!Scrape::of(&fixture).text.contains("\nturn_"), "a reload changes it");
}
