//! Allocations that packets are relayed through: made, used and given back by one thread.

use super::books::{Relayed, partner};
use super::client::{Client, Step};
use super::datagrams::receive_together;
use super::link::{Link, Transport, udp_socket};
use super::report::Tally;
use super::stage::{Stage, Window};
use super::traffic::Traffic;
use super::{Config, Mode, Share, Via, frame};
use mio::net::UdpSocket;
use mio::{Interest, Token};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

/// The peer's token; no client has it.
pub const PEER: Token = Token(usize::MAX);

/// Connections without an allocation at a time: servers bound those of one address, turnpike to 20.
const CONNECTIONS_MAX: usize = 16;

/// A client with an allocation.
pub struct Flow {
    /// The client.
    pub client: Client,
    /// What precedes every payload.
    pub head: Vec<u8>,
    /// Why its connection ended; what is sent on it afterwards is lost.
    pub ended: Option<String>,
}

/// The allocations of one thread.
pub struct Relay<'a> {
    config: &'a Config,
    share: Share,
    stage: Stage<'a>,
    flows: Vec<Flow>,
    /// The peer of every client of the thread, where there is one.
    peer: UdpSocket,
}

impl Relayed for [Flow] {
    #[inline]
    fn is_from(&self, flow: usize, from: SocketAddr) -> bool {
        self.get(flow).is_some_and(|flow| flow.client.relayed.port() == from.port())
    }

    fn is_known(&self, from: SocketAddr) -> bool {
        self.iter().any(|flow| flow.client.relayed == from)
    }
}

impl<'a> Relay<'a> {
    /// Makes allocations with all that the packets need. `None` when somebody wants an early end. What can not be used
    /// is given back.
    pub fn set_up(mut stage: Stage<'a>, config: &'a Config, share: Share) -> io::Result<Option<Self>> {
        let mut peer = udp_socket(SocketAddr::new(config.peer, 0))
            .map_err(|error| io::Error::other(format!("no peer at {} (--peer): {error}", config.peer)))?;
        stage.poll.registry().register(&mut peer, PEER, Interest::READABLE)?;
        receive_together(&peer);
        let mut clients = Vec::with_capacity(share.flows);
        match allocate(&mut stage, config, share, peer.local_addr()?, &mut clients) {
            Ok(true) => {}
            unusable => {
                stage.give_back(clients);
                return unusable.map(|_| None);
            }
        }
        let flows = clients.into_iter().map(|client| {
            let head = match config.mode {
                Mode::ToClient => Vec::new(),
                _ => frame::head(config.via, client.peer, config.size, &mut stage.ids)?,
            };
            if let Link::Datagrams(socket) = &client.link {
                receive_together(socket);
            }
            Ok(Flow { client, head, ended: None })
        });
        let flows = flows.collect::<io::Result<Vec<_>>>()?;
        Ok(Some(Relay { config, share, stage, flows, peer }))
    }

    /// Relays until the window closes and what is under way has come. What stops it before is in the tally.
    pub fn run(&mut self, window: Window) -> Tally {
        // Made here: what it reads and writes through stays in the thread.
        Traffic::new(self.config, self.share, &mut self.stage, &mut self.flows, &self.peer).run(window)
    }

    /// Gives the allocations back, as far as the server lets it.
    pub fn finish(mut self) {
        let flows = self.flows.into_iter().filter(|flow| flow.ended.is_none());
        self.stage.give_back(flows.map(|flow| flow.client).collect());
    }
}

/// Makes allocations and all that the packets need; `false` when somebody wants an early end.
fn allocate(
    stage: &mut Stage<'_>,
    config: &Config,
    share: Share,
    peer: SocketAddr,
    clients: &mut Vec<Client>,
) -> io::Result<bool> {
    let at_once = match config.transport {
        Transport::Udp => share.flows,
        _ => (CONNECTIONS_MAX / config.threads).max(1),
    };
    for first in (0..share.flows).step_by(at_once) {
        for token in first..share.flows.min(first + at_once) {
            clients.push(stage.client(token, peer)?);
        }
        if !stage.walk(&mut clients[first..], first, &[Step::Challenge, Step::Allocate])? {
            return Ok(false);
        }
        stage.gauges.ready.store(clients.len() as u64, Ordering::Relaxed);
    }
    if config.mode == Mode::Pair {
        let relayed: Vec<_> = clients.iter().map(|client| client.relayed).collect();
        for (i, client) in clients.iter_mut().enumerate() {
            client.peer = relayed[partner(i)];
        }
    }
    stage.walk(clients, 0, &[renewal(config.via)])
}

/// What makes and renews the permission that packets need.
pub const fn renewal(via: Via) -> Step {
    match via {
        Via::Channel => Step::Bind,
        Via::Indication => Step::Permit,
    }
}

/// An error of a client's socket, as the report has it.
pub fn in_words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => "nothing listens at the server's address and port".to_owned(),
        Some(libc::EMFILE) => "too many open files: lower --allocations, or raise the limit with ulimit -n".to_owned(),
        Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE) => {
            "this host has no address and port left for another client: give clients more addresses with --sources"
                .to_owned()
        }
        _ => error.to_string(),
    }
}
