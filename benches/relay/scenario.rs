//! What is measured, by name: the load, what is counted, and what was promised.

/// How clients come to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A byte stream.
    Tcp,
    /// TLS over TCP.
    Tls,
}

/// Who is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contest {
    /// The servers of the command line, each on one core.
    Servers,
    /// turnpike with one worker and with two, on both cores.
    Workers,
}

/// What a scenario's figures are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A packet the relay handed on.
    Packet,
    /// A whole life of an allocation.
    Cycle,
    /// A request.
    Request,
    /// An allocation that is held.
    Allocation,
}

/// A bound on a ratio to the other server.
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    /// The quantity, as [`crate::report`] names it.
    pub quantity: &'static str,
    /// Short of this it is not done.
    pub must: f64,
    /// Where it should be.
    pub aim: f64,
}

impl Bar {
    /// Whether a ratio keeps a bound: more is better for rates, less for all else.
    pub fn holds(&self, ratio: f64, bound: f64) -> bool {
        if self.is_floor() { ratio >= bound } else { ratio <= bound }
    }

    /// Whether more is better.
    pub fn is_floor(&self) -> bool {
        self.quantity == "rate"
    }
}

/// A named scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line and in tables.
    pub name: &'static str,
    /// What `turnpike load` is told, besides what is the same for all.
    pub load: &'static str,
    /// How clients come.
    pub transport: Transport,
    /// turnpike's `relay.moderation_max`.
    pub moderation: &'static str,
    /// Who is compared.
    pub contest: Contest,
    /// What is counted.
    pub unit: Unit,
    /// What was promised.
    pub bars: &'static [Bar],
}

impl Unit {
    /// What a cost is counted in.
    pub fn cost(self) -> &'static str {
        match self {
            Unit::Packet => "ns/pkt",
            Unit::Cycle => "us/cycle",
            Unit::Request => "ns/req",
            Unit::Allocation => "B/alloc",
        }
    }

    /// What a rate is counted in.
    pub fn rate(self) -> &'static str {
        match self {
            Unit::Packet => "pkt/s",
            Unit::Cycle => "cycles/s",
            Unit::Request => "req/s",
            Unit::Allocation => "",
        }
    }
}

/// Every scenario, in the order of the table.
pub const ALL: &[Scenario] = &[
    relay("both-160-1000-20k", "--mode both --allocations 1000 --rate 10000", &[]),
    relay("both-160-1000-50k", "--mode both --allocations 1000 --rate 25000", &[cost(0.90, 0.82)]),
    Scenario {
        moderation: "300us",
        ..relay("both-160-1000-50k-moderated", "--mode both --allocations 1000 --rate 25000", &[cost(0.70, 0.58)])
    },
    relay(
        "flat-both-160-1000",
        "--mode both --allocations 1000 --rate 0 --window 64",
        &[cost(0.78, 0.65), rate(1.25, 1.5)],
    ),
    relay(
        "burst16-1200-gro",
        "--mode to-peer --allocations 100 --rate 0 --window 256 --burst 16 --size 1200 --gso auto",
        &[rate(4.0, 7.0)],
    ),
    // Plain towards the server alone: the generator's sockets let the kernel put together what comes back, for it is the
    // limit here already and would be more so without.
    relay(
        "burst16-1200",
        "--mode to-peer --allocations 100 --rate 0 --window 256 --burst 16 --size 1200 --gso off",
        &[],
    ),
    relay("ind-160-1000-50k", "--mode both --via indication --allocations 1000 --rate 25000", &[cost(0.92, 0.85)]),
    relay("flat-ind", "--mode both --via indication --allocations 1000 --rate 0 --window 64", &[]),
    relay("pair-160-1000-20k", "--mode pair --allocations 1000 --rate 20000", &[]),
    relay("flat-pair", "--mode pair --allocations 1000 --rate 0 --window 64", &[cost(0.60, 0.45)]),
    relay("rtt", "--mode both --allocations 100 --rate 5000", &[Bar { quantity: "p50_us", must: 1.0, aim: 0.92 }]),
    Scenario {
        transport: Transport::Tcp,
        ..relay("tcp-both-160-100-20k", "--mode both --allocations 100 --rate 10000", &[cost(0.85, 0.70)])
    },
    Scenario {
        transport: Transport::Tls,
        ..relay("tls-both-160-100-20k", "--mode both --allocations 100 --rate 10000", &[cost(0.90, 0.75)])
    },
    Scenario {
        transport: Transport::Tcp,
        ..relay("flat-tcp", "--mode both --allocations 100 --rate 0 --window 64", &[])
    },
    Scenario {
        transport: Transport::Tls,
        ..relay("flat-tls", "--mode both --allocations 100 --rate 0 --window 64", &[])
    },
    Scenario { unit: Unit::Cycle, ..relay("cycle", "--mode allocate --allocations 64 --rate 0", &[cost(0.40, 0.20)]) },
    Scenario {
        unit: Unit::Request,
        ..relay("binding", "--mode binding --allocations 64 --rate 0", &[cost(0.75, 0.50)])
    },
    Scenario {
        unit: Unit::Allocation,
        ..relay("rss", "--mode both --allocations 5000 --rate 100", &[cost(0.10, 0.05)])
    },
    Scenario {
        contest: Contest::Workers,
        ..relay("workers-flat", "--mode both --allocations 1000 --rate 0 --window 128 --threads 2", &[rate(1.6, 1.9)])
    },
];

const fn relay(name: &'static str, load: &'static str, bars: &'static [Bar]) -> Scenario {
    Scenario {
        name,
        load,
        transport: Transport::Udp,
        moderation: "0",
        contest: Contest::Servers,
        unit: Unit::Packet,
        bars,
    }
}

const fn cost(must: f64, aim: f64) -> Bar {
    Bar { quantity: "cost", must, aim }
}

const fn rate(must: f64, aim: f64) -> Bar {
    Bar { quantity: "rate", must, aim }
}
