//! The relay ports of all workers and the ledger of who pays for them, without a socket.

use super::chance::{Choice, Seeded};
use super::setting::{RELAY, Setting, ip};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use turnpike::turn::quota::{AllocationLimits, Ledger};
use turnpike::turn::{AllocationId, Now, Opened, PortAsk, PortError, PortKind, Ports, RESERVATION_MS, RelayedAddr};
use turnpike::wire::attribute::Family;

/// How long a port that was given back rests.
const QUARANTINE_MS: u64 = 10_000;

/// What a port is: exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Free,
    Held { worker: usize, id: AllocationId },
    Reserved { worker: usize, token: [u8; 8], until_ms: u64 },
    Resting { until_ms: u64 },
}

/// Who was to pay, and what the credential has to say about that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charged {
    pub account: String,
    pub source: IpAddr,
    pub allocations_max: Option<u32>,
    /// The whole username, its bytes, and when it expires.
    pub budget: Option<(Vec<u8>, u64, u64)>,
}

/// A call of [`Ports::open`] and its outcome.
#[derive(Clone, Debug)]
pub struct Asked {
    pub family: Family,
    pub kind: PortKind,
    pub charge: Option<Charged>,
    pub outcome: Result<Opened, PortError>,
}

/// The pool both workers draw from.
#[derive(Debug)]
pub struct Pool {
    pub ports: BTreeMap<SocketAddr, Port>,
    pub ledger: Ledger,
    /// How often a token was used at another worker than the one that gave it.
    pub crossed: u64,
    /// What was asked for since the log was emptied.
    pub log: Vec<Asked>,
    limits: AllocationLimits,
    draining: bool,
    chance: Seeded,
}

impl Pool {
    pub fn new(setting: &Setting, chance: Seeded) -> Self {
        let ips = RELAY.map(ip).into_iter().zip(setting.families).filter(|(_, served)| *served);
        let ports =
            ips.flat_map(|(ip, _)| setting.ports.clone().map(move |port| (SocketAddr::new(ip, port), Port::Free)));
        let ports = ports.collect();
        let mut pool = Pool {
            ports,
            ledger: Ledger::default(),
            crossed: 0,
            log: Vec::new(),
            limits: AllocationLimits::default(),
            draining: false,
            chance,
        };
        pool.configure(setting);
        pool
    }

    pub fn configure(&mut self, setting: &Setting) {
        self.limits = setting.allocations;
        self.draining = setting.draining;
    }

    /// The worker and allocation that hold a relayed address.
    pub fn holder(&self, addr: SocketAddr) -> Option<(usize, AllocationId)> {
        match self.ports.get(&addr) {
            Some(&Port::Held { worker, id }) => Some((worker, id)),
            _ => None,
        }
    }

    /// Relayed addresses that are held, in order.
    pub fn held(&self) -> Vec<SocketAddr> {
        self.ports.iter().filter(|(_, port)| matches!(port, Port::Held { .. })).map(|(addr, _)| *addr).collect()
    }

    /// The port of a [`turnpike::turn::Event::Released`] comes back.
    pub fn give_back(&mut self, now: Now, worker: usize, id: AllocationId, addr: SocketAddr) {
        let port = self.ports.get_mut(&addr).expect("only ports of the pool are given back");
        assert_eq!(*port, Port::Held { worker, id }, "{addr} is given back by someone who does not hold it");
        *port = Port::Resting { until_ms: now.mono_ms + QUARANTINE_MS };
    }

    /// An allocation has a new name.
    pub fn rename(&mut self, addr: SocketAddr, worker: usize, id: AllocationId) {
        let port = self.ports.get_mut(&addr).expect("only ports of the pool are renamed");
        assert!(matches!(*port, Port::Held { worker: w, .. } if w == worker), "{addr} is held elsewhere");
        *port = Port::Held { worker, id };
    }

    fn is_free(&self, now: Now, addr: SocketAddr) -> bool {
        match self.ports.get(&addr) {
            Some(Port::Free) => true,
            Some(Port::Reserved { until_ms, .. } | Port::Resting { until_ms }) => *until_ms <= now.mono_ms,
            Some(Port::Held { .. }) | None => false,
        }
    }

    fn find(&mut self, now: Now, ask: &PortAsk<'_>) -> Result<SocketAddr, PortError> {
        if let PortKind::Reserved(wanted) = ask.kind {
            let live = |port: &Port| matches!(*port, Port::Reserved { token, until_ms, .. } if token == wanted && now.mono_ms < until_ms);
            return self.ports.iter().find(|(_, port)| live(port)).map(|(addr, _)| *addr).ok_or(PortError::Exhausted);
        }
        let next = |addr: SocketAddr| SocketAddr::new(addr.ip(), addr.port() + 1);
        let of_family: Vec<_> = self.ports.keys().filter(|a| Family::of(a.ip()) == ask.family).copied().collect();
        if of_family.is_empty() {
            return Err(PortError::Family);
        }
        let fits = |addr: &SocketAddr| {
            let even = addr.port().is_multiple_of(2);
            self.is_free(now, *addr)
                && match ask.kind {
                    PortKind::Even => even,
                    PortKind::EvenAndReserve => even && self.is_free(now, next(*addr)),
                    _ => true,
                }
        };
        let fitting: Vec<_> = of_family.into_iter().filter(fits).collect();
        if fitting.is_empty() { Err(PortError::Exhausted) } else { Ok(self.chance.pick(&fitting)) }
    }

    fn open(&mut self, now: Now, worker: usize, ask: &PortAsk<'_>) -> Result<Opened, PortError> {
        if self.draining {
            return Err(PortError::Capacity);
        }
        if let Some(payer) = &ask.charge {
            self.ledger.charge(payer, &self.limits)?;
        }
        let addr = match self.find(now, ask) {
            Ok(addr) => addr,
            Err(error) => {
                if let Some(payer) = &ask.charge {
                    self.ledger.release(payer.account, payer.source);
                }
                return Err(error);
            }
        };
        let before = self.ports.insert(addr, Port::Held { worker, id: ask.owner });
        let claimed = before.filter(|_| matches!(ask.kind, PortKind::Reserved(_)));
        self.crossed += u64::from(matches!(claimed, Some(Port::Reserved { worker: giver, .. }) if giver != worker));
        let mut token = None;
        if ask.kind == PortKind::EvenAndReserve {
            let bytes = self.chance.any().to_be_bytes();
            let until_ms = now.mono_ms + RESERVATION_MS;
            self.ports
                .insert(SocketAddr::new(addr.ip(), addr.port() + 1), Port::Reserved { worker, token: bytes, until_ms });
            token = Some(bytes);
        }
        Ok(Opened { relayed: RelayedAddr(addr), token })
    }
}

/// One worker's way to the pool.
#[derive(Debug)]
pub struct Door<'a> {
    pub pool: &'a mut Pool,
    pub worker: usize,
}

impl Ports for Door<'_> {
    fn open(&mut self, now: Now, ask: &PortAsk<'_>) -> Result<Opened, PortError> {
        let outcome = self.pool.open(now, self.worker, ask);
        let charge = ask.charge.map(|payer| Charged {
            account: payer.account.to_owned(),
            source: payer.source,
            allocations_max: payer.allocations_max,
            budget: payer.budget.map(|budget| (budget.username.to_vec(), budget.bytes, budget.expires_unix_s)),
        });
        self.pool.log.push(Asked { family: ask.family, kind: ask.kind, charge, outcome });
        outcome
    }

    fn is_relayed(&self, addr: SocketAddr) -> bool {
        self.pool.holder(addr).is_some()
    }
}
