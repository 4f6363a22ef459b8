//! The workers' counters summed up: what metrics and status are made of.

use crate::stats::{CODES, CloseReason, Direction, Histogram, WorkerStats};
use crate::turn::request::METHODS;
use crate::turn::{DropReason, EndReason, Limit, Transport};
use crate::wire::attribute::Family;
use std::sync::Arc;

/// Every client transport.
pub const TRANSPORTS: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];
/// Every address family.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Packets and application bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Packets.
    pub packets: u64,
    /// Bytes, without framing.
    pub bytes: u64,
}

/// Values by size, over all workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// The upper bounds.
    pub bounds: &'static [u64],
    /// How many values each bucket holds, the one above all bounds last; not cumulative.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: u64,
}

/// The counters of all workers as one.
#[derive(Clone, Copy, Debug)]
pub struct Totals<'a>(pub &'a [Arc<WorkerStats>]);

impl Totals<'_> {
    /// The sum of what `read` finds at each worker.
    pub fn sum(&self, read: impl Fn(&WorkerStats) -> u64) -> u64 {
        self.0.iter().map(|stats| read(stats)).sum()
    }

    /// What was relayed in a direction.
    pub fn relayed(&self, direction: Direction) -> Volume {
        let each = self.0.iter().map(|stats| stats.relayed_total(direction));
        each.fold(Volume::default(), |sum, (packets, bytes)| Volume {
            packets: sum.packets + packets,
            bytes: sum.bytes + bytes,
        })
    }

    /// Relayed addresses of a kind: how many began, and how many there are.
    pub fn relayed_addresses(&self, transport: Transport, family: Family) -> (u64, u64) {
        let each = self.0.iter().map(|stats| stats.relayed_addresses(transport, family));
        each.fold((0, 0), |sum, (opened, now)| (sum.0 + opened, sum.1 + now))
    }

    /// Each reason why connections end, and how often it was met.
    pub fn closed(&self) -> impl Iterator<Item = (CloseReason, u64)> + '_ {
        CloseReason::ALL.iter().map(|&reason| (reason, self.sum(|stats| stats.closed_connections.total(reason))))
    }

    /// Each reason to drop, and how often it was met.
    pub fn dropped(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&reason| (reason, self.sum(|stats| stats.dropped_total(reason))))
    }

    /// Each limit that refuses requests, and how often it did.
    pub fn reached(&self) -> impl Iterator<Item = (Limit, u64)> + '_ {
        Limit::ALL.iter().map(|&limit| (limit, self.sum(|stats| stats.reached_total(limit))))
    }

    /// Each reason to end, and how many allocations ended for it.
    pub fn ended(&self) -> impl Iterator<Item = (EndReason, u64)> + '_ {
        EndReason::ALL.into_iter().map(|reason| (reason, self.sum(|stats| stats.ended_total(reason))))
    }

    /// Each method and code (`success`, `401`, … `other`), and how often it was answered so.
    pub fn answered(&self) -> impl Iterator<Item = (&'static str, String, u64)> + '_ {
        METHODS.iter().enumerate().flat_map(move |(row, method)| {
            (0..=CODES.len()).map(move |column| {
                let count = self.sum(|stats| stats.answered_total(row, column));
                (method.name, code_name(CODES.get(column).copied()), count)
            })
        })
    }

    /// A histogram over all workers.
    pub fn distribution(&self, pick: impl Fn(&WorkerStats) -> &Histogram) -> Distribution {
        let mut sum = Distribution { bounds: &[], counts: Vec::new(), sum: 0 };
        for histogram in self.0.iter().map(|stats| pick(stats)) {
            sum.bounds = histogram.bounds();
            sum.counts.resize(sum.bounds.len() + 1, 0);
            sum.counts.iter_mut().zip(histogram.counts()).for_each(|(total, count)| *total += count);
            sum.sum += histogram.sum();
        }
        sum
    }
}

fn code_name(code: Option<u16>) -> String {
    match code {
        Some(0) => "success".into(),
        Some(code) => code.to_string(),
        None => "other".into(),
    }
}

/// `ipv4` or `ipv6`.
pub fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::Answer;
    use crate::wire::stun::Method;

    #[test]
    fn workers_are_summed_up() {
        let workers = [Arc::new(WorkerStats::default()), Arc::new(WorkerStats::default())];
        for (stats, bytes) in workers.iter().zip([100, 20]) {
            stats.relayed(Direction::ToPeer, bytes);
            stats.opened(Transport::Tcp, Family::V6);
            stats.dropped(DropReason::NoChannel);
            stats.ended(EndReason::Closed);
            stats.answered(Answer::new(Method::BINDING, 0));
            stats.answered(Answer::new(Method::ALLOCATE, 401));
            stats.answered(Answer::new(Method::ALLOCATE, 599));
            stats.answered(Answer { rule: Some(Limit::Ports.rule()), ..Answer::new(Method::ALLOCATE, 508) });
            stats.answered(Answer { rule: Some("draining"), ..Answer::new(Method::ALLOCATE, 508) });
            stats.batches.observe(3);
        }
        workers[1].closed(Transport::Tcp, Family::V6);
        let totals = Totals(&workers);
        assert_eq!(totals.relayed(Direction::ToPeer), Volume { packets: 2, bytes: 120 });
        assert_eq!(totals.relayed(Direction::ToClient), Volume::default());
        assert_eq!(totals.relayed_addresses(Transport::Tcp, Family::V6), (2, 1));
        assert_eq!(totals.dropped().filter(|(_, n)| *n > 0).collect::<Vec<_>>(), [(DropReason::NoChannel, 2)]);
        assert_eq!(totals.ended().filter(|(_, n)| *n > 0).collect::<Vec<_>>(), [(EndReason::Closed, 2)]);
        let answered: Vec<_> = totals.answered().filter(|(_, _, count)| *count > 0).collect();
        let expected =
            [("binding", "success", 2), ("allocate", "401", 2), ("allocate", "508", 4), ("allocate", "other", 2)];
        assert_eq!(answered, expected.map(|(method, code, count)| (method, code.to_owned(), count)));
        assert_eq!(totals.reached().filter(|(_, n)| *n > 0).collect::<Vec<_>>(), [(Limit::Ports, 2)]);
        let batches = totals.distribution(|stats| &stats.batches);
        assert_eq!((batches.sum, batches.counts.iter().sum::<u64>(), batches.counts[2]), (6, 2, 2));
    }
}
