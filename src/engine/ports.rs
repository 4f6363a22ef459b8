//! Relayed ports: who owns which, and the pool that all workers share.
//!
//! A pool is asked a few times in the life of an allocation and takes a lock; who owns a port
//! is asked for packets between two clients of this server and takes none.

mod set;

use super::budgets::Budgets;
use super::sys;
use crate::turn::quota::{AllocationLimits, Ledger};
use crate::turn::{AllocationId, Now, Payer, PortError, RESERVATION_MS, RelayedAddr};
use crate::wire::attribute::Family;
use parking_lot::Mutex;
use socket2::Socket;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub use set::{PortSet, Want};

/// Ports tried before an Allocate is refused: each was held by another program.
const BINDS_MAX: usize = 16;

/// One address that is relayed from.
struct Address {
    local: IpAddr,
    /// As clients are told it.
    relayed: IpAddr,
    ports: Mutex<PortSet>,
    /// Owner of each port of the range, packed; 0 is none.
    owners: Box<[AtomicU64]>,
}

/// Who owns a relayed address: a worker and its allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The worker's number.
    pub worker: u8,
    /// The allocation.
    pub id: AllocationId,
}

impl Owner {
    fn pack(self) -> u64 {
        (u64::from(self.worker) + 1) << 56
            | u64::from(self.id.generation & AllocationId::GENERATION_MASK) << 32
            | u64::from(self.id.index)
    }

    fn unpack(packed: u64) -> Option<Self> {
        let worker = u8::try_from((packed >> 56).checked_sub(1)?).ok()?;
        let generation = (packed >> 32) as u32 & AllocationId::GENERATION_MASK;
        Some(Owner { worker, id: AllocationId { index: packed as u32, generation } })
    }
}

struct Reservation {
    socket: Socket,
    local: SocketAddr,
    until_ms: u64,
}

/// The relayed ports of the server.
pub struct PortPool {
    range: RangeInclusive<u16>,
    addresses: Vec<Address>,
    ledger: Mutex<(Ledger, AllocationLimits)>,
    /// What credentials have left of their bytes.
    pub budgets: Budgets,
    reservations: Mutex<HashMap<[u8; 8], Reservation>>,
    reserved: AtomicUsize,
    /// When the last port that another program held is free again; 0 once that was told.
    left_alone_until_ms: AtomicU64,
}

impl PortPool {
    /// A pool over these addresses: the local one, and as clients are told it.
    pub fn new(range: RangeInclusive<u16>, addresses: &[(IpAddr, IpAddr)], limits: AllocationLimits) -> Self {
        let addresses = addresses
            .iter()
            .map(|&(local, relayed)| {
                let ports = PortSet::new(&range);
                let owners = std::iter::repeat_with(|| AtomicU64::new(0)).take(range.len()).collect();
                Address { local, relayed, ports: Mutex::new(ports), owners }
            })
            .collect();
        PortPool {
            range,
            addresses,
            ledger: Mutex::new((Ledger::default(), limits)),
            budgets: Budgets::default(),
            reservations: Mutex::default(),
            reserved: AtomicUsize::new(0),
            left_alone_until_ms: AtomicU64::new(0),
        }
    }

    /// Charges an allocation to an account, if the credential has bytes left for one.
    pub fn charge(&self, now: Now, payer: &Payer<'_>) -> Result<(), PortError> {
        if let Some(budget) = &payer.budget {
            self.budgets.admit(now.unix_s, budget)?;
        }
        let (ledger, limits) = &mut *self.ledger.lock();
        ledger.charge(payer, limits)
    }

    /// Gives an account's and a source's allocation back.
    pub fn give_back(&self, account: &str, source: IpAddr) {
        self.ledger.lock().0.release(account, source);
    }

    /// Sets other limits; what is above them stays.
    pub fn set_limits(&self, limits: AllocationLimits) {
        self.ledger.lock().1 = limits;
    }

