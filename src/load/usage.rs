//! What another program of this machine has used, as `/proc` has it.

use std::{fs, io};

/// What a thread has used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadUsage {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Time it had a core, in nanoseconds.
    pub cpu_ns: u64,
    /// How often it was put on one.
    pub turns: u64,
}

/// What a program has used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Of the threads it has, at least one; those that have ended are not counted.
    pub threads: Vec<ThreadUsage>,
    /// Memory it holds, in KiB.
    pub rss_kib: u64,
}

impl Usage {
    /// Looks at a program.
    pub fn of(pid: u32) -> io::Result<Usage> {
        let failed =
            |error: io::Error| io::Error::new(error.kind(), format!("the program {pid} can not be watched: {error}"));
        let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(failed)?;
        let wrong = || io::Error::other(format!("/proc/{pid}/status is not as expected"));
        let rss_kib = rss_kib(&status).ok_or_else(wrong)?;
        let mut threads = Vec::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task")).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let read = |file: &str| fs::read_to_string(entry.path().join(file));
            match read("schedstat").and_then(|stat| Ok((stat, read("comm")?))) {
                Ok((stat, name)) => threads.extend(thread_usage(id, name.trim_end(), &stat)),
                // A thread may end while it is looked at.
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if threads.is_empty() {
            let why = "no thread of it has a schedstat, which the kernel keeps with CONFIG_SCHED_INFO";
            return Err(failed(io::Error::other(why)));
        }
        Ok(Usage { threads, rss_kib })
    }

    /// What has been used since an earlier look, thread by thread.
    pub fn since(&self, earlier: &Usage) -> Vec<ThreadUsage> {
        let used = |now: &ThreadUsage| {
            let then = earlier.threads.iter().find(|then| then.id == now.id);
            let (cpu_ns, turns) = then.map_or((0, 0), |then| (then.cpu_ns, then.turns));
            let (cpu_ns, turns) = (now.cpu_ns.saturating_sub(cpu_ns), now.turns.saturating_sub(turns));
            ThreadUsage { cpu_ns, turns, ..now.clone() }
        };
        self.threads.iter().map(used).collect()
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// Time on a core and the number of turns are the first and the third field; the second is time in the queue.
fn thread_usage(id: u64, name: &str, schedstat: &str) -> Option<ThreadUsage> {
    let mut fields = schedstat.split_whitespace().map(str::parse);
    let cpu_ns = fields.next()?.ok()?;
    let turns = fields.nth(1)?.ok()?;
    Some(ThreadUsage { id, name: name.to_owned(), cpu_ns, turns })
}

fn rss_kib(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found() {
        let thread = thread_usage(7, "relay-0", "3000000000 5 42\n").unwrap();
        assert_eq!((thread.name.as_str(), thread.cpu_ns, thread.turns), ("relay-0", 3_000_000_000, 42));
        assert_eq!(thread_usage(7, "relay-0", "3000000000 5"), None);
        assert_eq!(rss_kib("VmSize:\t 9 kB\nVmRSS:\t  1234 kB\n"), Some(1234));
    }

    #[test]
    fn a_thread_that_is_new_has_used_all_it_has() {
        let thread = |id, cpu_ns, turns| ThreadUsage { id, name: "x".into(), cpu_ns, turns };
        let then = Usage { threads: vec![thread(1, 10, 2), thread(2, 7, 1)], rss_kib: 0 };
        let now = Usage { threads: vec![thread(1, 15, 3), thread(3, 4, 9)], rss_kib: 0 };
        assert_eq!(now.since(&then), [thread(1, 5, 1), thread(3, 4, 9)]);
    }

    #[test]
    fn one_can_watch_oneself_and_nobody_who_is_not_there() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss_kib > 0 && usage.threads.iter().any(|thread| thread.turns > 0), "{usage:?}");
        let error = Usage::of(u32::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
