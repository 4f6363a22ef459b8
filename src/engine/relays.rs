//! One worker's relay sockets, and the [`Ports`] that opens them inside an Allocate.

use super::batch::Appetite;
use super::ports::{Draws, Owner, PortPool, Want};
use super::socket;
use super::token::{self, Kind};
use crate::sys;
use crate::turn::{AllocationId, Now, Opened, PortAsk, PortError, PortKind, Ports, RelayedAddr};
use mio::Registry;
use socket2::Socket;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

/// Names a relay socket; outlives it without ever meaning another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayKey {
    pub index: u32,
    pub generation: u32,
}

/// An open relayed address.
pub struct RelaySocket {
    pub socket: Socket,
    pub owner: AllocationId,
    pub local: SocketAddr,
    /// Whether bursts leave as one message; false once the kernel has refused.
    pub segmented: bool,
    /// Datagrams to ask for.
    pub appetite: Appetite,
    /// Whether bursts are handed over in one piece.
    pub takes_bursts: bool,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    relay: Option<RelaySocket>,
}

/// The relay sockets by key and by allocation.
#[derive(Default)]
pub struct Relays {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// By the slot of the allocation: IPv4, IPv6.
    by_owner: Vec<[Option<RelayKey>; 2]>,
    /// Sockets whose allocation is over and its slot taken again, but whose end is not yet told.
    displaced: Vec<RelayKey>,
    /// What ports are picked by.
    draws: Draws,
}

impl Relays {
    fn insert(&mut self, relay: RelaySocket) -> RelayKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let (owner, family) = (relay.owner.index as usize, family_index(relay.local));
        let slot = &mut self.slots[index as usize];
        slot.relay = Some(relay);
        let key = RelayKey { index, generation: slot.generation };
        if self.by_owner.len() <= owner {
            self.by_owner.resize(owner + 1, [None; 2]);
        }
        self.displaced.extend(self.by_owner[owner][family].replace(key));
        key
    }

    /// The socket of a key.
    #[inline]
    pub fn get(&self, key: RelayKey) -> Option<&RelaySocket> {
        let slot = self.slots.get(key.index as usize)?;
        slot.relay.as_ref().filter(|_| slot.generation == key.generation)
    }

    /// The socket of a key, to change.
    pub fn get_mut(&mut self, key: RelayKey) -> Option<&mut RelaySocket> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.relay.as_mut() } else { None }
    }

    /// The socket by which an allocation reaches peers of this address's family.
    #[inline]
    pub fn of(&self, owner: AllocationId, peer: SocketAddr) -> Option<RelayKey> {
        self.by_owner.get(owner.index as usize)?[family_index(peer)]
    }

    /// Has the kernel hand over bursts in one piece from now on. Not done before the first has
    /// come: it would cost every allocation a system call that most never have a use for.
    pub fn take_bursts(&mut self, key: RelayKey) {
        let Some(relay) = self.get_mut(key).filter(|relay| !relay.takes_bursts) else { return };
        relay.takes_bursts = true;
        socket::take_bursts(&relay.socket);
    }

    /// Closes a relayed address of an allocation and returns where it was bound.
    pub fn close(&mut self, owner: AllocationId, relayed: RelayedAddr) -> Option<SocketAddr> {
        let key = self.forget(owner, family_index(relayed.0))?;
        let slot = self.slots.get_mut(key.index as usize)?;
        let relay = slot.relay.take()?;
        slot.generation = (slot.generation + 1) & token::GENERATION_MASK;
        self.free.push(key.index);
        // Closing the only descriptor takes the socket out of the poll too.
        Some(relay.local)
    }

    /// Takes the key of an allocation's socket, which is never that of its slot's next tenant.
    fn forget(&mut self, owner: AllocationId, family: usize) -> Option<RelayKey> {
        let is_owned = |key: RelayKey| {
            self.get(key).is_some_and(|relay| relay.owner == owner && family_index(relay.local) == family)
        };
        if let Some(at) = self.displaced.iter().position(|&key| is_owned(key)) {
            return Some(self.displaced.swap_remove(at));
        }
        self.by_owner.get(owner.index as usize)?[family].filter(|&key| is_owned(key))?;
        self.by_owner[owner.index as usize][family].take()
    }
}

#[inline]
fn family_index(addr: SocketAddr) -> usize {
    usize::from(addr.is_ipv6())
}

/// Opens ports for one worker.
pub struct WorkerPorts<'a> {
    pub worker: u8,
    pub pool: &'a PortPool,
    pub relays: &'a mut Relays,
    pub registry: &'a Registry,
}

