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
    /// What the workers were told last. They hold it too: none of them is to be the one that frees it.
    told: Mutex<Arc<auth::Revocations>>,
    /// A worker could not be told.
    untold: AtomicBool,
    /// Held while the list changes, the disk included.
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    file: Option<PathBuf>,
    seen: Watch,
    /// What is in force and not in the file yet: taken on, taken off.
    added: Ids,
    removed: Ids,
    /// Writing failed the last time; that is said once.
    failed: bool,
    /// The file could not be read: what someone writes there is not to be lost.
    faulty: bool,
}

impl Shelf {
    fn is_unwritten(&self) -> bool {
        !self.added.is_empty() || !self.removed.is_empty()
    }

    /// The file's list with what is not written yet.
    fn brought_up_to_date(&self, mut ids: Ids) -> Ids {
        ids.retain(|id| !self.removed.contains(id));
        ids.extend(self.added.iter().cloned());
        ids
    }

    fn add(&mut self, id: RevokedId) {
        self.removed.remove(&id);
        self.added.insert(id);
    }

    fn remove(&mut self, id: RevokedId) {
        self.added.remove(&id);
        self.removed.insert(id);
    }
}

impl Book {
    /// A list that is kept in a file, if one is named, and that the workers know.
    pub fn open(workers: Workers, file: Option<PathBuf>) -> Book {
        let shelf = Shelf::default();
        let book = Book {
            workers,
            ids: ArcSwap::default(),
            is_kept: AtomicBool::new(false),
            told: Mutex::default(),
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
            shelf.added = Ids::clone(&self.ids.load());
            shelf.removed.clear();
            shelf.file = file;
            if let Some(path) = &shelf.file
                && let Err(error) = file::try_to_write(path)
            {
                let path = path.display();
                tracing::warn!(%path, %error, "who is revoked is kept in memory only until this file can be written");
            }
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
        let is_due = shelf.is_unwritten() && shelf.file.is_some() && !shelf.seen.is_stale();
        if is_due && self.write(&mut shelf).is_ok() {
            tracing::info!("the list of the revoked is written again");
        }
    }

    fn read(&self, shelf: &mut Shelf) -> Result<(), Fault> {
        let Some(path) = shelf.file.clone() else { return Ok(()) };
        shelf.seen = Watch::new(vec![path.clone()]);
        if !path.exists() && !self.ids.load().is_empty() {
            tracing::error!(path = %path.display(), "the list of the revoked is gone; it holds, and is written anew");
            shelf.added = Ids::clone(&self.ids.load());
        }
        let read = file::read(&path);
        shelf.faulty = read.is_err();
        self.put(shelf.brought_up_to_date(read?));
        if shelf.is_unwritten() {
            // Why it failed is in the log.
            let _ = self.write(shelf);
        }
        Ok(())
    }

    /// Takes in what somebody else is writing; true while they may not have come to an end. Until
    /// then nobody is taken off the list, which could be half of one, and nothing is written over it.
    fn catch_up(&self, shelf: &mut Shelf) -> bool {
        let is_stale = shelf.seen.is_stale();
        if is_stale {
            let read = shelf.file.as_deref().map_or(Ok(Ids::default()), file::read);
            shelf.faulty = read.is_err();
            // What is wrong with it is said once it has come to an end.
            let mut ids = shelf.brought_up_to_date(read.unwrap_or_default());
            ids.extend(self.ids.load().iter().cloned());
            self.put(ids);
        }
        is_stale
    }

    /// Writes the list, or says in the log why not.
    fn write(&self, shelf: &mut Shelf) -> Result<Kept, ()> {
        let Some(path) = &shelf.file else { return Ok(Kept::Memory) };
        if shelf.faulty {
            return Err(());
        }
        let written = file::write(path, &self.ids.load());
        shelf.seen = Watch::new(vec![path.clone()]);
        match written {
            Ok(()) => {
                shelf.added.clear();
                shelf.removed.clear();
                shelf.failed = false;
                Ok(Kept::File)
            }
            Err(error) => {
                if !shelf.failed {
                    tracing::error!(%error, path = %path.display(), "the list of the revoked can not be written");
                }
                shelf.failed = true;
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
        let before = std::mem::replace(&mut *self.told.lock(), revocations.clone());
        let told = self.workers.tell_all(|| Command::Revoke(revocations.clone()));
        if !told {
            tracing::error!("a worker could not be told who is revoked; it is told again");
        }
        self.untold.store(!told, Ordering::Relaxed);
        let obeyed = told && super::serve::settle(&self.workers);
        drop(before);
        obeyed
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
        let is_stale = self.catch_up(&mut shelf);
        let mut ids = Ids::clone(&self.ids.load());
        let len: usize = ids.iter().map(|id| id.as_str().len()).sum();
        if !ids.contains(&id) && (ids.len() >= auth::REVOCATIONS_MAX || len + id.as_str().len() > IDS_LEN_MAX) {
            return Err(Unkept::Full);
        }
        let is_new = ids.insert(id.clone());
        if is_new {
            shelf.add(id.clone());
        }
        let before = self.ended();
        let obeyed = self.put(ids) && self.wait_for_the_last(&id);
        let sessions_ended = self.ended().wrapping_sub(before);
        tracing::info!(id = %id, sessions_ended, "revoked by the operator");
        let kept = match shelf.is_unwritten() && (!is_stale || shelf.faulty) {
            true => self.write(&mut shelf),
            // Written as soon as whoever writes has come to an end.
            false => Ok(self.kept()),
        };
        let kept = kept.map_err(|()| Unkept::Unwritten(sessions_ended))?;
        Ok(Revoked { is_new, sessions_ended, partial: !obeyed, kept })
    }

    fn restore(&self, id: &RevokedId) -> Result<bool, Unkept> {
        let mut shelf = self.shelf.lock();
        let is_stale = self.catch_up(&mut shelf);
        let mut ids = Ids::clone(&self.ids.load());
        if !ids.remove(id) {
            return Ok(false);
        }
        shelf.remove(id.clone());
        self.put(ids);
        tracing::info!(id = %id, "taken again by the operator");
        if !is_stale || shelf.faulty {
            self.write(&mut shelf).map_err(|()| Unkept::Unwritten(0))?;
        }
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
    fn half_a_list_takes_nobody_off_it_and_is_not_written_over() {
        let kept = Shown::new("half", "alice\nbob\ncarol\n");
        let file = kept.1.join("list");
        fs::write(&file, "alic").unwrap();
        assert!(kept.revoke("dave").unwrap().is_new);
        assert!(["alice", "bob", "carol", "dave"].iter().all(|id| kept.0.is_revoked(id)));
        assert_eq!(fs::read_to_string(&file).unwrap(), "alic", "whoever writes it may go on");
        kept.0.look();
        assert_eq!(kept.restore("bob"), Ok(true));
        assert_eq!(fs::read_to_string(&file).unwrap(), "alic", "they may go on yet");
        fs::write(&file, "alice\nbob\neve\n").unwrap();
        for _ in 0..2 {
            kept.0.look();
        }
        let ids: Vec<String> = file::read(&file).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(ids, ["alice", "dave", "eve"]);
    }

    #[test]
    fn who_is_taken_off_a_list_that_can_not_be_written_stays_off_it() {
        let kept = Shown::new("off", "alice\nbob\n");
        // Where the new one would be is a directory with something in it.
        let obstacle = kept.1.join("list.new");
        fs::create_dir_all(obstacle.join("x")).unwrap();
        assert_eq!(kept.restore("alice"), Err(Unkept::Unwritten(0)));
        kept.0.follow(Some(kept.1.join("list")));
        assert!(!kept.0.is_revoked("alice"), "whatever is read again");
        fs::remove_dir_all(obstacle).unwrap();
        kept.0.look();
        assert_eq!((kept.written(), kept.0.is_revoked("bob")), (1, true));
    }

    #[test]
    fn a_list_that_vanishes_holds_and_is_written_anew() {
        let kept = Shown::new("gone", "alice\n");
        fs::remove_file(kept.1.join("list")).unwrap();
        for _ in 0..2 {
            kept.0.look();
        }
        assert!(kept.0.is_revoked("alice"));
        assert_eq!(kept.written(), 1);
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
