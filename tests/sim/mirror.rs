//! What someone who sees only the events knows of a server's tables: what a kernel that relays
//! by itself would have to go on.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use turnpike::turn::{AllocationId, Event, FiveTuple, Now, Server};

/// One allocation as the events tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    pub tuple: FiveTuple,
    /// Address and end, by family.
    pub relays: [Option<(SocketAddr, u64)>; 2],
    pub permissions: BTreeMap<IpAddr, u64>,
    pub channels: BTreeMap<u16, (SocketAddr, u64)>,
}

impl Shadow {
    /// What of it is valid now.
    fn live(mut self, now: Now) -> Self {
        self.permissions.retain(|_, until_ms| now.mono_ms < *until_ms);
        self.channels.retain(|_, (_, until_ms)| now.mono_ms < *until_ms);
        self
    }
}

/// All allocations of one server.
#[derive(Clone, Debug, Default)]
pub struct Mirror(BTreeMap<AllocationId, Shadow>);

impl Mirror {
    /// The tables as they are, for a mirror that begins now.
    pub fn of(server: &Server, now: Now) -> Mirror {
        let shadow = |(id, a): (AllocationId, &turnpike::turn::allocation::Allocation)| {
            let shadow = Shadow {
                tuple: a.tuple,
                relays: a.relays.map(|relay| relay.map(|r| (r.relayed.0, r.until_ms))),
                permissions: a.permissions.live(now.mono_ms).collect(),
                channels: a.channels.live(now.mono_ms).map(|c| (c.number.get(), (c.peer.0, c.until_ms))).collect(),
            };
            (id, shadow)
        };
        Mirror(server.allocations().map(shadow).collect())
    }

    /// Obeys an event.
    pub fn apply(&mut self, event: &Event) {
        match *event {
            Event::Created { id, tuple, relayed, until_ms } => {
                let relays = relayed.map(|relayed| relayed.map(|addr| (addr.0, until_ms)));
                let shadow = Shadow { tuple, relays, permissions: BTreeMap::new(), channels: BTreeMap::new() };
                assert!(self.0.insert(id, shadow).is_none(), "{id:?} is created twice");
            }
            Event::Refreshed { id, family, until_ms } => {
                let relay = self.at(id).relays[family.index()].as_mut();
                relay.expect("only a relayed address that is there is refreshed").1 = until_ms;
            }
            Event::Permitted { id, peer, is_new, until_ms } => {
                let before = self.at(id).permissions.insert(peer, until_ms);
                assert!(is_new || before.is_some(), "only what is there is refreshed");
            }
            Event::Bound { id, number, peer, is_new, until_ms } => {
                let shadow = self.at(id);
                let is_there = shadow.channels.get(&number.get()).is_some_and(|(bound, _)| *bound == peer.0);
                assert!(is_new || is_there, "only what is bound is refreshed");
                shadow.channels.retain(|_, (bound, _)| *bound != peer.0);
                shadow.channels.insert(number.get(), (peer.0, until_ms));
            }
            Event::Forbidden { id, peer } => {
                assert!(self.at(id).permissions.remove(&peer).is_some(), "only what is held is forbidden");
            }
            Event::Unbound { id, number, peer } => {
                let bound = self.at(id).channels.remove(&number.get());
                assert_eq!(bound.map(|(bound, _)| bound), Some(peer.0), "only what is bound is unbound");
            }
            Event::Released { id, relayed, .. } => {
                let shadow = self.at(id);
                let relay = shadow.relays.iter_mut().find(|relay| relay.is_some_and(|r| r.0 == relayed.0));
                *relay.expect("only what is held is released") = None;
                shadow.permissions.retain(|ip, _| ip.is_ipv4() != relayed.ip().is_ipv4());
                shadow.channels.retain(|_, (peer, _)| peer.is_ipv4() != relayed.ip().is_ipv4());
            }
            Event::Deleted { id, tuple, .. } => {
                let shadow = self.0.remove(&id).expect("only what is there is deleted");
                assert_eq!((shadow.tuple, shadow.relays), (tuple, [None, None]), "released before deleted");
            }
        }
    }

    /// Compares what is valid now with the tables.
    pub fn assert_equals(&self, server: &Server, now: Now) {
        let live = |mirror: &Mirror| -> BTreeMap<_, _> {
            mirror.0.iter().map(|(id, shadow)| (*id, shadow.clone().live(now))).collect()
        };
        assert_eq!(live(self), live(&Mirror::of(server, now)), "the mirror (left) and the tables (right) differ");
    }

    /// The allocations without their names, which a restart changes.
    pub fn nameless(&self, now: Now) -> Vec<String> {
        let mut list: Vec<_> = self.0.values().map(|shadow| format!("{:?}", shadow.clone().live(now))).collect();
        list.sort_unstable();
        list
    }

    fn at(&mut self, id: AllocationId) -> &mut Shadow {
        self.0.get_mut(&id).expect("events are about allocations that are there")
    }
}
