//! Files that change under a running server: certificates, keys, secrets.

use std::fs::metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What tells that a file is another one or has changed: device, inode, length, time of change.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// The files that are watched, by looking at them now and then.
#[derive(Debug, Default)]
pub struct Watch {
    files: Vec<PathBuf>,
    seen: Vec<Stamp>,
    changed: bool,
}

impl Watch {
    /// Watches these from now on.
    pub fn new(files: Vec<PathBuf>) -> Self {
        let seen = files.iter().map(stamp).collect();
        Watch { files, seen, changed: false }
    }

    /// Takes all as it is now for told: it is about to be read.
    pub fn catch_up(&mut self) {
        self.seen = self.files.iter().map(stamp).collect();
        self.changed = false;
    }

    /// Watches these from now on; those that were watched before, as they were seen last.
    pub fn follow(&mut self, files: Vec<PathBuf>) {
        let seen = |file: &PathBuf| match self.files.iter().position(|known| known == file) {
            Some(at) => self.seen[at],
            None => stamp(file),
        };
        self.seen = files.iter().map(seen).collect();
        self.files = files;
    }

    /// Whether something has changed that was not told yet: whoever changes it may go on.
    pub fn is_stale(&self) -> bool {
        self.changed || self.files.iter().map(stamp).ne(self.seen.iter().copied())
    }

    /// Looks again. True when something has changed since the last time it was true, and not
    /// since the last look: who writes two files, or one slowly, has come to an end.
    pub fn look(&mut self) -> bool {
        let seen: Vec<Stamp> = self.files.iter().map(stamp).collect();
        if seen != self.seen {
            (self.seen, self.changed) = (seen, true);
            return false;
        }
        std::mem::take(&mut self.changed)
    }
}

fn stamp(path: &PathBuf) -> Stamp {
    let found = metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_when_it_has_come_to_an_end() {
        let folder = std::env::temp_dir().join(format!("turnpike-watch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [cert, key] = ["cert", "key"].map(|name| folder.join(name));
        std::fs::write(&cert, "1").unwrap();
        let mut watch = Watch::new(vec![cert.clone(), key.clone()]);
        assert!(!watch.look() && !watch.is_stale());
        std::fs::write(&key, "2").unwrap();
        assert!(watch.is_stale());
        assert!(!watch.look(), "it may go on");
        assert!(watch.is_stale());
        std::fs::write(&cert, "33").unwrap();
        assert!(!watch.look(), "it goes on");
        assert!(watch.look());
        assert!(!watch.look() && !watch.is_stale(), "it was told");
        watch.catch_up();
        std::fs::write(&cert, "444").unwrap();
        watch.follow(vec![key.clone(), cert.clone()]);
        assert!(!watch.look());
        assert!(watch.look(), "it was changed after it was read");
        std::fs::remove_file(&key).unwrap();
        assert!(!watch.look());
        assert!(watch.look());
        std::fs::remove_dir_all(folder).unwrap();
        assert!(!Watch::default().look() && !Watch::default().is_stale(), "nothing is always as it was");
    }
}