    /// The place of the address to relay from for a client that reached `server`: that one
    /// when it is of the family, else one that is loopback just as `server` is, else the first.
    pub fn choose(&self, server: IpAddr, family: Family) -> Option<usize> {
        let of_family = || self.addresses.iter().enumerate().filter(|(_, a)| Family::of(a.local) == family);
        let exact = of_family().find(|(_, a)| a.local == server);
        let alike = || of_family().find(|(_, a)| a.local.is_loopback() == server.is_loopback());
        exact.or_else(alike).or_else(|| of_family().next()).map(|(place, _)| place)
    }

    /// Binds a port of the address at `place` with `bind`; with [`Want::Pair`] its successor
    /// too. Ports that others hold are passed over.
    pub fn bind(
        &self,
        now: Now,
        place: usize,
        want: Want,
        draws: &mut Draws,
        bind: impl Fn(SocketAddr) -> std::io::Result<Socket>,
    ) -> Result<(SocketAddr, Socket, Option<Socket>), PortError> {
        let address = &self.addresses[place];
        for _ in 0..BINDS_MAX {
            let taken = address.ports.lock().take(now.mono_ms, want, || draws.next());
            let port = taken.ok_or(PortError::Exhausted)?;
            let local = SocketAddr::new(address.local, port);
            let socket = match bind(local) {
                Ok(socket) => socket,
                Err(error) => {
                    let next = (want == Want::Pair).then(|| port + 1);
                    self.not_bound(now, address, port, next, &error)?;
                    continue;
                }
            };
            if want != Want::Pair {
                return Ok((local, socket, None));
            }
            match bind(SocketAddr::new(address.local, port + 1)) {
                Ok(second) => return Ok((local, socket, Some(second))),
                Err(error) => {
                    drop(socket);
                    self.not_bound(now, address, port + 1, Some(port), &error)?;
                }
            }
        }
        Err(PortError::Exhausted)
    }

    /// Puts ports back after a failed bind; an error means that trying on is of no use.
    fn not_bound(
        &self,
        now: Now,
        address: &Address,
        failed: u16,
        other: Option<u16>,
        error: &std::io::Error,
    ) -> Result<(), PortError> {
        let mut ports = address.ports.lock();
        if let Some(other) = other {
            ports.put_back(other);
        }
        if error.kind() == std::io::ErrorKind::AddrInUse {
            self.left_alone_until_ms.fetch_max(ports.busy(now.mono_ms, failed), Ordering::Relaxed);
            return Ok(());
        }
        ports.put_back(failed);
        drop(ports);
        tracing::warn!(%error, address = %address.local, "a relayed port could not be opened");
        Err(PortError::Exhausted)
    }

    /// A local relay address as clients are told it.
    pub fn relayed(&self, local: SocketAddr) -> RelayedAddr {
        let address = self.addresses.iter().find(|a| a.local == local.ip());
        RelayedAddr(SocketAddr::new(address.map_or(local.ip(), |a| a.relayed), local.port()))
    }

    /// Says who owns a relayed address from now on.
    pub fn set_owner(&self, relayed: RelayedAddr, owner: Owner) {
        if let Some(cell) = self.owner_cell(relayed.0) {
            cell.store(owner.pack(), Ordering::Release);
        }
    }

    /// Who owns a relayed address. Both forms of it are known, the local and the told one.
    #[inline]
    pub fn owner(&self, addr: SocketAddr) -> Option<Owner> {
        Owner::unpack(self.owner_cell(addr)?.load(Ordering::Acquire))
    }

    #[inline]
    fn owner_cell(&self, addr: SocketAddr) -> Option<&AtomicU64> {
        let index = usize::from(addr.port().checked_sub(*self.range.start())?);
        let address = self.addresses.iter().find(|a| a.relayed == addr.ip() || a.local == addr.ip())?;
        address.owners.get(index)
    }

    /// Takes a closed relayed address back.
    pub fn release(&self, now: Now, local: SocketAddr) {
        let Some(address) = self.addresses.iter().find(|a| a.local == local.ip()) else { return };
        if let Some(cell) = self.owner_cell(local) {
            cell.store(0, Ordering::Release);
        }
        address.ports.lock().release(now.mono_ms, local.port());
    }

