//! The expiry wheel: which slots to look at when.
//!
//! One second a tick, [`TICKS`] ticks a turn, doubly linked through one node a key: arming,
//! disarming and popping cost the same whatever the number of keys, and memory is that of the
//! keys. Validity is never judged here: whoever is popped looks at its own deadlines and arms
//! itself again, so a deadline beyond one turn simply comes up early.

use std::cell::Cell;

/// Milliseconds a tick.
const TICK_MS: u64 = 1000;
/// Ticks a turn: a little over an hour, the longest usual lifetime.
pub const TICKS: usize = 4096;
/// End of a list.
const NIL: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    previous: u32,
    next: u32,
    /// The tick's slot, or `NIL` when not armed.
    slot: u32,
}

/// Keys by deadline. Keys are small dense numbers (slab indices).
#[derive(Debug)]
pub struct Wheel {
    nodes: Vec<Node>,
    heads: Box<[u32; TICKS]>,
    /// The tick whose slot is popped now; all earlier ones are empty.
    cursor: u64,
    armed: usize,
    /// No tick before this one has a key: where looking for the next deadline begins.
    earliest: Cell<u64>,
}

impl Wheel {
    /// An empty wheel that starts at `now_ms`.
    pub fn new(now_ms: u64) -> Self {
        Wheel {
            nodes: Vec::new(),
            heads: Box::new([NIL; TICKS]),
            cursor: now_ms / TICK_MS,
            armed: 0,
            earliest: Cell::new(0),
        }
    }

    /// Arms a key, or moves it. It is popped at most one tick after `at_ms`, and earlier when
    /// that lies more than a turn ahead.
    pub fn arm(&mut self, key: u32, at_ms: u64) {
        self.disarm(key);
        let needed = key as usize + 1;
        if self.nodes.len() < needed {
            self.nodes.resize(needed, Node { previous: NIL, next: NIL, slot: NIL });
        }
        let tick = at_ms.div_ceil(TICK_MS).clamp(self.cursor + 1, self.cursor + TICKS as u64 - 1);
        let slot = (tick % TICKS as u64) as u32;
        let head = self.heads[slot as usize];
        self.nodes[key as usize] = Node { previous: NIL, next: head, slot };
        if head != NIL {
            self.nodes[head as usize].previous = key;
        }
        self.heads[slot as usize] = key;
        self.armed += 1;
        self.earliest.set(self.earliest.get().min(tick));
    }

    /// Disarms a key; nothing happens to one that is not armed.
    pub fn disarm(&mut self, key: u32) {
        let Some(&Node { previous, next, slot }) = self.nodes.get(key as usize) else { return };
        if slot == NIL {
            return;
        }
        match previous {
            NIL => self.heads[slot as usize] = next,
            previous => self.nodes[previous as usize].next = next,
        }
        if next != NIL {
            self.nodes[next as usize].previous = previous;
        }
        self.nodes[key as usize].slot = NIL;
        self.armed -= 1;
    }

    /// Takes one key whose tick has come, disarmed. Call until `None`, or stop after a number
    /// of keys and go on later: nothing is lost.
    pub fn pop(&mut self, now_ms: u64) -> Option<u32> {
        let today = now_ms / TICK_MS;
        if self.armed == 0 {
            self.cursor = self.cursor.max(today);
            return None;
        }
        // After a long stop one turn over all slots is enough.
        self.cursor = self.cursor.max(today.saturating_sub(TICKS as u64));
        loop {
            let head = self.heads[(self.cursor % TICKS as u64) as usize];
            if head != NIL {
                self.disarm(head);
                return Some(head);
            }
            if self.cursor >= today {
                return None;
            }
            self.cursor += 1;
        }
    }

    /// When the next key comes up, or `None` when none is armed.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        if self.armed == 0 {
            return None;
        }
        let first = self.earliest.get().max(self.cursor);
        let tick = (first..first + TICKS as u64).find(|tick| self.heads[(tick % TICKS as u64) as usize] != NIL)?;
        self.earliest.set(tick);
        Some(tick * TICK_MS)
    }

    /// Keys armed.
    pub fn len(&self) -> usize {
        self.armed
    }

    /// Whether no key is armed.
    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(wheel: &mut Wheel, now_ms: u64) -> Vec<u32> {
        let mut keys: Vec<u32> = std::iter::from_fn(|| wheel.pop(now_ms)).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn a_key_comes_up_in_its_tick_and_not_before() {
        let mut wheel = Wheel::new(5_000);
        wheel.arm(1, 7_500);
        wheel.arm(2, 9_000);
        assert_eq!(wheel.next_deadline_ms(), Some(8_000));
        assert!(drain(&mut wheel, 7_999).is_empty());
        assert_eq!(drain(&mut wheel, 8_000), [1]);
        assert_eq!(drain(&mut wheel, 9_000), [2]);
        assert_eq!(wheel.next_deadline_ms(), None);
    }

    #[test]
    fn arming_again_moves_and_disarming_forgets() {
        let mut wheel = Wheel::new(0);
        for key in 0..10 {
            wheel.arm(key, 3_000);
        }
        wheel.arm(4, 6_000);
        wheel.disarm(5);
        wheel.disarm(5);
        wheel.disarm(99);
        assert_eq!(drain(&mut wheel, 3_000), [0, 1, 2, 3, 6, 7, 8, 9]);
        assert_eq!(drain(&mut wheel, 6_000), [4]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_deadline_beyond_a_turn_comes_up_early_and_never_late() {
        let mut wheel = Wheel::new(0);
        let far = (TICKS as u64 + 500) * TICK_MS;
        wheel.arm(1, far);
        let mut now = 0;
        let mut popped = Vec::new();
        while now <= far + TICK_MS {
            while let Some(key) = wheel.pop(now) {
                popped.push(now);
                if now < far {
                    wheel.arm(key, far);
                }
            }
            now += TICK_MS;
        }
        assert_eq!(popped.len(), 2);
        assert!(popped[1] >= far && popped[1] <= far + TICK_MS);
    }

    #[test]
    fn after_a_long_stop_everything_overdue_comes_up_at_once() {
        let mut wheel = Wheel::new(0);
        for key in 0..1000 {
            wheel.arm(key, u64::from(key) * 1000);
        }
        assert_eq!(drain(&mut wheel, 1_000_000_000).len(), 1000);
        wheel.arm(7, 1_000_001_000);
        assert_eq!(drain(&mut wheel, 1_000_001_000), [7]);
    }
}
