//! What the process uses, read from `/proc/self`.

use std::fs;
use std::path::Path;

/// Ticks a second in `/proc`: fixed by the kernel's interface (USER_HZ).
const TICKS_PER_S: f64 = 100.0;

/// What the process uses now. What `/proc` does not tell is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processor time, user and system, in seconds.
    pub cpu_s: f64,
    /// Memory in RAM, in bytes.
    pub resident_bytes: u64,
    /// Address space, in bytes.
    pub virtual_bytes: u64,
    /// Open files.
    pub open_fds: u64,
    /// Files that may be open.
    pub max_fds: u64,
    /// Threads.
    pub threads: u64,
    /// When it started, in seconds since 1970.
    pub started_unix_s: f64,
}

impl Usage {
    /// Reads it; some tens of microseconds.
    pub fn now() -> Self {
        Usage::read(Path::new("/proc")).unwrap_or_default()
    }

    fn read(proc: &Path) -> Option<Self> {
        let text = |name: &str| fs::read_to_string(proc.join(name)).ok();
        let stat = text("self/stat")?;
        // The name of the program stands in parentheses and may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // proc(5) numbers fields from 1, and the first one here is number 3.
        let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok());
        let status = text("self/status")?;
        let boot_unix_s = keyed(&text("stat")?, "btime").unwrap_or(0);
        Some(Usage {
            cpu_s: (field(14)? + field(15)?) as f64 / TICKS_PER_S,
            resident_bytes: keyed(&status, "VmRSS:").unwrap_or(0) * 1024,
            virtual_bytes: keyed(&status, "VmSize:").unwrap_or(0) * 1024,
            open_fds: open_files(&proc.join("self/fd")),
            max_fds: keyed(&text("self/limits")?, "Max open files").unwrap_or(0),
            threads: field(20)?,
            started_unix_s: boot_unix_s as f64 + field(22)? as f64 / TICKS_PER_S,
        })
    }
}

/// The number after a key at the beginning of a line.
fn keyed(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn open_files(folder: &Path) -> u64 {
    // Linux 6.2 and later tell the number as the directory's size; earlier ones say 0.
    match fs::metadata(folder).map(|metadata| metadata.len()) {
        Ok(count) if count > 0 => count,
        // One is the directory that is being read.
        _ => fs::read_dir(folder).map_or(0, |entries| (entries.count() as u64).saturating_sub(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::now();
        assert!(usage.resident_bytes > 1 << 20 && usage.virtual_bytes >= usage.resident_bytes, "{usage:?}");
        assert!(usage.open_fds >= 3 && usage.max_fds >= usage.open_fds && usage.threads >= 1, "{usage:?}");
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        assert!(usage.started_unix_s <= now_s + 1.0 && usage.started_unix_s > now_s - 86_400.0, "{usage:?}");
    }

    #[test]
    fn an_open_file_counts() {
        let before = open_files(Path::new("/proc/self/fd"));
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").expect("a file opens")).collect();
        let after = open_files(Path::new("/proc/self/fd"));
        drop(files);
        // Tests beside this one open and close some of their own.
        assert!(after >= before + 25, "{before} {after}");
    }

    #[test]
    fn the_unlimited_is_not_a_number() {
        assert_eq!(keyed("Max open files            unlimited  unlimited  files\n", "Max open files"), None);
        assert_eq!(keyed("Max open files            1024  4096  files\n", "Max open files"), Some(1024));
    }
}
