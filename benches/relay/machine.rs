//! What the figures were measured on.

use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, io, process, thread};

/// The machine, as far as a reader of the figures must know it.
#[derive(Debug, Serialize)]
pub struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    clock: String,
    rmem_max: String,
    /// Before the first round: anything near 1 is somebody else's work in the figures.
    load_average: String,
}

impl Machine {
    /// Reads the facts; what can not be read is empty.
    pub fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let cpus = read("/proc/cpuinfo");
        let models = cpus.lines().filter_map(|line| line.strip_prefix("model name"));
        Machine {
            cpu: models.clone().next().unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned(),
            cores: models.count(),
            kernel: read("/proc/sys/kernel/osrelease"),
            clock: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            rmem_max: read("/proc/sys/net/core/rmem_max"),
            load_average: read("/proc/loadavg"),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} cores of {}, Linux {}, clock {}, rmem_max {}, load {}",
            self.cores, self.cpu, self.kernel, self.clock, self.rmem_max, self.load_average
        )
    }
}

/// CPU time that anything has spent on these cores since the machine started, in nanoseconds.
/// The kernel counts it in hundredths of a second.
pub fn busy_ns(cores: [usize; 2]) -> io::Result<u64> {
    const TICK_NS: u64 = 10_000_000;
    let stat = fs::read_to_string("/proc/stat")?;
    let mut ticks = 0;
    for core in cores {
        let name = format!("cpu{core} ");
        let line = stat.lines().find_map(|line| line.strip_prefix(&name));
        let line = line.ok_or_else(|| io::Error::other(format!("there is no core {core}")))?;
        let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        // user, nice, system, not idle, not iowait, irq, softirq, steal; guest time is in user.
        ticks += fields.iter().take(8).sum::<u64>() - fields.iter().skip(3).take(2).sum::<u64>();
    }
    Ok(ticks * TICK_NS)
}

/// Waits until nothing has used these cores for half a second, at most as long as `patience`.
pub fn wait_until_quiet(cores: [usize; 2], patience: Duration) -> io::Result<()> {
    /// CPU time of both cores that does not count as use, in nanoseconds.
    const QUIET_NS: u64 = 50_000_000;
    let began = Instant::now();
    while began.elapsed() < patience {
        let before_ns = busy_ns(cores)?;
        thread::sleep(Duration::from_millis(500));
        if busy_ns(cores)? - before_ns <= QUIET_NS {
            break;
        }
    }
    Ok(())
}

/// A directory for the servers' files that goes when this is dropped.
#[derive(Debug)]
pub struct Rooms(PathBuf);

impl Rooms {
    /// Makes it in the system's directory for temporary files.
    pub fn new() -> io::Result<Self> {
        let path = env::temp_dir().join(format!("turnpike-bench-{}", process::id()));
        fs::create_dir(&path)?;
        Ok(Rooms(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Rooms {
    fn drop(&mut self) {
        // A directory that stays behind is no reason to lose the figures.
        let _ = fs::remove_dir_all(&self.0);
    }
}
