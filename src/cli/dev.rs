//! `turnpike dev`: everything on this machine, with credentials that end with it.
//!
//! Loopback and private peers are allowed, and nothing is written to disk.

use super::credentials::{Credential, mint};
use super::signals::StopSignals;
use super::{Failure, host, log, print};
use crate::config::address::Endpoint;
use crate::config::file::{File, every_address};
use crate::config::secret::{Password, Secret, UserName};
use crate::config::value::{Format, Level, Seconds};
use crate::config::{Host, Loaded, uris};
use crate::engine::{self, Listen};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt::Write;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// How long the printed credential is good, in seconds.
const CREDENTIAL_TTL: Seconds = Seconds(86_400);
/// Bytes of randomness in a throw-away secret.
const SECRET_RANDOM_LEN: usize = 24;

/// `turnpike dev`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  turnpike dev\n  turnpike dev --listen 127.0.0.1 --user alice:wonderland")]
pub struct Options {
    /// The address to listen on; every local address without it
    #[arg(long, value_name = "IP")]
    pub listen: Option<IpAddr>,
    /// The port for UDP and TCP; 0 lets the kernel choose
    #[arg(long, default_value_t = 3478)]
    pub port: u16,
    /// A user to let in and to print the credentials of
    #[arg(long, value_name = "NAME:PASSWORD")]
    pub user: Option<String>,
    /// The shared secret; a random one without it
    #[arg(long, value_name = "SECRET")]
    pub secret: Option<String>,
    /// Relay threads; 0 is one per usable core
    #[arg(long, default_value_t = 0)]
    pub workers: usize,
    /// How much is logged
    #[arg(long, value_name = "LEVEL", default_value_t = Level::Warn)]
    pub log_level: Level,
}

/// Serves until Ctrl-C.
pub fn dev(options: &Options) -> Result<(), Failure> {
    log::start(options.log_level, Format::Text);
    // Read here, not by the command line's parser, whose errors repeat what was typed.
    let secret = match &options.secret {
        Some(secret) => secret.parse().map_err(|what| Failure::Other(format!("--secret: {what}")))?,
        None => random_secret()?,
    };
    let user = options.user.as_deref().map(user).transpose();
    let user = user.map_err(|what| Failure::Other(format!("--user: {what}")))?;
    let host = host()?;
    let plan = Loaded::from(file(options, &secret, user.as_ref())).plan(&host)?;
    let mut signals = StopSignals::register()
        .map_err(|error| Failure::Other(format!("the signals can not be taken over: {error}")))?;
    let engine = engine::spawn(plan.engine).map_err(|error| unstarted(options, &host, &error))?;
    let credential = match user {
        Some((name, password)) => Credential { username: name.to_string(), password: password.as_str().to_owned() },
        None => mint(&secret, "dev", CREDENTIAL_TTL, ':')?,
    };
    print(&ready(engine.listening(), &plan.realm, &credential));
    signals.wait();
    engine.stop();
    Ok(())
}

fn user(text: &str) -> Result<(UserName, Password), String> {
    let (name, password) = text.split_once(':').ok_or("it is written NAME:PASSWORD")?;
    Ok((name.parse()?, password.parse()?))
}

/// The configuration these options stand for.
fn file(options: &Options, secret: &Secret, user: Option<&(UserName, Password)>) -> File {
    let mut file = File { workers: options.workers, ..File::default() };
    let endpoints = match options.listen {
        Some(ip) => vec![Endpoint(SocketAddr::new(ip, options.port))],
        None => every_address(options.port),
    };
    file.listen.udp.clone_from(&endpoints);
    file.listen.tcp = endpoints;
    file.auth.secrets = vec![secret.clone()];
    file.auth.users = user.into_iter().cloned().collect();
    // Everything soft is allowed; what is denied for good stays denied.
    file.relay.allow_peers = ["0.0.0.0/0", "::/0"].into_iter().filter_map(|net| net.parse().ok()).collect();
    file.relay.allow_loopback_peers = true;
    file
}

fn random_secret() -> Result<Secret, Failure> {
    let mut bytes = [0; SECRET_RANDOM_LEN];
    getrandom::fill(&mut bytes).map_err(|error| Failure::Other(format!("there is no randomness: {error}")))?;
    URL_SAFE_NO_PAD.encode(bytes).parse().map_err(Failure::Other)
}

fn unstarted(options: &Options, host: &Host, error: &io::Error) -> Failure {
    let port = options.port;
    Failure::Other(match (error.kind(), options.listen) {
        (io::ErrorKind::AddrInUse, _) => {
            format!("port {port} is taken: choose another with --port, 0 lets the kernel choose ({error})")
        }
        (io::ErrorKind::AddrNotAvailable, Some(ip)) if !host.has(ip) => {
            format!("--listen {ip} is not an address of this host ({error})")
        }
        (io::ErrorKind::PermissionDenied, _) => {
            format!("port {port} is not allowed: choose one above 1023 with --port ({error})")
        }
        _ => format!("the relay can not start: {error}"),
    })
}

/// What to see, and what to paste where.
fn ready(listening: &[Listen], realm: &str, credential: &Credential) -> String {
    let uris = uris::uris(listening, &[], realm);
    let ice = uris::ice_servers(&uris, &credential.username, &credential.password);
    let mut text = format!(
        "turnpike {} is ready, with throw-away credentials. Ctrl-C stops it.\n\nListening on\n",
        env!("CARGO_PKG_VERSION")
    );
    for listen in listening {
        let _ = writeln!(text, "  {} {}", listen.protocol.name(), listen.addr);
    }
    let _ = writeln!(text, "\nFor a browser's RTCPeerConnection\n\n{ice:#}\n");
    text.push_str(
        "With that as `ice`, in the browser's console\n\n  \
         const pc = new RTCPeerConnection({ ...ice, iceTransportPolicy: \"relay\" });\n  \
         pc.onicecandidate = (e) => e.candidate && console.log(e.candidate.candidate);\n  \
         pc.createDataChannel(\"x\"); pc.createOffer().then((offer) => pc.setLocalDescription(offer));\n",
    );
    text
}