impl WorkerPorts<'_> {
    fn open_charged(&mut self, now: Now, ask: &PortAsk<'_>) -> Result<Opened, PortError> {
        let want = match ask.kind {
            PortKind::Any => Want::Any,
            PortKind::Even => Want::Even,
            PortKind::EvenAndReserve => Want::Pair,
            PortKind::Reserved(token) => {
                let (local, socket) = self.pool.claim(now, token).ok_or(PortError::Exhausted)?;
                return self.adopt(now, ask.owner, local, socket, None);
            }
        };
        let place = self.pool.choose(ask.server, ask.family).ok_or(PortError::Family)?;
        let (local, socket, second) = self.pool.bind(now, place, want, &mut self.relays.draws, socket::relay)?;
        let next = SocketAddr::new(local.ip(), local.port().wrapping_add(1));
        let token = second.map(|second| self.pool.reserve(now, next, second));
        self.adopt(now, ask.owner, local, socket, token)
    }

    fn adopt(
        &mut self,
        now: Now,
        owner: AllocationId,
        local: SocketAddr,
        socket: Socket,
        token: Option<[u8; 8]>,
    ) -> Result<Opened, PortError> {
        let key = self.relays.insert(RelaySocket {
            socket,
            owner,
            local,
            segmented: true,
            appetite: Appetite::default(),
            takes_bursts: false,
        });
        let relayed = self.pool.relayed(local);
        if let Err(error) = self.watch(key) {
            tracing::warn!(%error, "a relayed port could not be watched");
            self.relays.close(owner, relayed);
            self.pool.release(now, local);
            return Err(PortError::Exhausted);
        }
        self.pool.set_owner(relayed, Owner { worker: self.worker, id: owner });
        Ok(Opened { relayed, token })
    }

    fn watch(&self, key: RelayKey) -> io::Result<()> {
        let Some(relay) = self.relays.get(key) else { return Ok(()) };
        let token = token::token(Kind::Relay, key.index, key.generation);
        sys::watch_level(self.registry, relay.socket.as_fd(), token.0 as u64)
    }
}

impl Ports for WorkerPorts<'_> {
    fn open(&mut self, now: Now, ask: &PortAsk<'_>) -> Result<Opened, PortError> {
        if let Some(payer) = &ask.charge {
            self.pool.charge(now, payer)?;
        }
        let opened = self.open_charged(now, ask);
        if let (Err(_), Some(payer)) = (&opened, ask.charge) {
            self.pool.give_back(payer.account, payer.source);
        }
        opened
    }

    fn is_relayed(&self, addr: SocketAddr) -> bool {
        self.pool.owner(addr).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_after_the_last_is_the_first_and_no_key_of_before_is_good() {
        let mut relays = Relays::default();
        let owner = AllocationId { index: 0, generation: AllocationId::GENERATION_MASK };
        let first = relay(owner);
        let was_at = first.local;
        relays.slots.push(Slot { generation: token::GENERATION_MASK, relay: None });
        relays.free.push(0);
        let last = relays.insert(first);
        assert_eq!(last, RelayKey { index: 0, generation: token::GENERATION_MASK });
        assert_eq!(relays.close(owner, RelayedAddr(was_at)), Some(was_at));
        let next = relays.insert(relay(AllocationId { index: 0, generation: 0 }));
        assert_eq!(next, RelayKey { index: 0, generation: 0 });
        assert!(relays.get(last).is_none() && relays.get(next).is_some());
        assert_eq!(token::split(token::token(Kind::Relay, next.index, next.generation)), (Kind::Relay, 0, 0));
    }

    fn relay(owner: AllocationId) -> RelaySocket {
        let socket = socket::relay("127.0.0.1:0".parse().unwrap()).unwrap();
        let local = socket::local_addr(&socket).unwrap();
        RelaySocket { socket, owner, local, segmented: true, appetite: Appetite::default(), takes_bursts: false }
    }

    #[test]
    fn the_end_of_an_allocation_closes_its_own_socket_when_its_slot_is_taken_again() {
        let mut relays = Relays::default();
        let [old, new] = [3, 4].map(|generation| AllocationId { index: 5, generation });
        let [first, second] = [relay(old), relay(new)];
        let (was_at, is_at) = (first.local, second.local);
        relays.insert(first);
        let key = relays.insert(second);
        assert_eq!(relays.close(old, RelayedAddr(was_at)), Some(was_at));
        assert_eq!(relays.close(old, RelayedAddr(was_at)), None);
        assert_eq!(relays.of(new, is_at), Some(key));
        assert_eq!(relays.get(key).map(|relay| relay.local), Some(is_at));
        assert_eq!(relays.close(new, RelayedAddr(is_at)), Some(is_at));
        assert!(relays.of(new, is_at).is_none() && relays.displaced.is_empty());
    }
}
