//! What the plane knows, put into the API's shapes.

use super::shapes::{
    AllocationsBy, CertificateShape, ChannelShape, DrainShape, Draining, Fastest, Flow, Identity, Listening,
    PermissionShape, RateShape, RelayRates, Relayed, Requests, RoomClient, RoomCounts, RoomShape, SessionDetail,
    SessionShape, Status, UsageShape, VolumeShape,
};
use crate::bus;
use crate::http::Shared;
use crate::http::sessions::{Picture, Rate, Rates, Seen};
use crate::http::totals::{FAMILIES, TRANSPORTS, Totals, Volume, family_name};
use crate::http::usage::Usage;
use crate::rooms::{ClientPicture, RoomPicture};
use crate::stats::Direction;
use std::time::{SystemTime, UNIX_EPOCH};

/// Sessions in one `sessions` event.
const FASTEST: usize = 200;

/// What the server does, in figures.
pub fn status(shared: &Shared) -> Status {
    let live = shared.live.load();
    let totals = Totals(&shared.workers.stats);
    let uptime = shared.started.elapsed();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let listening = shared.workers.listening.iter();
    let kinds = TRANSPORTS.into_iter().flat_map(|transport| FAMILIES.map(|family| (transport, family)));
    let requests = totals.answered().filter(|(.., count)| *count > 0);
    let rooms = shared.signalling.counts();
    let drain = draining(shared).drain;
    Status {
        version: env!("CARGO_PKG_VERSION"),
        realm: live.realm.clone(),
        started_unix_s: now.saturating_sub(uptime).as_secs(),
        uptime_s: uptime.as_secs(),
        draining: drain.is_some(),
        drain,
        workers: shared.workers.stats.len(),
        listening: listening.map(|&(protocol, addr)| Listening { protocol, address: addr.to_string() }).collect(),
        allocations: totals.sum(|stats| stats.allocations.get()),
        allocations_by: kinds
            .map(|(transport, family)| AllocationsBy {
                transport: transport.name(),
                family: family_name(family),
                count: totals.relayed_addresses(transport, family).1,
            })
            .collect(),
        allocations_created_total: totals.sum(|stats| stats.created.get()),
        ended: totals.ended().map(|(reason, count)| (reason.name(), count)).collect(),
        permissions: totals.sum(|stats| stats.permissions.get()),
        channels: totals.sum(|stats| stats.channels.get()),
        connections: totals.sum(|stats| stats.connections.get()),
        ports_free: totals.sum(|stats| stats.ports_free.get()),
        relay: Relayed {
            to_peer: totals.relayed(Direction::ToPeer).into(),
            to_client: totals.relayed(Direction::ToClient).into(),
        },
        rates: shared.watch.rates().map(RelayRates::from),
        dropped: totals.dropped().map(|(reason, count)| (reason.name(), count)).collect(),
        requests: requests.map(|(method, code, count)| Requests { method, code, count }).collect(),
        rooms: RoomCounts { rooms: rooms.rooms, clients: rooms.clients, sockets: rooms.sockets },
        certificate: live.certificate.as_ref().map(|certificate| CertificateShape {
            names: certificate.names.clone(),
            issuer: certificate.issuer.clone(),
            not_after_unix_s: certificate.not_after_unix_s,
        }),
        notices_lost: totals.sum(|stats| stats.notices_lost.get()),
        process: Usage::now().into(),
    }
}

/// Whether new allocations are refused, and how that ends.
pub fn draining(shared: &Shared) -> Draining {
    let drain = (shared.control.draining)();
    let drain = drain.map(|drain| DrainShape { left_s: drain.left_s, is_final: drain.is_final });
    Draining { draining: drain.is_some(), drain }
}

/// The fastest sessions of a picture.
pub fn fastest(picture: &Picture) -> Fastest {
    Fastest {
        sessions: picture.fastest(FASTEST).into_iter().map(session).collect(),
        total: picture.sessions.len(),
        partial: picture.is_partial,
    }
}

