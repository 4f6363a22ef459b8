//! `turnpike dev`: everything on this machine, with credentials that end with it.
//!
//! Loopback and private peers are allowed, and nothing is written to disk.

use super::credentials::{Credential, mint};
use super::run::url;
use super::serve::{Service, Unstarted, plane_failure};
use super::{Failure, host, log, print};
use crate::config::address::Endpoint;
use crate::config::file::{File, every_address};
use crate::config::secret::{Password, Secret, UserName};
use crate::config::value::{Format, Level, Seconds};
use crate::config::web::HttpAddress;
use crate::config::{Host, Identity, Loaded, uris};
use crate::engine::Inheritance;
use crate::http::{Bind, Part};
use crate::turn::auth::Caps;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt::Write;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Where HTTPS is served on every address, so that a phone may use its camera.
const HTTPS_PORT: u16 = 8443;
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
    /// Where the call page and the credentials are served, or `off`; with port 0 the kernel
    /// chooses this port, that of HTTPS and that of the console
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub http: String,
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
    let _log = log::start(options.log_level, Format::Text);
    // Read here, not by the command line's parser, whose errors repeat what was typed.
    let secret = match &options.secret {
        Some(secret) => secret.parse().map_err(|what| Failure::Other(format!("--secret: {what}")))?,
        None => random_secret()?,
    };
    let user = options.user.as_deref().map(user).transpose();
    let user = user.map_err(|what| Failure::Other(format!("--user: {what}")))?;
    let host = host()?;
    let file = file(options, &secret, user.as_ref())?;
    let web = file.http.listen.0;
    let plan = Loaded::from(file).plan(&host)?;
    let more = match web {
        Some(web) => https_everywhere(options, &host, web)?,
        None => Vec::new(),
    };
    let service = Service::start(plan, more, true, Inheritance::default()).map_err(|error| match error {
        Unstarted::Relay(error) => unstarted(options, &host, &error),
        Unstarted::Plane(error) => {
            plane_failure(&error, "choose another with --http ADDR; port 0 lets the kernel choose")
        }
    })?;
    let credential = match user {
        Some((name, password)) => Credential { username: name.to_string(), password: password.as_str().to_owned() },
        None => mint(&secret, "dev", Caps::default(), CREDENTIAL_TTL, ':')?,
    };
    print(&ready(&service, &host, &credential));
    service.serve(|_| Err("`turnpike dev` has no configuration file: restart it with other options".into()));
    Ok(())
}

fn user(text: &str) -> Result<(UserName, Password), String> {
    let (name, password) = text.split_once(':').ok_or("it is written NAME:PASSWORD")?;
    Ok((name.parse()?, password.parse()?))
}

/// The configuration these options stand for.
fn file(options: &Options, secret: &Secret, user: Option<&(UserName, Password)>) -> Result<File, Failure> {
    // Nobody's calls are kept up for a server that was tried out.
    let mut file = File { workers: options.workers, drain_timeout: Seconds(0), ..File::default() };
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
    file.http.listen = match options.http.as_str() {
        "off" => HttpAddress(None),
        address => address.parse().map_err(|what| Failure::Other(format!("--http: {what}")))?,
    };
    file.http.admin_listen = match file.http.listen.0 {
        None => HttpAddress(None),
        Some(address) if address.port() == 0 => HttpAddress::loopback(0),
        Some(_) => file.http.admin_listen,
    };
    // All its clients come from here.
    file.limits.allocations_per_source = 0;
    file.http.admin_socket = String::new();
    file.auth.revocations_file = String::new();
    Ok(file)
}

/// HTTPS with a certificate of this run's own, on every address clients come to.
fn https_everywhere(options: &Options, host: &Host, web: SocketAddr) -> Result<Vec<Bind>, Failure> {
    let failure = |what: &dyn std::fmt::Display| Failure::Other(format!("the certificate can not be made: {what}"));
    let addresses: Vec<IpAddr> = match options.listen {
        Some(ip) if !ip.is_unspecified() => vec![ip],
        _ => host.addresses.clone(),
    };
    let is_link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let addresses: Vec<IpAddr> = addresses.into_iter().filter(|ip| !is_link_local(ip)).collect();
    let names: Vec<String> =
        addresses.iter().map(ToString::to_string).chain(["localhost".into(), host.name.clone()]).collect();
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| failure(&error))?;
    let key =
        rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(|what| failure(&what))?;
    let identity = Identity::new(vec![made.cert.into()], key).map_err(|error| failure(&error))?;
    let tls = identity.https().map_err(|error| failure(&error))?;
    let port = if web.port() == 0 { 0 } else { HTTPS_PORT };
    let bind = |ip| Bind { addr: SocketAddr::new(ip, port), part: Part::Public, tls: Some(tls.clone()) };
    Ok(addresses.into_iter().map(bind).collect())
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

/// What to open, what to see, and what to paste where.
fn ready(service: &Service, host: &Host, credential: &Credential) -> String {
    let live = service.live();
    let uris = uris::uris(service.listening(), &[], &live.realm);
    let ice = uris::ice_servers(&uris, &credential.username, &credential.password);
    let mut text =
        format!("turnpike {} is ready, with throw-away credentials. Ctrl-C stops it.\n\n", env!("CARGO_PKG_VERSION"));
    text.push_str(&to_open(service.plane(), host));
    text.push_str("Relaying for clients of\n");
    for listen in service.listening() {
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

/// The pages. A camera needs HTTPS, or this very machine.
fn to_open(plane: &[(Part, SocketAddr, bool)], host: &Host) -> String {
    let mut text = String::new();
    let find = |part, tls| plane.iter().find(move |at| at.0 == part && at.2 == tls).map(|at| at.1);
    let Some(web) = find(Part::Public, false) else { return text };
    let web = url(web, false).replace("//127.0.0.1", "//localhost");
    let _ = writeln!(text, "Open\n  {web}/          calls\n  {web}/test      what works from this browser");
    if let Some(admin) = find(Part::Admin, false) {
        let _ = writeln!(text, "  {}/          the console", url(admin, false));
    }
    let is_outside = |addr: &SocketAddr| !addr.ip().is_loopback() && host.addresses.contains(&addr.ip());
    let outside = plane.iter().filter(|at| at.2 && at.0 == Part::Public).map(|at| at.1).filter(is_outside);
    for (at, addr) in outside.enumerate() {
        let from = if at == 0 { "    from a phone; its browser will warn once" } else { "" };
        let _ = writeln!(text, "  {}/{from}", url(addr, true));
    }
    text.push('\n');
    text
}
