//! When each allocation of a long run is refreshed, so that it and its permission outlive it. Pure.

use super::client::Step;
use super::stage::HURRY_NS;

/// How often an allocation is refreshed, in nanoseconds; a permission lives 300 s (RFC 8656 §9).
const EVERY_NS: u64 = 120_000_000_000;

/// What is to be done for a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Send the request of this step.
    Ask(Step),
    /// See whether its answer is overdue.
    Hurry(Step),
}

/// Who is refreshed next, and who is at it.
#[derive(Debug)]
pub struct Upkeep {
    steps: [Step; 2],
    flows: usize,
    next: usize,
    next_ns: u64,
    gap_ns: u64,
    hurry_ns: u64,
    hurry_at: usize,
    /// Flows that wait for an answer, and the step of each.
    under_way: Vec<(usize, usize)>,
}

impl Upkeep {
    /// Every flow is refreshed, then takes the step that renews its permission.
    pub fn new(renew: Step, flows: usize, now_ns: u64) -> Self {
        let gap_ns = EVERY_NS / flows.max(1) as u64;
        Upkeep {
            steps: [Step::Refresh, renew],
            flows,
            next: 0,
            // The first is old as soon as the last is made, however long that took.
            next_ns: now_ns + gap_ns,
            gap_ns,
            hurry_ns: now_ns + HURRY_NS,
            hurry_at: 0,
            under_way: Vec::new(),
        }
    }

    /// The next errand of this moment; call it until there is none.
    #[inline]
    pub fn due(&mut self, now_ns: u64) -> Option<(usize, Errand)> {
        if now_ns >= self.next_ns && self.flows > 0 {
            let flow = self.next;
            self.next = (flow + 1) % self.flows;
            self.next_ns += self.gap_ns;
            self.under_way.retain(|(other, _)| *other != flow);
            self.under_way.push((flow, 0));
            return Some((flow, Errand::Ask(self.steps[0])));
        }
        if now_ns < self.hurry_ns {
            return None;
        }
        if let Some(&(flow, step)) = self.under_way.get(self.hurry_at) {
            self.hurry_at += 1;
            return Some((flow, Errand::Hurry(self.steps[step])));
        }
        (self.hurry_at, self.hurry_ns) = (0, now_ns + HURRY_NS);
        None
    }

    /// The step whose answer a flow waits for.
    pub fn step(&self, flow: usize) -> Option<Step> {
        self.under_way.iter().find(|(other, _)| *other == flow).map(|(_, step)| self.steps[*step])
    }

    /// Ends the step of a flow and says which comes next.
    pub fn advance(&mut self, flow: usize) -> Option<Step> {
        let at = self.under_way.iter().position(|(other, _)| *other == flow)?;
        self.under_way[at].1 += 1;
        let next = self.steps.get(self.under_way[at].1).copied();
        if next.is_none() {
            self.under_way.swap_remove(at);
        }
        next
    }

    /// No longer waits for a flow's answer.
    pub fn abandon(&mut self, flow: usize) {
        self.under_way.retain(|(other, _)| *other != flow);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flow_gets_its_turn_within_the_time() {
        let mut upkeep = Upkeep::new(Step::Bind, 3, 0);
        let mut asked = Vec::new();
        for now in (0..=EVERY_NS).step_by(10_000_000) {
            while let Some((flow, errand)) = upkeep.due(now) {
                if errand == Errand::Ask(Step::Refresh) {
                    asked.push(flow);
                    assert_eq!(upkeep.advance(flow), Some(Step::Bind));
                    assert_eq!(upkeep.step(flow), Some(Step::Bind));
                    assert_eq!(upkeep.advance(flow), None);
                }
            }
        }
        assert_eq!(asked, [0, 1, 2]);
    }

    #[test]
    fn an_answer_that_does_not_come_is_hurried_until_it_is_given_up() {
        let mut upkeep = Upkeep::new(Step::Permit, 1, 0);
        assert_eq!(upkeep.due(EVERY_NS), Some((0, Errand::Ask(Step::Refresh))));
        assert_eq!(upkeep.due(EVERY_NS + HURRY_NS), Some((0, Errand::Hurry(Step::Refresh))));
        assert_eq!(upkeep.due(EVERY_NS + HURRY_NS), None);
        upkeep.abandon(0);
        assert_eq!((upkeep.step(0), upkeep.due(EVERY_NS + 3 * HURRY_NS)), (None, None));
    }
}
