//! Keeps who is revoked: in memory, with the workers, and in the file.
//!
//! The file is the truth where there is one. What could not be written holds all the same, and is
//! written as soon as that is possible.

use super::watch::Watch;
use crate::bus::{self, Command, Reply, SessionPage, Workers};
use crate::config::{Fault, revocations as file};
use crate::http::revocations::{IDS_LEN_MAX, Kept, Revocations, Revoked, RevokedId, Unkept};
use crate::turn::{EndReason, auth};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the sessions of one who is revoked may take to end.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether they have.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

type Ids = BTreeSet<RevokedId>;

/// The list and its keeper.
pub struct Book {
    workers: Workers,
    /// What is in force; read without waiting.
    ids: ArcSwap<Ids>,
    is_kept: AtomicBool,
    /// A worker could not be told.
    untold: AtomicBool,
    /// Held while the list changes, the disk included.
    shelf: Mutex<Shelf>,
}

struct Shelf {
    file: Option<PathBuf>,
    seen: Watch,
    /// The file does not say what is in force.
    unwritten: bool,
    /// The file could not be read: what someone writes there is not to be lost.
    faulty: bool,
}

impl Book {
    /// A list that is kept in a file, if one is named, and that the workers know.
    pub fn open(workers: Workers, file: Option<PathBuf>) -> Book {
        let shelf = Shelf { file: None, seen: Watch::default(), unwritten: false, faulty: false };
        let book = Book {
            workers,
            ids: ArcSwap::default(),
            is_kept: AtomicBool::new(false),
            untold: AtomicBool::new(false),
            shelf: Mutex::new(shelf),
        };
        book.follow(file);
        book
    }

    fn kept(&self) -> Kept {
        if self.is_kept.load(Ordering::Relaxed) { Kept::File } else { Kept::Memory }
    }

    /// Keeps the list in this file from now on, and reads it.
    pub fn follow(&self, file: Option<PathBuf>) {
        let mut shelf = self.shelf.lock();
        if shelf.file != file {
            // What the new file does not have yet is not to be lost.
            shelf.unwritten = !self.ids.load().is_empty();
            shelf.file = file;
        }
        self.is_kept.store(shelf.file.is_some(), Ordering::Relaxed);
        if let Err(fault) = self.read(&mut shelf) {
            tracing::error!("the list of the revoked stays as it was: {fault}");
        }
    }

    /// Reads the file when somebody else has changed it, writes what could not be written, and tells
    /// the workers what they could not be told.
    pub fn look(&self) {
        // Whoever changes the list looks too.
        let Some(mut shelf) = self.shelf.try_lock() else { return };
        if shelf.seen.look() {
            match self.read(&mut shelf) {
                Ok(()) => tracing::info!(revoked = self.ids.load().len(), "the list of the revoked was read again"),
                Err(fault) => tracing::error!("the list of the revoked stays as it was: {fault}"),
            }
        }
        if self.untold.load(Ordering::Relaxed) {
            self.put(Ids::clone(&self.ids.load()));
        }
        if shelf.unwritten && shelf.file.is_some() && self.write(&mut shelf).is_ok() {
            tracing::info!("the list of the revoked is written again");
        }
    }

    fn read(&self, shelf: &mut Shelf) -> Result<(), Fault> {
        let Some(path) = shelf.file.clone() else { return Ok(()) };
        shelf.seen = Watch::new(vec![path.clone()]);
        let read = file::read(&path);
        shelf.faulty = read.is_err();
        let mut ids = read?;
        if shelf.unwritten {
            ids.extend(self.ids.load().iter().cloned());
            self.put(ids);
            // Why it failed is in the log.
            let _ = self.write(shelf);
        } else {
            self.put(ids);
        }
        Ok(())
    }

    /// Reads what somebody else has written meanwhile: it is not to be written over.
    fn catch_up(&self, shelf: &mut Shelf) {
        if shelf.seen.is_stale()
            && let Err(fault) = self.read(shelf)
        {
            tracing::error!("the list of the revoked stays as it was: {fault}");
        }
    }

