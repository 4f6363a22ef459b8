//! Relayed ports without sockets: what an engine would bind, counted and given back.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use turnpike::turn::quota::{AllocationLimits, Ledger};
use turnpike::turn::{AllocationId, Now, Opened, PortAsk, PortError, PortKind, Ports, RESERVATION_MS, RelayedAddr};

/// Ports that always go up from the lowest free one, so that a test can foretell them.
#[derive(Debug)]
pub struct FakePorts {
    /// The relay addresses, IPv4 then IPv6; `None` for a family that is not relayed.
    pub addresses: [Option<IpAddr>; 2],
    /// The relay range of each family.
    pub ranges: [Range<u16>; 2],
    /// Allocations by account, by source and in total.
    pub ledger: Ledger,
    /// Allocations of one account; 0 = no limit.
    pub per_account_max: usize,
    /// Allocations of one source; 0 = no limit.
    pub per_source_max: usize,
    /// Allocations of all; 0 = no limit.
    pub total_max: usize,
    /// Nothing new is opened.
    pub draining: bool,
    open: BTreeMap<SocketAddr, AllocationId>,
    held: BTreeMap<[u8; 8], (SocketAddr, u64)>,
    tokens: u64,
}

impl FakePorts {
    /// Both families, a thousand ports each, no limit.
    pub fn new(v4: IpAddr, v6: IpAddr) -> Self {
        FakePorts {
            addresses: [Some(v4), Some(v6)],
            ranges: [50_000..51_000, 50_000..51_000],
            ledger: Ledger::default(),
            per_account_max: 0,
            per_source_max: 0,
            total_max: 0,
            draining: false,
            open: BTreeMap::new(),
            held: BTreeMap::new(),
            tokens: 0,
        }
    }

    /// Who has a relayed address.
    pub fn owner(&self, relayed: SocketAddr) -> Option<AllocationId> {
        self.open.get(&relayed).copied()
    }

    /// Relayed addresses in use.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Takes a relayed address back.
    pub fn release(&mut self, relayed: RelayedAddr, id: AllocationId) {
        assert_eq!(self.open.remove(&relayed.0), Some(id), "{relayed} goes back once, from its owner");
    }

    fn is_free(&self, address: SocketAddr) -> bool {
        !self.open.contains_key(&address) && self.held.values().all(|(held, _)| *held != address)
    }

    /// The address to open, and the one to hold beside it.
    fn choose(&self, ask: &PortAsk<'_>) -> Result<(SocketAddr, Option<SocketAddr>), PortError> {
        if let PortKind::Reserved(token) = ask.kind {
            return self.held.get(&token).map(|(address, _)| (*address, None)).ok_or(PortError::Exhausted);
        }
        let ip = self.addresses[ask.family.index()].ok_or(PortError::Family)?;
        let at = |port| SocketAddr::new(ip, port);
        let range = &self.ranges[ask.family.index()];
        let fits = |&port: &u16| match ask.kind {
            PortKind::Any | PortKind::Reserved(_) => true,
            PortKind::Even => port.is_multiple_of(2),
            PortKind::EvenAndReserve => {
                port.is_multiple_of(2) && range.contains(&(port + 1)) && self.is_free(at(port + 1))
            }
        };
        let port = range.clone().filter(|&port| self.is_free(at(port))).find(fits).ok_or(PortError::Exhausted)?;
        Ok((at(port), (ask.kind == PortKind::EvenAndReserve).then(|| at(port + 1))))
    }
}

impl Ports for FakePorts {
    fn open(&mut self, now: Now, ask: &PortAsk<'_>) -> Result<Opened, PortError> {
        if self.draining {
            return Err(PortError::Capacity);
        }
        self.held.retain(|_, (_, until_ms)| now.mono_ms < *until_ms);
        let (address, sibling) = self.choose(ask)?;
        if let Some(payer) = &ask.charge {
            let (per_account, per_source) = (self.per_account_max, self.per_source_max);
            self.ledger.charge(payer, &AllocationLimits { total: self.total_max, per_account, per_source })?;
        }
        if let PortKind::Reserved(token) = ask.kind {
            self.held.remove(&token);
        }
        self.open.insert(address, ask.owner);
        let token = sibling.map(|sibling| {
            self.tokens += 1;
            let token = (0x7000_0000_0000_0000 | self.tokens).to_be_bytes();
            self.held.insert(token, (sibling, now.mono_ms + RESERVATION_MS));
            token
        });
        Ok(Opened { relayed: RelayedAddr(address), token })
    }

    fn is_relayed(&self, addr: SocketAddr) -> bool {
        self.open.contains_key(&addr)
    }
}
