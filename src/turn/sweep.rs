//! All allocations judged again, some at a time: what a new policy forbids and what is revoked
//! ends, and no packet waits until the last of them has been looked at.

use super::policy::Reach;
use super::{EndReason, Event, Now, PeerAddr, Server};

/// What is done in one turn, where a slot or a peer to be judged counts one.
const STEPS_PER_TURN: usize = 4096;
/// What the end of an allocation counts: its ports have to be closed.
const STEPS_PER_END: usize = 32;

/// How far a walk through the slots has come. One that begins anew goes on from where it is, so
/// that a flood of them reaches every slot.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    next: u32,
    /// Slots still to be looked at.
    left: u32,
    /// Slots there were when it began; what is in later ones was judged when it was made.
    slots: u32,
}

impl Sweep {
    /// Whether there is more to look at.
    pub fn is_under_way(&self) -> bool {
        self.left > 0
    }

    fn begin(&mut self, slots: u32) {
        (self.left, self.slots) = (slots, slots);
    }

    fn step(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let index = if self.next < self.slots { self.next } else { 0 };
        self.next = index + 1;
        Some(index)
    }
}

impl Server {
    /// Judges every allocation again, those of the first turn at once.
    pub(super) fn judge_all(&mut self, now: Now) {
        self.sweep.begin(self.table.slot_count());
        self.sweep(now);
    }

    /// Goes on with what is left to judge, for one turn.
    pub(super) fn sweep(&mut self, now: Now) {
        let mut steps = 0;
        while steps < STEPS_PER_TURN {
            let Some(index) = self.sweep.step() else { return };
            steps += self.judge_slot(now, index);
        }
    }

    /// Judges the allocation in a slot and returns what that counts.
    fn judge_slot(&mut self, now: Now, index: u32) -> usize {
        let Some(id) = self.table.id_at(index) else { return 1 };
        let Some(allocation) = self.table.get_mut(id) else { return 1 };
        if allocation.is_revoked(&self.config.auth, &self.revoked) {
            self.delete(now, id, EndReason::Revoked);
            return STEPS_PER_END;
        }
        let policy = &self.config.policy;
        let steps = 1 + allocation.permissions.len() + allocation.channels.len();
        let permissions = allocation.permissions.live(now.mono_ms).map(|(peer, _)| peer);
        let forbidden = permissions.filter(|&peer| policy.judge(peer).is_err());
        self.events.extend(forbidden.map(|peer| Event::Forbidden { id, peer }));
        let channels = allocation.channels.live(now.mono_ms);
        let unbound = channels.filter(|channel| policy.judge_peer(channel.peer.0).is_err());
        self.events.extend(unbound.map(|c| Event::Unbound { id, number: c.number, peer: c.peer }));
        allocation.permissions.retain(now.mono_ms, |ip| policy.judge(ip).is_ok());
        let reach = |peer: PeerAddr| policy.judge_peer(peer.0).ok();
        allocation.channels.judge_again(now.mono_ms, |peer| reach(peer).map(|reach| reach == Reach::Own));
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slots that a walk looks at until it is through.
    fn walk(sweep: &mut Sweep) -> Vec<u32> {
        std::iter::from_fn(|| sweep.step()).collect()
    }

    #[test]
    fn every_slot_is_looked_at_once_wherever_the_walk_begins() {
        let mut sweep = Sweep::default();
        sweep.begin(3);
        assert_eq!(walk(&mut sweep), [0, 1, 2]);
        sweep.begin(5);
        assert_eq!((sweep.step(), sweep.step()), (Some(3), Some(4)));
        sweep.begin(6);
        assert_eq!(walk(&mut sweep), [5, 0, 1, 2, 3, 4]);
        sweep.begin(0);
        assert!(walk(&mut sweep).is_empty() && !sweep.is_under_way());
    }

    #[test]
    fn walks_that_begin_again_and_again_reach_every_slot() {
        let mut sweep = Sweep::default();
        let mut seen = [false; 10];
        for _ in 0..5 {
            sweep.begin(10);
            let steps = [sweep.step(), sweep.step()];
            steps.into_iter().flatten().for_each(|index| seen[index as usize] = true);
        }
        assert_eq!(seen, [true; 10]);
    }
}