    /// Writes the list, or says in the log why not.
    fn write(&self, shelf: &mut Shelf) -> Result<Kept, ()> {
        let Some(path) = &shelf.file else { return Ok(Kept::Memory) };
        if shelf.faulty {
            shelf.unwritten = true;
            return Err(());
        }
        let written = file::write(path, &self.ids.load());
        shelf.seen = Watch::new(vec![path.clone()]);
        match written {
            Ok(()) => {
                shelf.unwritten = false;
                Ok(Kept::File)
            }
            Err(error) => {
                if !shelf.unwritten {
                    tracing::error!(%error, path = %path.display(), "the list of the revoked can not be written");
                }
                shelf.unwritten = true;
                Err(())
            }
        }
    }

    /// Puts a list in force. False when a worker has not been told or has not answered.
    fn put(&self, ids: Ids) -> bool {
        if ids == **self.ids.load() && !self.untold.load(Ordering::Relaxed) {
            return true;
        }
        let mut revocations = auth::Revocations::default();
        for id in &ids {
            if let Err(error) = revocations.insert(id.as_str()) {
                tracing::error!(id = %id, "not revoked: {error}");
            }
        }
        let revocations = Arc::new(revocations);
        self.ids.store(Arc::new(ids));
        let told = self.workers.tell_all(|| Command::Revoke(revocations.clone()));
        if !told {
            tracing::error!("a worker could not be told who is revoked; it is told again");
        }
        self.untold.store(!told, Ordering::Relaxed);
        told && super::serve::settle(&self.workers)
    }

    /// Sessions that were ended for being revoked, since the start.
    fn ended(&self) -> u64 {
        self.workers.stats.iter().map(|stats| stats.ended_total(EndReason::Revoked)).sum()
    }

    /// Waits until the last session of an id has ended: workers end many of them bit by bit. False
    /// when that takes too long.
    fn wait_for_the_last(&self, id: &RevokedId) -> bool {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.has_sessions(id, end) {
                Some(false) => return true,
                Some(true) if Instant::now() < end => std::thread::sleep(LOOK_AGAIN),
                _ => return false,
            }
        }
    }

    /// Whether any worker has a session of this id; `None` when one does not answer.
    fn has_sessions(&self, id: &RevokedId, end: Instant) -> Option<bool> {
        let is_of = |session: &bus::Session| {
            *session.account.payer == *id.as_str() || *session.account.username == *id.as_str().as_bytes()
        };
        for mailbox in &self.workers.mailboxes {
            let mut next = Some(0);
            while let Some(from) = next {
                let (give, page) = crossbeam_channel::bounded(1);
                // Whoever waited may have lost patience.
                let reply = Reply::new(move |page| give.send(page).unwrap_or_default());
                mailbox.send(Command::Sessions { from, reply }).ok()?;
                let page: SessionPage = page.recv_deadline(end).ok()?;
                if page.sessions.iter().any(is_of) {
                    return Some(true);
                }
                next = page.next;
            }
        }
        Some(false)
    }
}

impl Revocations for Book {
    fn is_revoked(&self, id: &str) -> bool {
        self.ids.load().contains(id)
    }

    fn list(&self) -> (Vec<RevokedId>, Kept) {
        (self.ids.load().iter().cloned().collect(), self.kept())
    }

    fn revoke(&self, id: RevokedId) -> Result<Revoked, Unkept> {
        let mut shelf = self.shelf.lock();
        self.catch_up(&mut shelf);
        let mut ids = Ids::clone(&self.ids.load());
        let len: usize = ids.iter().map(|id| id.as_str().len()).sum();
        if !ids.contains(&id) && (ids.len() >= auth::REVOCATIONS_MAX || len + id.as_str().len() > IDS_LEN_MAX) {
            return Err(Unkept::Full);
        }
        let is_new = ids.insert(id.clone());
        let before = self.ended();
        let obeyed = self.put(ids) && self.wait_for_the_last(&id);
        let sessions_ended = self.ended().wrapping_sub(before);
        tracing::info!(id = %id, sessions_ended, "revoked by the operator");
        let kept = match is_new || shelf.unwritten {
            true => self.write(&mut shelf),
            false => Ok(self.kept()),
        };
        let kept = kept.map_err(|()| Unkept::Unwritten(sessions_ended))?;
        Ok(Revoked { is_new, sessions_ended, partial: !obeyed, kept })
    }

