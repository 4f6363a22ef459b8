//! Allocations (RFC 8656 §6): plain state, and the table that finds it.
//!
//! An allocation holds values only, no handle and no pointer, so that it can be written down
//! and read by the next process. [`STATE_VERSION`] changes when its shape does.

use super::auth::{self, Caps, Credentials, Revocations};
use super::channel::Channels;
use super::permission::Permissions;
use super::quota::Bucket;
use super::{AllocationId, ClientId, DropReason, FiveTuple, LinkId, RelayedAddr};
use crate::wire::attribute::{Family, PasswordAlgorithm};
use crate::wire::integrity::Key;
use crate::wire::stun::TransactionId;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::hash::BuildHasher;

/// Version of [`State`].
pub const STATE_VERSION: u16 = 2;

/// Bytes left to an allocation whose traffic is not capped by its credential.
pub const UNMETERED: u64 = u64::MAX;

/// Bytes that go at once however low a rate is: the longest payload of a channel's message. A datagram
/// longer than that would never go.
pub const BURST_MIN: u64 = 65_535;

/// All that a server must know to go on serving its allocations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// [`STATE_VERSION`] of the writer.
    pub version: u16,
    /// The allocations; times are of the boot clock, which outlives a process.
    pub allocations: Vec<Allocation>,
    /// Transactions of allocations that are over: until when they are remembered, and a hash.
    pub finished: Vec<(u64, u64)>,
}

/// Who an allocation belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The username that created it; every later request must bear it (RFC 8656 §5).
    pub username: Box<[u8]>,
    /// Whom it is charged to.
    pub payer: Box<str>,
}

/// What an allocation has carried: application bytes, without framing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets relayed to peers.
    pub to_peer_packets: u64,
    /// Bytes relayed to peers.
    pub to_peer_bytes: u64,
    /// Packets relayed to the client.
    pub to_client_packets: u64,
    /// Bytes relayed to the client.
    pub to_client_bytes: u64,
}

impl Traffic {
    /// Counts a packet to a peer; a counter that has come to its end stays there.
    #[inline]
    pub(super) fn count_to_peer(&mut self, bytes: u64) {
        self.to_peer_packets = self.to_peer_packets.saturating_add(1);
        self.to_peer_bytes = self.to_peer_bytes.saturating_add(bytes);
    }

    /// The same for a packet to the client.
    #[inline]
    pub(super) fn count_to_client(&mut self, bytes: u64) {
        self.to_client_packets = self.to_client_packets.saturating_add(1);
        self.to_client_bytes = self.to_client_bytes.saturating_add(bytes);
    }

    /// Bytes relayed in both directions.
    pub fn bytes(&self) -> u64 {
        self.to_peer_bytes.saturating_add(self.to_client_bytes)
    }
}

/// One relayed address of an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// The address as the client knows it.
    pub relayed: RelayedAddr,
    /// When it ends unless refreshed.
    pub until_ms: u64,
}

/// One allocation, single or dual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Allocation {
    /// The path to the client.
    pub tuple: FiveTuple,
    /// The engine's way to the client.
    pub link: LinkId,
    /// Who it belongs to.
    pub account: Account,
    /// Its key; `None` for one made without credentials.
    pub key: Option<(PasswordAlgorithm, Key)>,
    /// Transaction that created it: the same one again is a retransmission.
    pub transaction: TransactionId,
    /// IPv4 and IPv6 relayed addresses.
    pub relays: [Option<Relay>; 2],
    /// Every relayed address it was given, those that are over included.
    pub relayed: [Option<RelayedAddr>; 2],
    /// The reservation token its creation returned.
    pub token: Option<[u8; 8]>,
    /// The family a dual request did not get, and the error code.
    pub missing: Option<(Family, u16)>,
    /// When it was created.
    pub created_ms: u64,
    /// When it ends however often it is refreshed.
    pub session_end_ms: u64,
    /// Its permissions, of both families.
    pub permissions: Permissions,
    /// Its channels, of both families.
    pub channels: Channels,
    /// What it has carried.
    pub traffic: Traffic,
    /// What its credential may use.
    pub caps: Caps,
    /// Bytes that it may still relay: [`UNMETERED`] where its credential caps neither bytes nor
    /// rate, so that one look at what a packet changes anyway tells.
    pub bytes_left: u64,
    /// Byte rates: to peers, to the client.
    pub rates: [Bucket; 2],
    /// Rate of ICMP reports to the client.
    pub icmp_rate: Bucket,
}

impl Allocation {
    /// Where datagrams to its client go.
    #[inline]
    pub fn client(&self) -> ClientId {
        ClientId { link: self.link, addr: self.tuple.client }
    }

    /// The relayed address of a family, if it is live now.
    #[inline]
    pub fn relay(&self, family: Family, now_ms: u64) -> Option<&Relay> {
        self.relays[family.index()].as_ref().filter(|relay| now_ms < relay.until_ms)
    }

    /// Whether any relayed address is live now.
    #[inline]
    pub fn is_live(&self, now_ms: u64) -> bool {
        self.relays.iter().flatten().any(|relay| now_ms < relay.until_ms)
    }

