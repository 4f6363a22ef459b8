//! New TLS connections, one after the other: connect, handshake without resumption, a Binding request answered, gone.

use crate::generator::Generator;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use turnpike::load::trust;
use turnpike::wire::stun::{Class, Method, TransactionId, Writer};

/// Before the first address that clients come from, each from another.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 80, 0, 0);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A run of handshakes.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The server
    #[arg(long)]
    server: SocketAddr,
    /// Connections at a time
    #[arg(long, default_value_t = 16)]
    threads: u32,
    /// How long it goes on, in seconds
    #[arg(long)]
    seconds: f64,
}

/// Runs them on these cores, in a process of their own; also what was typed.
pub fn measure(cores: &str, server: SocketAddr, seconds: u64) -> io::Result<(Value, String)> {
    let generator = Generator::own(cores, &format!("handshakes --server {server} --seconds {seconds}"))?;
    let command = generator.command.clone();
    Ok((generator.finish()?, command))
}

/// Shakes hands and prints what it counted, as JSON.
pub fn run(options: &Options) -> io::Result<()> {
    let mut config = ClientConfig::clone(&*trust::anybody().map_err(io::Error::other)?);
    config.resumption = Resumption::disabled();
    let config = Arc::new(config);
    let (done, failed, next) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU32::new(1));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                while began.elapsed().as_secs_f64() < options.seconds {
                    let source = Ipv4Addr::from_bits(FIRST.to_bits() + next.fetch_add(1, Ordering::Relaxed));
                    let count = if shake(options.server, source, &config).is_ok() { &done } else { &failed };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let (seconds, done) = (began.elapsed().as_secs_f64(), done.into_inner());
    let rate = done as f64 / seconds;
    let failed = failed.into_inner();
    println!("{}", json!({ "seconds": seconds, "handshakes": done, "handshakes_per_second": rate, "failed": failed }));
    Ok(())
}

fn shake(server: SocketAddr, source: Ipv4Addr, config: &Arc<ClientConfig>) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect(&server.into())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    let mut tls = StreamOwned::new(session, stream);
    let mut out = [0; 20];
    let ask = Writer::new(&mut out, Class::Request, Method::BINDING, TransactionId(*b"a new client"));
    let len = ask.finish().map_err(|_| io::Error::other("a header did not fit"))?;
    tls.write_all(&out[..len])?;
    let mut header = [0; 20];
    tls.read_exact(&mut header)?;
    if header[..2] == [0x01, 0x01] { Ok(()) } else { Err(io::Error::other("the answer is another one")) }
}
