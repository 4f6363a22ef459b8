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

/// Cores that servers and generators run on.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    /// The server's.
    pub server: usize,
    /// The generator's.
    pub generator: usize,
}

impl Cores {
    /// Those of two workers and of their generator: of each its own, where there are enough, and else the same.
    pub fn for_workers(self) -> [Vec<usize>; 2] {
        let (server, generator) = (self.server, self.generator);
        if !has_cores_for_workers() {
            return [vec![server, generator], vec![server, generator]];
        }
        let mut rest = (0..).filter(|core| ![server, generator].contains(core));
        [server, generator].map(|core| vec![core, rest.next().unwrap_or(core)])
    }
}

/// Cores as `taskset` takes them.
pub fn core_list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// Whether two workers and a generator of two threads have a core each.
pub fn has_cores_for_workers() -> bool {
    thread::available_parallelism().is_ok_and(|cores| cores.get() >= 4)
}

/// Nanoseconds in a tick of `/proc`, which counts in hundredths of a second.
const TICK_NS: u64 = 10_000_000;

/// CPU time that anything has spent on these cores since the machine started, in nanoseconds.
pub fn busy_ns(cores: &[usize]) -> io::Result<u64> {
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

/// CPU time that this program and those it has started and seen end have used, in nanoseconds.
pub fn own_ns() -> io::Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    // utime, stime, cutime and cstime are the fields 14 to 17; the third follows the name.
    let ticks: u64 = fields.skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks * TICK_NS)
}

/// Waits until nothing has used these cores for half a second, at most as long as `patience`.
pub fn wait_until_quiet(cores: &[usize], patience: Duration) -> io::Result<()> {
    /// CPU time of all of them that does not count as use, in nanoseconds.
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
