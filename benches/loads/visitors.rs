//! Many visitors of the public part at once: credentials at a rate, and seats in rooms that are held and talked from.

use crate::figures::Bench;
use crate::gauges::wait_until;
use crate::generator::{Generator, number};
use crate::site::API_KEY;
use crate::verdict::{Check, Verdict};
use crate::web::Visitor;
use serde_json::json;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use turnpike::load::histogram::Histogram;

/// Before the first address that visitors come from.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 96, 0, 0);
/// Visitors: the server has 4096 connections in its public part.
const VISITORS: u32 = 4000;
/// Visitors from one address: the server's limit is 20 WebSockets a source.
const PER_SOURCE: u32 = 16;
/// Connections that ask for credentials.
const ASKERS: u32 = 8;
/// Requests on one connection: the server closes it after a thousand.
const REQUESTS_MAX: u32 = 900;
/// Every visitor's socket is read so often.
const SWEEP: Duration = Duration::from_millis(250);
/// How long the seats may take to be taken.
const SEATS_PATIENCE: Duration = Duration::from_secs(120);

/// Visitors.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The public part
    #[arg(long)]
    public: SocketAddr,
    /// Credentials a second
    #[arg(long)]
    credentials: f64,
    /// Seats that are held
    #[arg(long)]
    visitors: u32,
    /// Rooms they are in, in equal parts
    #[arg(long)]
    rooms: u32,
    /// Messages a second, of all visitors
    #[arg(long)]
    messages: f64,
    /// How long it goes on once all seats are taken, in seconds
    #[arg(long)]
    seconds: f64,
}

/// LD-10: visitors beside packets; the packets' p99 with and without them.
pub fn beside_relaying(bench: &Bench<'_>) -> io::Result<Verdict> {
    let site = bench.site("", "max_clients = 10")?;
    // The plane is a thread beside the workers, and so are its visitors beside the packets: each may use either core.
    let (cores, program) = (bench.all_cores(), &bench.options.turnpike);
    let repin = std::process::Command::new("taskset").args(["-a", "-cp", &cores, &site.pid().to_string()]).output()?;
    if !repin.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&repin.stderr).into_owned()));
    }
    let arguments = format!(
        "--mode both --size 160 --allocations {} --rate {} --sources 127.16.0.0/12 --warm-up {} --duration {}",
        bench.count(200, 10),
        bench.count(25_000, 250),
        bench.warm_up(),
        bench.seconds
    );
    let relaying = || Generator::load(program, &cores, site.pid(), &format!("turn:{}", site.addr), &arguments);
    let alone = relaying()?.finish()?;
    let (visitors, rooms) = (bench.count(VISITORS, 20), bench.count(500, 2));
    let own = format!(
        "visitors --public {} --credentials {} --visitors {visitors} --rooms {rooms} --messages {} --seconds {}",
        site.public,
        bench.count(2000, 50),
        bench.count(500, 20),
        bench.seconds + u64::from(bench.count(4, 1))
    );
    let mut crowd = Generator::own(&cores, &own)?;
    let seats = || site.metrics().map(|metrics| metrics.sum("turnpike_room_clients"));
    wait_until(SEATS_PATIENCE, || Ok(seats()? >= f64::from(visitors) || crowd.has_ended()?))?;
    if crowd.has_ended()? {
        return crowd.finish().and_then(|report| Err(io::Error::other(format!("the visitors left early: {report}"))));
    }
    if seats()? < f64::from(visitors) {
        return Err(io::Error::other(format!("{} of {visitors} seats were taken in two minutes", seats()?)));
    }
    let running = relaying()?;
    let commands = vec![running.command.clone(), crowd.command.clone()];
    let (beside, crowd) = (running.finish()?, crowd.finish()?);
    let p99 = |report| number(report, "/latency/p99_us");
    let load = "2000 credentials a second, 4000 visitors in 500 rooms who say 500 words a second, beside 50,000 packets a second";
    let asked = number(&crowd, "/credentials_per_second");
    let checks = vec![
        Check::most("p99 of packets there and back, gained, us", p99(&beside) - p99(&alone), 1000.0),
        Check::most("share of the packets lost", number(&beside, "/loss"), 0.001),
        Check::least("credentials a second", asked, 2000.0 * 0.98),
        Check::equal("visitors who held their seat", number(&crowd, "/stayed"), f64::from(visitors)),
    ];
    let seen = [
        ("p99 there and back alone, us", p99(&alone)),
        ("p99 there and back beside them, us", p99(&beside)),
        ("p50 there and back alone, us", number(&alone, "/latency/p50_us")),
        ("p50 there and back beside them, us", number(&beside, "/latency/p50_us")),
        ("credentials that failed", number(&crowd, "/credentials_failed")),
        ("p99 of a credential, us", number(&crowd, "/credential_p99_us")),
        ("words heard a second", number(&crowd, "/heard") / number(&crowd, "/seconds").max(1e-9)),
        ("packets' generator's CPU, % of a core", number(&beside, "/generator_busy") * 100.0),
        ("server's CPU, % of a core", number(&beside, "/usage/cpu_s") / number(&beside, "/seconds").max(1e-9) * 100.0),
    ];
    let seen = seen.map(|(what, value)| (what.to_owned(), value)).into();
    let notes = vec!["server, packets' generator and visitors share both cores".to_owned()];
    Ok(Verdict { load: load.into(), checks, seen, notes, commands, ..Verdict::default() })
}

