//! The load: `turnpike load` on cores of its own, and what it reports.

use crate::report::Sample;
use crate::scenario::{Contest, Scenario, Transport, Unit};
use crate::server::{PASSWORD, Server, USER};
use serde_json::Value;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where clients come from: each from an address that none had before, far from the servers' and the peers'. coturn
/// holds a 5-tuple for some seconds after its allocation is gone and refuses it (437).
const SOURCES: &str = "127.16.0.0/12";
/// Where peers are.
const PEER: &str = "127.0.0.2";
/// Binds the generator's life to ours and pins it to cores.
const LAUNCH: &str = "exec setpriv --pdeathsig KILL taskset -c \"$0\" \"$@\"";

/// Loads a server as a scenario has it, counted for so many seconds, and says what it took.
pub fn run(
    program: &Path,
    cores: &str,
    server: &Server,
    scenario: &Scenario,
    seconds: u32,
    seed: u64,
) -> io::Result<Sample> {
    let mut command = Command::new("sh");
    command.args(["-c", LAUNCH, cores]).arg(program).args(["load", &uri(server, scenario.transport)]);
    command.args(scenario.load.split_whitespace());
    command.args(["--user", USER, "--sources", SOURCES, "--peer", PEER, "--insecure", "--format", "json"]);
    command.args(["--pid", &server.pid().to_string(), "--seed", &seed.to_string(), "--max-loss", "1"]);
    command.env("TURNPIKE_LOAD_PASSWORD", PASSWORD);
    // Memory is looked at before the first packet: what follows is of no interest.
    let (warm_up, seconds) = if scenario.unit == Unit::Allocation { (0, 1) } else { (1, seconds) };
    command.args(["--warm-up", &warm_up.to_string(), "--duration", &seconds.to_string()]);
    if scenario.contest == Contest::Servers {
        // A sleeping generator would make the server pay for waking it, which no network card does. Where both share
        // their cores, one that never sleeps would only be in the way.
        command.arg("--spin");
    }
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{} ({})", said.trim_end(), output.status)));
    }
    let report: Value = serde_json::from_slice(&output.stdout)?;
    if let Some(doubled) = report["duplicates"].as_u64().filter(|count| *count > 0) {
        return Err(io::Error::other(format!("{doubled} packets came twice")));
    }
    if scenario.load.contains("--gso auto") && report["super_packets"] != true {
        return Err(io::Error::other("the kernel took no super-packets from the generator"));
    }
    sample(&report, scenario.unit).ok_or_else(|| io::Error::other(format!("nothing was delivered: {report}")))
}

fn uri(server: &Server, transport: Transport) -> String {
    match transport {
        Transport::Udp => format!("turn:{}", server.addr),
        Transport::Tcp => format!("turn:{}?transport=tcp", server.addr),
        Transport::Tls => format!("turns:{}", server.tls_addr),
    }
}

/// What counts of a report; `None` when nothing does.
fn sample(report: &Value, unit: Unit) -> Option<Sample> {
    let number = |path: &str| report.pointer(path).and_then(Value::as_f64);
    if unit == Unit::Allocation {
        return Some(Sample {
            cost: Some(number("/usage/rss_bytes_per_allocation")?),
            empty_kib: number("/usage/rss_before_kib"),
            full_kib: number("/usage/rss_made_kib"),
            ..Sample::default()
        });
    }
    let cpu_us = number("/usage/cpu_us_per_unit")?;
    let (cpu_s, sent) = (number("/usage/cpu_s")?, number("/sent")?.max(1.0));
    Some(Sample {
        cost: Some(if unit == Unit::Cycle { cpu_us } else { cpu_us * 1e3 }),
        rate: number("/delivered_per_second"),
        p50_us: number("/latency/p50_us"),
        p99_us: number("/latency/p99_us"),
        loss: number("/loss").filter(|_| unit == Unit::Packet),
        unsent: number("/unsent").map(|count| count / sent),
        again: number("/repeated").filter(|_| unit != Unit::Packet).map(|count| count / sent),
        late: number("/late").filter(|_| number("/rate") > Some(0.0)).map(|count| count / sent),
        server_load: Some(cpu_s / number("/seconds")?),
        generator_load: number("/generator_busy"),
        wakeups: number("/usage/wakeups_per_unit"),
        busiest: number("/usage/threads/0/cpu_s").map(|busiest| busiest / cpu_s.max(1e-9)),
        ..Sample::default()
    })
}