    /// Whether its credential caps what is relayed.
    #[inline]
    pub fn is_metered(&self) -> bool {
        self.bytes_left != UNMETERED
    }

    /// Whether the operator has revoked its username, or whom it is charged to: a configuration that
    /// reads usernames in another way changes nothing about that. One without credentials is nobody's.
    pub fn is_revoked(&self, auth: &Credentials, revoked: &Revocations) -> bool {
        let payer = &*self.account.payer;
        // A source is no user id, though it pays.
        let is_user_id = || *payer != *auth::source_account(self.tuple.client.ip());
        let is_payer_listed = || revoked.contains(payer.as_bytes()) && is_user_id();
        self.key.is_some() && (auth.is_revoked(revoked, &self.account.username) || is_payer_listed())
    }

    /// Bytes that a new allocation with these caps may relay. One whose rate alone is capped has
    /// more than anyone lives to use.
    pub fn bytes_granted(caps: &Caps) -> u64 {
        match (caps.bytes, caps.bytes_per_second) {
            (Some(bytes), _) => bytes.min(UNMETERED - 1),
            (None, Some(_)) => UNMETERED - 1,
            (None, None) => UNMETERED,
        }
    }

    /// Takes `bytes` in a direction, an index of its rates, off the rate and the bytes that are
    /// left; `rate` is the server's own, 0 = none. Takes nothing off the latter on an error.
    #[inline(never)]
    pub(super) fn meter(&mut self, now_ms: u64, direction: usize, rate: u64, bytes: u64) -> Result<(), DropReason> {
        let rate = match self.caps.bytes_per_second {
            Some(cap) if rate == 0 || cap < rate => cap,
            _ => rate,
        };
        if rate != 0 && !self.rates[direction].take(now_ms, rate, rate.max(BURST_MIN), bytes) {
            return Err(DropReason::Bandwidth);
        }
        if self.is_metered() {
            self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(DropReason::CredentialUsedUp)?;
        }
        Ok(())
    }

    /// When it has to be looked at next: the first end of a relayed address.
    pub fn next_end_ms(&self) -> Option<u64> {
        self.relays.iter().flatten().map(|relay| relay.until_ms).min()
    }

    /// Seconds until the first of its live relayed addresses ends, rounded up.
    pub fn lifetime_s(&self, now_ms: u64) -> u32 {
        let ends = self.relays.iter().flatten().map(|relay| relay.until_ms).filter(|&end| now_ms < end);
        ends.min().map_or(0, |end| (end - now_ms).div_ceil(1000) as u32)
    }
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    allocation: Option<Allocation>,
}

/// The allocations of one server, by id and by 5-tuple. The 5-tuple is stored once, in the
/// allocation; the index holds slot numbers only.
#[derive(Debug)]
pub struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_tuple: HashTable<u32>,
    hash: FixedState,
    /// The slot found last: a client's packets come in runs.
    found: Cell<u32>,
}

impl Table {
    /// An empty table; `seed` keys its hash.
    pub fn new(seed: u64) -> Self {
        Table {
            slots: Vec::new(),
            free: Vec::new(),
            by_tuple: HashTable::new(),
            hash: FixedState::with_seed(seed),
            found: Cell::new(0),
        }
    }

    /// The id that the next [`Table::insert`] will give.
    pub fn vacant(&self) -> AllocationId {
        let index = self.free.last().copied().unwrap_or(self.slots.len() as u32);
        AllocationId { index, generation: self.slots.get(index as usize).map_or(0, |slot| slot.generation) }
    }

    /// Takes an allocation in. Its 5-tuple must be free.
    pub fn insert(&mut self, allocation: Allocation) -> AllocationId {
        let id = self.vacant();
        if self.free.pop().is_none() {
            self.slots.push(Slot::default());
        }
        let hash = self.hash.hash_one(allocation.tuple);
        self.slots[id.index as usize].allocation = Some(allocation);
        let (slots, state) = (&self.slots, &self.hash);
        self.by_tuple.insert_unique(hash, id.index, |&index| {
            slots[index as usize].allocation.as_ref().map_or(0, |a| state.hash_one(a.tuple))
        });
        id
    }