    /// Holds a bound port for [`RESERVATION_MS`] and returns its token.
    pub fn reserve(&self, now: Now, local: SocketAddr, socket: Socket) -> [u8; 8] {
        let mut token = [0; 8];
        random(&mut token);
        let reservation = Reservation { socket, local, until_ms: now.mono_ms + RESERVATION_MS };
        let mut reservations = self.reservations.lock();
        if let Some(old) = reservations.insert(token, reservation) {
            self.release(now, old.local); // one in 2^64
        }
        self.reserved.store(reservations.len(), Ordering::Relaxed);
        token
    }

    /// Takes a reserved port, once. `None` for a token that is unknown or over.
    pub fn claim(&self, now: Now, token: [u8; 8]) -> Option<(SocketAddr, Socket)> {
        let mut reservations = self.reservations.lock();
        if now.mono_ms >= reservations.get(&token)?.until_ms {
            return None;
        }
        let reservation = reservations.remove(&token)?;
        self.reserved.store(reservations.len(), Ordering::Relaxed);
        Some((reservation.local, reservation.socket))
    }

    /// Ports that are free, on all addresses; reserved ones are not, those that cool down are.
    pub fn free(&self, now: Now) -> u64 {
        self.addresses.iter().map(|address| address.ports.lock().free(now.mono_ms) as u64).sum()
    }

    /// When the last port that another program held is free again, if any is not.
    pub fn next_free_ms(&self) -> Option<u64> {
        Some(self.left_alone_until_ms.load(Ordering::Relaxed)).filter(|&at_ms| at_ms > 0)
    }

    /// Whether that has come; it is said once.
    pub fn comes_free(&self, now: Now) -> bool {
        self.next_free_ms().is_some_and(|at_ms| {
            let last = &self.left_alone_until_ms;
            now.mono_ms >= at_ms && last.compare_exchange(at_ms, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        })
    }

    /// Reserved ports there are.
    pub fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    /// Frees reserved ports whose time is over. Says whether there were any.
    pub fn sweep_reservations(&self, now: Now) -> bool {
        if self.reserved() == 0 {
            return false;
        }
        let mut reservations = self.reservations.lock();
        let before = reservations.len();
        reservations.retain(|_, reservation| {
            let live = now.mono_ms < reservation.until_ms;
            if !live {
                self.release(now, reservation.local);
            }
            live
        });
        self.reserved.store(reservations.len(), Ordering::Relaxed);
        reservations.len() < before
    }
}

/// Fills bytes from the kernel's generator; without randomness the server must not go on.
pub fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the kernel gives random bytes");
}

/// Bytes of randomness that are fetched at a time.
const DRAWS_LEN: usize = 256;

/// Random numbers from the kernel's generator, many a system call.
pub struct Draws {
    bytes: [u8; DRAWS_LEN],
    /// Bytes not given out yet, the first ones.
    left: usize,
}

impl Default for Draws {
    fn default() -> Self {
        Draws { bytes: [0; DRAWS_LEN], left: 0 }
    }
}

impl Draws {
    /// The next number, given out once.
    pub fn next(&mut self) -> u32 {
        if self.left == 0 {
            random(&mut self.bytes);
            self.left = DRAWS_LEN;
        }
        let (rest, number) = self.bytes[..self.left].split_last_chunk().expect("numbers fill the bytes");
        self.left = rest.len();
        u32::from_ne_bytes(*number)
    }
}