/// Rooms and who is in them.
pub fn rooms(shared: &Shared) -> Vec<RoomShape> {
    let client = |client: ClientPicture| RoomClient {
        id: client.id,
        initiator: client.initiator,
        registered: client.registered,
        age_s: client.age_s,
    };
    let room = |room: RoomPicture| RoomShape {
        room: room.room,
        clients: room.clients.into_iter().map(client).collect(),
        queued: room.queued,
    };
    let (rooms, _) = shared.signalling.picture(shared);
    rooms.into_iter().map(room).collect()
}

/// A session in a list.
pub fn session(seen: &Seen) -> SessionShape {
    let [to_peer, to_client] = flows(seen);
    SessionShape {
        identity: identity(&seen.session),
        permissions: seen.session.permissions,
        channels: seen.session.channels,
        to_peer,
        to_client,
    }
}

/// A session in detail; its rates are those of the latest picture.
pub fn session_detail(detail: bus::SessionDetail, rates: Option<Rates>) -> SessionDetail {
    let permission = |(peer, left_ms): (std::net::IpAddr, u64)| PermissionShape {
        peer: peer.to_string(),
        expires_in_s: left_ms / 1000,
    };
    let channel = |(number, peer, left_ms): (crate::wire::channel::ChannelNumber, crate::turn::PeerAddr, u64)| {
        ChannelShape { number: format!("{:#06x}", number.get()), peer: peer.to_string(), expires_in_s: left_ms / 1000 }
    };
    let seen = Seen { session: detail.session, rates };
    let [to_peer, to_client] = flows(&seen);
    SessionDetail {
        identity: identity(&seen.session),
        permissions: detail.permissions.into_iter().map(permission).collect(),
        channels: detail.channels.into_iter().map(channel).collect(),
        to_peer,
        to_client,
    }
}

fn identity(session: &bus::Session) -> Identity {
    Identity {
        id: session.id.to_string(),
        user: session.account.payer.to_string(),
        username: String::from_utf8_lossy(&session.account.username).into_owned(),
        transport: session.tuple.transport.name(),
        client: session.tuple.client.to_string(),
        server: session.tuple.server.to_string(),
        relayed: session.relayed.iter().flatten().map(ToString::to_string).collect(),
        age_s: session.age_ms / 1000,
        expires_in_s: session.left_ms / 1000,
    }
}

fn flows(seen: &Seen) -> [Flow; 2] {
    let [to_peer, to_client] = seen.volumes();
    let flow = |volume: Volume, rate: Option<Rate>| {
        let rate = rate.map(RateShape::from);
        Flow {
            packets: volume.packets,
            bytes: volume.bytes,
            packets_per_s: rate.map(|rate| rate.packets_per_s),
            bytes_per_s: rate.map(|rate| rate.bytes_per_s),
        }
    };
    [flow(to_peer, seen.rates.map(|rates| rates.to_peer)), flow(to_client, seen.rates.map(|rates| rates.to_client))]
}

impl From<Volume> for VolumeShape {
    fn from(volume: Volume) -> Self {
        VolumeShape { packets: volume.packets, bytes: volume.bytes }
    }
}

impl From<Rate> for RateShape {
    fn from(rate: Rate) -> Self {
        RateShape { packets_per_s: tenths(rate.packets_per_s), bytes_per_s: tenths(rate.bytes_per_s) }
    }
}

impl From<Rates> for RelayRates {
    fn from(rates: Rates) -> Self {
        RelayRates { to_peer: rates.to_peer.into(), to_client: rates.to_client.into() }
    }
}

impl From<Usage> for UsageShape {
    fn from(usage: Usage) -> Self {
        UsageShape { rss_bytes: usage.resident_bytes, cpu_s: usage.cpu_s, open_fds: usage.open_fds }
    }
}

/// Further digits say nothing.
fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