/// Visits and prints what it counted, as JSON.
pub fn run(options: &Options) -> io::Result<()> {
    let mut seats = Vec::new();
    for number in 0..options.visitors {
        let from = IpAddr::V4(Ipv4Addr::from_bits(FIRST.to_bits() + 1 + number / PER_SOURCE));
        let room = format!("room-{}", number % options.rooms.max(1));
        let visitor = Visitor::come(options.public, from, &room, &format!("visitor-{number}"))?;
        visitor.0.get_ref().set_nonblocking(true)?;
        seats.push(visitor);
    }
    let (end, began) = (Instant::now() + Duration::from_secs_f64(options.seconds), Instant::now());
    let (asked, talked) = thread::scope(|scope| {
        let asking: Vec<_> = (0..ASKERS).map(|at| scope.spawn(move || ask(options, at, end))).collect();
        let talked = talk(options, &mut seats, end);
        let mut all = Asked::default();
        for thread in asking {
            all.add(thread.join().unwrap_or_default());
        }
        (all, talked)
    });
    let seconds = began.elapsed().as_secs_f64();
    let report = json!({
        "seconds": seconds,
        "credentials": asked.done,
        "credentials_failed": asked.failed,
        "credentials_per_second": asked.done as f64 / seconds,
        "credential_p99_us": asked.took.percentile(0.99).unwrap_or_default() as f64 / 1e3,
        "said": talked.said,
        "heard": talked.heard,
        "stayed": talked.stayed,
    });
    println!("{report}");
    Ok(())
}

#[derive(Default)]
struct Asked {
    done: u64,
    failed: u64,
    took: Histogram,
}

impl Asked {
    fn add(&mut self, other: Asked) {
        (self.done, self.failed) = (self.done + other.done, self.failed + other.failed);
        self.took.merge(&other.took);
    }
}

/// Asks for one asker's share of the credentials, over connections that are kept.
fn ask(options: &Options, at: u32, end: Instant) -> Asked {
    let (mut asked, mut number, mut stream) = (Asked::default(), 0, None);
    let gap = Duration::from_secs_f64(f64::from(ASKERS) / options.credentials.max(1.0));
    let mut next = Instant::now() + gap.mul_f64(f64::from(at) / f64::from(ASKERS));
    while Instant::now() < end {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        next += gap;
        number += 1;
        if number % REQUESTS_MAX == 0 {
            stream = None;
        }
        let began = Instant::now();
        match credential(&mut stream, options.public, &format!("user-{at}-{number}")) {
            Ok(()) => {
                asked.done += 1;
                asked.took.add(began.elapsed().as_nanos() as u64);
            }
            Err(_) => {
                asked.failed += 1;
                stream = None;
            }
        }
    }
    asked
}

/// Asks for one credential over a connection that is kept.
fn credential(kept: &mut Option<BufReader<TcpStream>>, public: SocketAddr, user: &str) -> io::Result<()> {
    let reader = match kept {
        Some(reader) => reader,
        None => {
            let stream = TcpStream::connect(public)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            kept.insert(BufReader::new(stream))
        }
    };
    let request = format!(
        "GET /turn?service=turn&username={user} HTTP/1.1\r\nHost: {public}\r\nAuthorization: Bearer {API_KEY}\r\n\r\n"
    );
    reader.get_mut().write_all(request.as_bytes())?;
    let (mut line, mut len, mut is_fine) = (String::new(), 0, false);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::Error::other("the connection ended"));
        }
        match line.trim_end().split_once(':') {
            None if line == "\r\n" => break,
            None => is_fine = line.starts_with("HTTP/1.1 200 "),
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                len = value.trim().parse().map_err(io::Error::other)?;
            }
            Some(_) => {}
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body)?;
    if is_fine && body.starts_with(b"{") { Ok(()) } else { Err(io::Error::other("no credential")) }
}

#[derive(Default)]
struct Talked {
    said: u64,
    heard: u64,
    stayed: u64,
}

/// Has one visitor after the other say a word, and reads what the others hear.
fn talk(options: &Options, seats: &mut [Visitor], end: Instant) -> Talked {
    let (mut talked, began, mut swept) = (Talked::default(), Instant::now(), Instant::now());
    let mut gone = vec![false; seats.len()];
    while Instant::now() < end {
        let due = (began.elapsed().as_secs_f64() * options.messages) as u64;
        while talked.said < due && !seats.is_empty() {
            let at = talked.said as usize % seats.len();
            gone[at] |= seats[at].send("a word").is_err();
            talked.said += 1;
        }
        if swept.elapsed() >= SWEEP {
            swept = Instant::now();
            for (seat, gone) in seats.iter_mut().zip(&mut gone).filter(|(_, gone)| !**gone) {
                loop {
                    match seat.0.read() {
                        Ok(message) => talked.heard += u64::from(message.is_text()),
                        Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(_) => {
                            *gone = true;
                            break;
                        }
                    }
                }
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
    talked.stayed = gone.iter().filter(|gone| !**gone).count() as u64;
    talked
}