/// The time now, for those that have no batch to sample it for.
pub fn now() -> Now {
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Now { mono_ms: sys::boot_clock_ms(), unix_s: unix.map_or(0, |since| since.as_secs()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relayed_ports_are_spread_at_random() {
        let mut set = PortSet::new(&(49_152..=65_535));
        let mut draws = Draws::default();
        let ports: Vec<u16> = (0..4096).filter_map(|_| set.take(0, Want::Any, || draws.next())).collect();
        // Of independent numbers half are above their predecessor, and each sixteenth of the
        // range gets its share; ten standard deviations are left for chance.
        let rises = ports.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((1850..=2246).contains(&rises), "{rises} of 4095 rise");
        for part in 0..16 {
            let hits = ports.iter().filter(|&&port| (port - 49_152) / 1024 == part).count();
            assert!((101..=411).contains(&hits), "{hits} of 4096 in part {part}");
        }
    }

    #[test]
    fn the_last_port_of_all_may_be_held_by_others() {
        let local = "127.0.0.1".parse().unwrap();
        let pool = PortPool::new(65_535..=65_535, &[(local, local)], AllocationLimits::default());
        let held = |_| Err(std::io::ErrorKind::AddrInUse.into());
        for want in [Want::Any, Want::Even, Want::Pair] {
            assert_eq!(pool.bind(now(), 0, want, &mut Draws::default(), held).unwrap_err(), PortError::Exhausted);
        }
    }

    #[test]
    fn a_port_that_others_held_counts_as_free_in_time_though_nobody_asks_for_one() {
        let local = "127.0.0.1".parse().unwrap();
        let pool = PortPool::new(50_000..=50_000, &[(local, local)], AllocationLimits::default());
        let at = |mono_ms| Now { mono_ms, unix_s: 0 };
        assert_eq!((pool.free(at(1)), pool.next_free_ms()), (1, None));
        let held = |_| Err(std::io::ErrorKind::AddrInUse.into());
        pool.bind(at(1), 0, Want::Any, &mut Draws::default(), held).unwrap_err();
        let due_ms = pool.next_free_ms().unwrap();
        assert_eq!((pool.free(at(due_ms - 1)), pool.comes_free(at(due_ms - 1))), (0, false));
        assert_eq!((pool.comes_free(at(due_ms)), pool.free(at(due_ms))), (true, 1));
        assert_eq!((pool.comes_free(at(due_ms)), pool.next_free_ms()), (false, None));
    }

    #[test]
    fn a_reserved_port_that_nobody_claims_counts_as_free_in_time() {
        let local = "127.0.0.1".parse().unwrap();
        let pool = PortPool::new(50_000..=50_001, &[(local, local)], AllocationLimits::default());
        let at = |mono_ms| Now { mono_ms, unix_s: 0 };
        let socket = |_| Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None);
        let (even, _, next) = pool.bind(at(1), 0, Want::Pair, &mut Draws::default(), socket).unwrap();
        pool.reserve(at(1), SocketAddr::new(local, even.port() + 1), next.unwrap());
        pool.release(at(2), even);
        assert_eq!((pool.sweep_reservations(at(RESERVATION_MS)), pool.free(at(RESERVATION_MS))), (false, 1));
        assert_eq!((pool.sweep_reservations(at(RESERVATION_MS + 1)), pool.free(at(RESERVATION_MS + 1))), (true, 2));
        assert!(!pool.sweep_reservations(at(RESERVATION_MS + 2)));
    }

    #[test]
    fn owners_are_found_by_either_address_and_ids_survive_packing() {
        let pool = PortPool::new(
            50_000..=50_010,
            &[("10.0.0.7".parse().unwrap(), "8.8.4.4".parse().unwrap())],
            AllocationLimits::default(),
        );
        let local: SocketAddr = "10.0.0.7:50003".parse().unwrap();
        let relayed = pool.relayed(local);
        assert_eq!(relayed.0, "8.8.4.4:50003".parse().unwrap());
        let owner = Owner { worker: 127, id: AllocationId { index: u32::MAX, generation: 0x00FF_FFFF } };
        pool.set_owner(relayed, owner);
        assert_eq!((pool.owner(local), pool.owner(relayed.0)), (Some(owner), Some(owner)));
        for other in ["8.8.4.4:50004", "8.8.4.4:49999", "8.8.4.4:50011", "8.8.4.5:50003"] {
            assert_eq!(pool.owner(other.parse().unwrap()), None, "{other}");
        }
    }
}