    fn restore(&self, id: &RevokedId) -> Result<bool, Unkept> {
        let mut shelf = self.shelf.lock();
        self.catch_up(&mut shelf);
        let mut ids = Ids::clone(&self.ids.load());
        if !ids.remove(id) {
            return Ok(false);
        }
        self.put(ids);
        tracing::info!(id = %id, "taken again by the operator");
        self.write(&mut shelf).map_err(|()| Unkept::Unwritten(0))?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A list in a folder of its own, without workers.
    struct Shown(Book, PathBuf);

    impl Shown {
        fn new(name: &str, text: &str) -> Shown {
            let folder = std::env::temp_dir().join(format!("turnpike-book-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("list"), text).unwrap();
            let workers =
                Workers { mailboxes: Vec::new(), stats: Vec::new(), notices: bus::notices().1, listening: Vec::new() };
            Shown(Book::open(workers, Some(folder.join("list"))), folder)
        }

        fn revoke(&self, id: &str) -> Result<Revoked, Unkept> {
            self.0.revoke(id.parse().unwrap())
        }

        fn restore(&self, id: &str) -> Result<bool, Unkept> {
            self.0.restore(&id.parse().unwrap())
        }

        fn written(&self) -> usize {
            file::read(&self.1.join("list")).unwrap().len()
        }
    }

    impl Drop for Shown {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.1);
        }
    }

    #[test]
    fn there_are_so_many_ids_and_not_one_more() {
        let text: String = (1..auth::REVOCATIONS_MAX).map(|id| format!("{id}\n")).collect();
        let kept = Shown::new("number", &text);
        assert!(kept.revoke("alice").unwrap().is_new);
        assert_eq!(kept.revoke("bob"), Err(Unkept::Full));
        assert!(!kept.0.is_revoked("bob"));
        assert!(!kept.revoke("alice").unwrap().is_new, "who is on it stays on it");
        assert_eq!((kept.restore("7"), kept.restore("7")), (Ok(true), Ok(false)));
        assert!(kept.revoke("bob").unwrap().is_new);
        assert_eq!(kept.written(), auth::REVOCATIONS_MAX);
    }

    #[test]
    fn there_are_so_many_bytes_and_not_one_more() {
        let id = |number: usize| format!("{number:0>width$}", width = auth::REVOKED_LEN_MAX);
        let full = IDS_LEN_MAX / auth::REVOKED_LEN_MAX;
        let text: String = (0..full).map(|number| id(number) + "\n").collect();
        let kept = Shown::new("bytes", &text);
        let left = IDS_LEN_MAX - full * auth::REVOKED_LEN_MAX;
        assert_eq!(kept.revoke(&"x".repeat(left + 1)), Err(Unkept::Full));
        assert!(kept.revoke(&"x".repeat(left)).unwrap().is_new);
        assert_eq!(kept.revoke("y"), Err(Unkept::Full));
        assert_eq!(kept.written(), full + 1);
    }

    #[test]
    fn another_file_gets_what_it_does_not_have() {
        let kept = Shown::new("moved", "alice\n");
        assert_eq!(kept.revoke("bob").unwrap().kept, Kept::File);
        let other = kept.1.join("other");
        fs::write(&other, "carol\n").unwrap();
        kept.0.follow(Some(other.clone()));
        assert_eq!(file::read(&other).unwrap().len(), 3);
        kept.0.follow(None);
        assert_eq!(kept.revoke("dave").unwrap().kept, Kept::Memory);
        assert!(kept.0.is_revoked("carol"));
        assert_eq!(file::read(&other).unwrap().len(), 3, "it is not written any more");
        kept.0.follow(Some(other.clone()));
        assert_eq!(file::read(&other).unwrap().len(), 4);
    }
}