    /// Takes an allocation out; its id is never valid again.
    pub fn remove(&mut self, id: AllocationId) -> Option<Allocation> {
        let slot = self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)?;
        let allocation = slot.allocation.take()?;
        slot.generation = (slot.generation + 1) & AllocationId::GENERATION_MASK;
        let hash = self.hash.hash_one(allocation.tuple);
        if let Ok(entry) = self.by_tuple.find_entry(hash, |&index| index == id.index) {
            entry.remove();
        }
        self.free.push(id.index);
        Some(allocation)
    }

    /// The allocation of an id.
    #[inline]
    pub fn get(&self, id: AllocationId) -> Option<&Allocation> {
        let slot = self.slots.get(id.index as usize)?;
        slot.allocation.as_ref().filter(|_| slot.generation == id.generation)
    }

    /// The allocation of an id, to change.
    #[inline]
    pub fn get_mut(&mut self, id: AllocationId) -> Option<&mut Allocation> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation == id.generation { slot.allocation.as_mut() } else { None }
    }

    /// The id of the allocation in a slot.
    pub fn id_at(&self, index: u32) -> Option<AllocationId> {
        let slot = self.slots.get(index as usize)?;
        slot.allocation.as_ref()?;
        Some(AllocationId { index, generation: slot.generation })
    }

    /// The allocation on a 5-tuple.
    #[inline]
    pub fn find(&self, tuple: &FiveTuple) -> Option<AllocationId> {
        let holds = |&index: &u32| {
            let slot = self.slots.get(index as usize);
            slot.and_then(|slot| slot.allocation.as_ref()).is_some_and(|a| a.tuple == *tuple)
        };
        let index = match self.found.get() {
            last if holds(&last) => last,
            _ => *self.by_tuple.find(self.hash.hash_one(tuple), holds)?,
        };
        self.found.set(index);
        Some(AllocationId { index, generation: self.slots[index as usize].generation })
    }

    /// Slots there are, used or not.
    pub fn slot_count(&self) -> u32 {
        self.slots.len() as u32
    }

    /// All allocations, in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = (AllocationId, &Allocation)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let id = AllocationId { index: index as u32, generation: slot.generation };
            Some((id, slot.allocation.as_ref()?))
        })
    }

    /// All allocations, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Allocation> {
        self.slots.iter_mut().filter_map(|slot| slot.allocation.as_mut())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_tuple.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_tuple.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use crate::turn::{
        AllocationId, ClientAddr, Config, EndReason, FiveTuple, LinkId, Now, Opened, PortAsk, PortError, Ports,
        RelayedAddr, Sender, Server, Transport, Verdict,
    };
    use std::net::SocketAddr;
    use std::sync::Arc;

    const NOW: Now = Now { mono_ms: 1_000_000, unix_s: 1_800_000_000 };

    struct AnyPort;

    impl Ports for AnyPort {
        fn open(&mut self, _: Now, _: &PortAsk<'_>) -> Result<Opened, PortError> {
            Ok(Opened { relayed: RelayedAddr(SocketAddr::from(([8, 8, 4, 4], 50_000))), token: None })
        }

        fn is_relayed(&self, _: SocketAddr) -> bool {
            false
        }
    }

    /// A server for anyone, however often.
    fn open_server() -> Server {
        let mut config = Config::default();
        (config.auth.anonymous, config.limits.unverified_per_second) = (true, 0);
        Server::new(Arc::new(config), NOW, 1)
    }

    /// An allocation of a client without a name, from this port.
    fn allocate(server: &mut Server, now: Now, port: u16) -> AllocationId {
        let tuple = FiveTuple {
            client: ClientAddr(SocketAddr::from(([5, 5, 5, 5], port))),
            server: SocketAddr::from(([11, 0, 0, 9], 3478)),
            transport: Transport::Udp,
        };
        let request = [&[0, 3, 0, 8, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12], &[0, 0x19, 0, 4, 17, 0, 0, 0]].concat();
        let sender = Sender { tuple, link: LinkId(0) };
        let verdict = server.handle_client(now, &sender, &request, &mut AnyPort, &mut [0; 500]);
        assert!(matches!(verdict, Verdict::Reply { answer, .. } if answer.code == 0), "{verdict:?}");
        server.table.find(&tuple).expect("it was made just now")
    }

    #[test]
    fn after_a_long_stop_a_turn_frees_a_bounded_number_and_clients_are_served_between() {
        let mut server = open_server();
        for client in 0..3000 {
            allocate(&mut server, NOW, 2000 + client);
        }
        let later = Now { mono_ms: NOW.mono_ms + 172_800_000, ..NOW };
        let mut turns = 0;
        while server.next_deadline().is_some_and(|at_ms| at_ms <= later.mono_ms) {
            let before = server.allocation_count();
            server.handle_timeout(later);
            let freed = before - server.allocation_count();
            assert!((1..=1024).contains(&freed), "{freed} in one turn");
            allocate(&mut server, later, 10_000 + turns);
            turns += 1;
        }
        assert_eq!((server.allocation_count(), turns), (3, 3), "none but the new ones");
    }

    #[test]
    fn fi_30_a_slot_whose_generations_are_used_up_begins_anew_and_the_last_id_stays_dead() {
        let mut server = open_server();
        let first = allocate(&mut server, NOW, 4001);
        assert!(server.delete(NOW, first, EndReason::Closed));
        server.table.slots[first.index as usize].generation = AllocationId::GENERATION_MASK;
        let last = allocate(&mut server, NOW, 4002);
        assert_eq!((last.index, last.generation), (first.index, AllocationId::GENERATION_MASK));
        assert!(server.allocation(last).is_some() && server.delete(NOW, last, EndReason::Closed));
        let anew = allocate(&mut server, NOW, 4003);
        assert_eq!((anew.index, anew.generation), (first.index, 0));
        assert!(server.allocation(last).is_none() && !server.close(NOW, last), "an id is of one allocation");
        assert!(server.allocation(anew).is_some());
    }
}
