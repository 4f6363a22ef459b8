//! Which sessions are listed, and in which order.

use super::shapes::{Sessions, SessionsQuery, Sort};
use super::views;
use crate::bus::{Session, SessionId};
use crate::http::guard::Problem;
use crate::http::sessions::{Picture, Seen};
use axum::http::StatusCode;
use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};

/// The sessions that match, `limit` of them at most: those behind `after` in the order of their
/// names, or the first ones in another order.
pub fn page(
    picture: &Picture,
    filter: &Filter,
    limit: usize,
    after: Option<SessionId>,
    sort: Option<Sort>,
) -> Sessions {
    let mut matching: Vec<&Seen> = picture.sessions.iter().filter(|seen| filter.admits(&seen.session)).collect();
    let total = matching.len();
    match sort {
        None => matching.retain(|seen| after.is_none_or(|after| seen.session.id > after)),
        Some(Sort::Age) => matching.sort_by_key(|seen| Reverse(seen.session.age_ms)),
        Some(Sort::Bytes) => {
            matching.sort_by_key(|seen| Reverse(seen.volumes().iter().map(|volume| volume.bytes).sum::<u64>()));
        }
        Some(Sort::Rate) => {
            matching.sort_by_key(|seen| Reverse(seen.rates.map_or(0, |rates| rates.bytes_per_s() as u64)));
        }
    }
    let is_more = sort.is_none() && matching.len() > limit;
    matching.truncate(limit);
    let next = matching.last().filter(|_| is_more).map(|seen| seen.session.id.to_string());
    let sessions = matching.into_iter().map(views::session).collect();
    Sessions { sessions, total, next, partial: picture.is_partial }
}

/// Which sessions are asked for.
#[derive(Debug, Default)]
pub struct Filter {
    user: Option<String>,
    client: Option<Place>,
    transport: Option<String>,
    relayed: Option<Place>,
}

/// An address, with or without its port.
#[derive(Clone, Copy, Debug)]
enum Place {
    Ip(IpAddr),
    Socket(SocketAddr),
}

impl Place {
    fn parse(text: &str) -> Result<Self, Problem> {
        let socket = || text.parse().map(Place::Socket);
        text.parse().map(Place::Ip).or_else(|_| socket()).map_err(|_| {
            let detail = format!("`{text}` is neither an address nor an address and port");
            Problem::new(StatusCode::BAD_REQUEST, "bad_address", detail)
        })
    }

    fn is(self, addr: SocketAddr) -> bool {
        match self {
            Place::Ip(ip) => addr.ip() == ip,
            Place::Socket(socket) => addr == socket,
        }
    }
}

impl Filter {
    /// What a query asks for; an error when an address in it is none.
    pub fn new(query: &SessionsQuery) -> Result<Self, Problem> {
        let place = |text: &Option<String>| text.as_deref().map(Place::parse).transpose();
        Ok(Filter {
            user: query.user.clone(),
            client: place(&query.client)?,
            transport: query.transport.clone(),
            relayed: place(&query.relayed)?,
        })
    }

    fn admits(&self, session: &Session) -> bool {
        let account = &session.account;
        let is_user = |user: &String| *account.payer == **user || *account.username == *user.as_bytes();
        let is_relayed = |place: Place| session.relayed.iter().flatten().any(|relayed| place.is(relayed.0));
        self.user.as_ref().is_none_or(is_user)
            && self.client.is_none_or(|place| place.is(session.tuple.client.0))
            && self.transport.as_ref().is_none_or(|name| *name == session.tuple.transport.name())
            && self.relayed.is_none_or(is_relayed)
    }
}
