//! What another program of this machine has used, as `/proc` has it.

use std::{fs, io};

/// Nanoseconds in a tick of `/proc/PID/stat`: Linux reports in hundredths of a second on every machine it runs on here.
const TICK_NS: u64 = 10_000_000;

/// What a program has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all its threads, in nanoseconds, known to a hundredth of a second.
    pub cpu_ns: u64,
    /// Memory it holds, in KiB.
    pub rss_kib: u64,
}

impl Usage {
    /// Looks at a program.
    pub fn of(pid: u32) -> io::Result<Usage> {
        let read = |file: &str| {
            let text = fs::read_to_string(format!("/proc/{pid}/{file}"));
            text.map_err(|error| io::Error::new(error.kind(), format!("the program {pid} can not be watched: {error}")))
        };
        let wrong = || io::Error::other(format!("/proc/{pid} is not as expected"));
        let cpu_ns = cpu_ns(&read("stat")?).ok_or_else(wrong)?;
        let rss_kib = rss_kib(&read("status")?).ok_or_else(wrong)?;
        Ok(Usage { cpu_ns, rss_kib })
    }
}

/// utime and stime, the 14th and 15th field; the 2nd is a name in parentheses that may hold anything.
fn cpu_ns(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) * TICK_NS)
}

fn rss_kib(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 1 0 9 8 7";
        assert_eq!(cpu_ns(stat), Some(3_000_000_000));
        assert_eq!(cpu_ns("7 (a"), None);
        assert_eq!(rss_kib("VmSize:\t 9 kB\nVmRSS:\t  1234 kB\n"), Some(1234));
    }

    #[test]
    fn one_can_watch_oneself_and_nobody_who_is_not_there() {
        assert!(Usage::of(std::process::id()).unwrap().rss_kib > 0);
        let error = Usage::of(u32::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
