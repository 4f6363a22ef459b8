//! What a running server says of itself at `/metrics`, and what the kernel says of it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use std::{fs, thread};
use turnpike::load::usage::Usage;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// One scrape: each series, by its name and labels.
#[derive(Clone, Debug, Default)]
pub struct Metrics(HashMap<String, f64>);

impl Metrics {
    /// Scrapes `/metrics` over a connection of its own.
    pub fn scrape(admin: SocketAddr) -> io::Result<Metrics> {
        let text = get(admin, "/metrics", "")?;
        let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        let values = series.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
        let metrics = Metrics(values.collect());
        if metrics.sum("turnpike_workers") > 0.0 { Ok(metrics) } else { Err(wrong("/metrics has no workers")) }
    }

    /// The sum of all series of a metric; 0 when there is none.
    pub fn sum(&self, name: &str) -> f64 {
        self.of(name).map(|(_, value)| value).sum()
    }

    fn of(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().filter_map(move |(series, value)| {
            let rest = series.strip_prefix(name)?;
            (rest.is_empty() || rest.starts_with('{')).then_some((&**series, *value))
        })
    }
}

/// What the kernel says of a program.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// Memory it holds, in KiB.
    pub rss_kib: u64,
    /// That part of it which no file backs, in KiB.
    pub rss_anon_kib: u64,
    /// Open files.
    pub files: u64,
    /// Processor time it has used, in nanoseconds.
    pub cpu_ns: u64,
}

impl Reading {
    /// Looks at a program.
    pub fn of(pid: u32) -> io::Result<Reading> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).ok_or_else(|| wrong(name))
        };
        Ok(Reading {
            rss_kib: field("VmRSS:")?,
            rss_anon_kib: field("RssAnon:")?,
            files: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64,
            cpu_ns: Usage::of(pid)?.threads.iter().map(|thread| thread.cpu_ns).sum(),
        })
    }
}

/// Datagrams that the kernel dropped at a listening socket of this port, for want of room in its buffer.
pub fn kernel_drops(port: u16) -> io::Result<u64> {
    let table = fs::read_to_string("/proc/net/udp")?;
    let local = format!(":{port:04X}");
    let is_ours = |line: &&str| line.split_whitespace().nth(1).is_some_and(|addr| addr.ends_with(&local));
    Ok(table.lines().filter(is_ours).filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum())
}

/// Gets a page over a connection of its own; `headers` are whole lines. Anything but 200 is an error.
pub fn get(addr: SocketAddr, path: &str, headers: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{headers}\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => Err(wrong(&format!("GET {path}: {}", answer.lines().next().unwrap_or("no answer")))),
    }
}

/// Looks until it is so, at most so long; whether it became so.
pub fn wait_until(patience: Duration, mut is_so: impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
    let began = std::time::Instant::now();
    while began.elapsed() < patience {
        if is_so()? {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(200));
    }
    is_so()
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(format!("not as expected: {what}"))
}
