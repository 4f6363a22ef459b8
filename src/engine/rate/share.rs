//! What each allocation's fair share of the server's rate is, and what it has left of it.
//!
//! Every allocation is entitled to the rate divided by the number of those that have something to
//! relay. Most use less, so those that want more may share the rest: while the rate is used up, the
//! share grows window by window until what flows within shares is the rate, and shrinks at once when
//! it is more. Then everyone who uses less than the share is served in full, and all others alike:
//! what is over is taken from those who use most. Inside a share small packets go first.
//!
//! No clock: time is an argument. One packet is a few additions, however many allocations there are.

use crate::turn::AllocationId;

/// How long a window is, in milliseconds. At its end the share is set anew.
const WINDOW_MS: u64 = 100;
/// Bytes of the longest packet that counts as small: a frame of audio.
pub const SMALL_MAX: u64 = 250;
/// The least an allocation may send at once within its share, in bytes: two packets of video.
const DEPTH_MIN: u64 = 3_000;
/// Percent of the rate that the shares are meant to use: the rest keeps the pot from running low.
const AIM_PERCENT: u64 = 99;
/// The same after a window in which the pot had nothing for what was within a share.
const AIM_LOW_PERCENT: u64 = 90;
/// A share grows in one window by a quarter at most.
const GROWTH: (u64, u64) = (5, 4);

/// What a packet is to its allocation's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Small, and within the share.
    Small,
    /// Within the share.
    Within,
    /// More than the share.
    Beyond,
}

impl Class {
    /// How many there are.
    pub const COUNT: usize = 3;
}

/// What a worker knows of the window it is in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// The window's number, from 1.
    window: u32,
    /// Bytes a second that are one allocation's.
    share: u64,
    /// Bytes that one allocation may send at once within it: those of a second of what it is
    /// entitled to.
    depth: u64,
}

impl Terms {
    /// Whether the worker has not been told any yet.
    pub fn is_unknown(&self) -> bool {
        self.window == 0
    }
}

/// What all workers have seen in the time since the share was set last.
#[derive(Debug, Default)]
pub struct Window {
    number: u32,
    since_ms: u64,
    share: u64,
    /// Allocations that had something to relay, in this window and in the last one.
    active: [u64; 2],
    /// Bytes drawn for packets within their shares.
    within: u64,
    /// Something was refused: the rate is used up.
    refused: bool,
    /// And something that was within its share: the pot is low.
    low: bool,
}

impl Window {
    /// Hears of allocations that a worker has met for the first time in this window, begins the next
    /// one if it is time, and says what holds now.
    pub fn tell(&mut self, now_ms: u64, rate: u64, met: u64) -> Terms {
        self.active[0] += met;
        let [now, before] = self.active;
        // Many that have come at once must not wait for the end of the window.
        if now * GROWTH.1 > before * GROWTH.0 {
            self.share = self.share.min(rate / now);
        }
        let elapsed_ms = now_ms.saturating_sub(self.since_ms);
        if self.number == 0 || elapsed_ms >= WINDOW_MS {
            self.begin_next(now_ms, rate, elapsed_ms);
        }
        let entitled = rate / self.active[0].max(self.active[1]).max(1);
        Terms { window: self.number, share: self.share.max(1), depth: entitled.max(DEPTH_MIN) }
    }

    fn begin_next(&mut self, now_ms: u64, rate: u64, elapsed_ms: u64) {
        let entitled = self.aim(rate) / self.active[0].max(1);
        // After a pause, or where nothing was refused, nobody has to be held back.
        let is_used_up = self.refused && elapsed_ms < 2 * WINDOW_MS;
        self.share = if is_used_up { self.next_share(rate, elapsed_ms).max(entitled) } else { entitled };
        self.active = [0, self.active[0]];
        (self.within, self.refused, self.low, self.since_ms) = (0, false, false, now_ms);
        // 0 is the window that nobody has been in.
        self.number = self.number.wrapping_add(1).max(1);
    }

    /// Bytes a second that the shares are to use together.
    fn aim(&self, rate: u64) -> u64 {
        let percent = if self.low { AIM_LOW_PERCENT } else { AIM_PERCENT };
        (u128::from(rate) * u128::from(percent) / 100) as u64
    }

    /// The share with which what flows within shares would have been the rate, as far as one step goes.
    fn next_share(&self, rate: u64, elapsed_ms: u64) -> u64 {
        let wanted = u128::from(self.aim(rate)) * u128::from(elapsed_ms) / 1000;
        let share = u128::from(self.share) * wanted / u128::from(self.within.max(1));
        let grown = u128::from(self.share) * u128::from(GROWTH.0) / u128::from(GROWTH.1) + 1;
        share.min(grown).min(rate.into()) as u64
    }

    /// Counts what was drawn; `None` was refused.
    pub fn count(&mut self, class: Class, got: Option<u64>) {
        match got {
            Some(bytes) if class != Class::Beyond => self.within += bytes,
            Some(_) => {}
            None => {
                self.refused = true;
                self.low |= class != Class::Beyond;
            }
        }
    }
}

/// What one allocation has left of its share.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Generation of the allocation; none has the one of a slot that is empty.
    generation: u32,
    /// The last window it was met in.
    window: u32,
    /// Thousandths of bytes. Small packets may borrow.
    milli: i64,
    last_ms: u64,
}

impl Share {
    const EMPTY: Share = Share { generation: u32::MAX, window: 0, milli: 0, last_ms: 0 };

    /// Whether this is its first packet in the window.
    pub fn is_new_in(&mut self, terms: &Terms) -> bool {
        std::mem::replace(&mut self.window, terms.window) != terms.window
    }

    /// Judges a packet.
    #[inline]
    pub fn judge(&mut self, now_ms: u64, terms: &Terms, bytes: u64) -> Class {
        let depth = to_milli(terms.depth);
        let earned = now_ms.saturating_sub(self.last_ms).saturating_mul(terms.share);
        let earned = i64::try_from(earned).unwrap_or(i64::MAX);
        self.milli = self.milli.saturating_add(earned).min(depth);
        self.last_ms = now_ms;
        let left = self.milli.saturating_sub(to_milli(bytes));
        match bytes <= SMALL_MAX {
            true if left >= -depth => Class::Small,
            false if left >= 0 => Class::Within,
            _ => Class::Beyond,
        }
    }

    /// Takes off what was let go.
    #[inline]
    pub fn spend(&mut self, class: Class, bytes: u64) {
        if class != Class::Beyond {
            self.milli = self.milli.saturating_sub(to_milli(bytes));
        }
    }
}

fn to_milli(bytes: u64) -> i64 {
    i64::try_from(bytes.saturating_mul(1000)).unwrap_or(i64::MAX)
}

/// The shares of one worker's allocations, by slot.
#[derive(Debug, Default)]
pub struct Shares(Vec<Share>);

impl Shares {
    /// The share of an allocation; whole for one that is new.
    #[inline]
    pub fn of(&mut self, id: AllocationId, terms: &Terms) -> &mut Share {
        let index = id.index as usize;
        if self.0.len() <= index {
            self.0.resize(index + 1, Share::EMPTY);
        }
        let share = &mut self.0[index];
        if share.generation != id.generation {
            *share = Share { generation: id.generation, milli: to_milli(terms.depth), ..Share::EMPTY };
        }
        share
    }
}
