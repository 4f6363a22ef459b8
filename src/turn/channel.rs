//! Channel bindings of one allocation (RFC 8656 §12): a bijection of numbers and peers.

use super::{CHANNEL_MS, PeerAddr};
use crate::wire::channel::{ChannelNumber, ChannelRange};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::net::SocketAddr;

/// One binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its number.
    pub number: ChannelNumber,
    /// The peer it is bound to.
    pub peer: PeerAddr,
    /// When it ends unless refreshed.
    pub until_ms: u64,
    /// The peer is a relayed address of this server.
    pub own: bool,
}

/// The number or the peer is bound elsewhere: 400 (RFC 8656 §12.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict;

/// The bindings, sorted by peer for the way to the client, and an array indexed by number
/// for the way to the peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    list: Vec<Channel>,
    /// Position in `list` plus one, by number from 0x4000 on; as long as the highest number
    /// in use needs.
    slots: Vec<u16>,
}

impl Channels {
    /// The live binding of a number.
    #[inline]
    pub fn by_number(&self, number: ChannelNumber, now_ms: u64) -> Option<&Channel> {
        let at = *self.slots.get(number.index())?;
        let channel = self.list.get(usize::from(at).checked_sub(1)?)?;
        (now_ms < channel.until_ms).then_some(channel)
    }

    /// The live binding of a peer.
    #[inline]
    pub fn by_peer(&self, peer: PeerAddr, now_ms: u64) -> Option<&Channel> {
        let channel = match self.list.as_slice() {
            [only] if only.peer == peer => only,
            list => &list[list.binary_search_by_key(&peer, |c| c.peer).ok()?],
        };
        (now_ms < channel.until_ms).then_some(channel)
    }

    /// Whether binding this pair now would break the bijection, and if not, whether it is new.
    pub fn check(&self, number: ChannelNumber, peer: PeerAddr, now_ms: u64) -> Result<bool, Conflict> {
        match (self.by_number(number, now_ms), self.by_peer(peer, now_ms)) {
            (None, None) => Ok(true),
            (Some(channel), Some(_)) if channel.peer == peer => Ok(false),
            _ => Err(Conflict),
        }
    }

    /// Binds or refreshes a pair that [`Channels::check`] has passed, and returns its end.
    pub fn bind(&mut self, number: ChannelNumber, peer: PeerAddr, own: bool, now_ms: u64) -> u64 {
        let until_ms = now_ms + CHANNEL_MS;
        // A dead binding of either half makes room for the new pair.
        self.list.retain(|c| now_ms < c.until_ms && c.number != number);
        if self.list.is_empty() {
            self.list.reserve_exact(1); // most allocations have one, and a list grows by fours
        }
        let at = self.list.partition_point(|c| c.peer < peer);
        self.list.insert(at, Channel { number, peer, until_ms, own });
        self.index();
        until_ms
    }

    /// Forgets all that are over, and all that `keep` refuses.
    pub fn retain(&mut self, now_ms: u64, keep: impl Fn(PeerAddr) -> bool) {
        self.retain_mut(now_ms, |channel| keep(channel.peer));
    }

    /// Forgets all that are over, and all whose peer `judge` refuses by `None`; the others are
    /// told whether their peer is a relayed address of this server.
    pub fn judge_again(&mut self, now_ms: u64, judge: impl Fn(PeerAddr) -> Option<bool>) {
        self.retain_mut(now_ms, |channel| {
            let own = judge(channel.peer);
            channel.own = own.unwrap_or(false);
            own.is_some()
        });
    }

    fn retain_mut(&mut self, now_ms: u64, mut keep: impl FnMut(&mut Channel) -> bool) {
        let before = self.list.len();
        self.list.retain_mut(|channel| now_ms < channel.until_ms && keep(channel));
        if self.list.len() != before {
            self.index();
        }
    }

    fn index(&mut self) {
        let len = self.list.iter().map(|c| c.number.index() + 1).max().unwrap_or(0);
        self.slots.clear();
        self.slots.resize(len, 0);
        for (at, channel) in self.list.iter().enumerate() {
            self.slots[channel.number.index()] = at as u16 + 1;
        }
    }

    /// Bindings held, those that are over but not yet forgotten included.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The bindings that are live now, in the order of their peers.
    pub fn live(&self, now_ms: u64) -> impl Iterator<Item = &Channel> + '_ {
        self.list.iter().filter(move |c| now_ms < c.until_ms)
    }
}

/// As stored: the widest range, so that a state of either range can be read.
type Stored = (u16, SocketAddr, u64, bool);

impl Serialize for Channels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.list.iter().map(|c| (c.number.get(), c.peer.0, c.until_ms, c.own)))
    }
}

impl<'de> Deserialize<'de> for Channels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Vec::<Stored>::deserialize(deserializer)?;
        let mut channels = Channels::default();
        for (number, peer, until_ms, own) in stored {
            let number = ChannelNumber::new(number, ChannelRange::Rfc5766)
                .ok_or_else(|| serde::de::Error::custom("a channel number is out of range"))?;
            channels.list.push(Channel { number, peer: PeerAddr(peer), until_ms, own });
        }
        channels.list.sort_unstable_by_key(|c| c.peer);
        channels.index();
        Ok(channels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(number: u16) -> ChannelNumber {
        ChannelNumber::new(number, ChannelRange::Rfc8656).unwrap()
    }

    fn p(port: u16) -> PeerAddr {
        PeerAddr(SocketAddr::from(([192, 0, 2, 1], port)))
    }

    #[test]
    fn numbers_and_peers_are_a_bijection() {
        let mut channels = Channels::default();
        assert_eq!(channels.check(n(0x4001), p(1), 0), Ok(true));
        channels.bind(n(0x4001), p(1), false, 0);
        channels.bind(n(0x4000), p(2), false, 0);
        assert_eq!(channels.check(n(0x4001), p(1), 1), Ok(false));
        assert_eq!(channels.check(n(0x4001), p(3), 1), Err(Conflict));
        assert_eq!(channels.check(n(0x4002), p(1), 1), Err(Conflict));
        assert_eq!(channels.check(n(0x4000), p(1), 1), Err(Conflict));
        assert_eq!(channels.by_number(n(0x4001), 1).unwrap().peer, p(1));
        assert_eq!(channels.by_peer(p(2), 1).unwrap().number, n(0x4000));
    }

    #[test]
    fn a_dead_binding_frees_both_halves() {
        let mut channels = Channels::default();
        channels.bind(n(0x4000), p(1), false, 0);
        channels.bind(n(0x4FFF), p(2), false, 1);
        assert!(channels.by_number(n(0x4000), CHANNEL_MS).is_none());
        assert_eq!(channels.check(n(0x4000), p(9), CHANNEL_MS), Ok(true));
        channels.bind(n(0x4000), p(9), false, CHANNEL_MS);
        assert_eq!(channels.by_number(n(0x4000), CHANNEL_MS).unwrap().peer, p(9));
        assert!(channels.by_peer(p(1), CHANNEL_MS).is_none());
        assert_eq!(channels.by_peer(p(2), CHANNEL_MS).unwrap().number, n(0x4FFF));
        channels.retain(CHANNEL_MS + 1, |_| true);
        assert_eq!(channels.len(), 1);
    }
}
