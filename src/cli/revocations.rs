//! Keeps who is revoked: in memory, with the workers, and in the file.
//!
//! The file is the truth where there is one. What could not be written holds all the same, and is
//! written as soon as that is possible.

use super::watch::Watch;
use crate::bus::{Command, Workers};
use crate::config::{Fault, revocations as file};
use crate::http::revocations::{IDS_LEN_MAX, Kept, Revocations, Revoked, RevokedId, Unkept};
use crate::turn::{EndReason, auth};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

type Ids = BTreeSet<RevokedId>;

/// The list and its keeper.
pub struct Book {
    workers: Workers,
    /// What is in force; read without waiting.
    ids: ArcSwap<Ids>,
    is_kept: AtomicBool,
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
        let book = Book { workers, ids: ArcSwap::default(), is_kept: AtomicBool::new(false), shelf: Mutex::new(shelf) };
        book.follow(file);
        book
    }

    /// Whether there is a file to look at now and then.
    pub fn has_file(&self) -> bool {
        self.is_kept.load(Ordering::Relaxed)
    }

    fn kept(&self) -> Kept {
        if self.has_file() { Kept::File } else { Kept::Memory }
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

    /// Reads the file when somebody else has changed it, and writes what could not be written.
    pub fn look(&self) {
        // Whoever changes the list looks too.
        let Some(mut shelf) = self.shelf.try_lock() else { return };
        if shelf.seen.look() {
            match self.read(&mut shelf) {
                Ok(()) => tracing::info!(revoked = self.ids.load().len(), "the list of the revoked was read again"),
                Err(fault) => tracing::error!("the list of the revoked stays as it was: {fault}"),
            }
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

    /// Puts a list in force. Says how many sessions that ended, and whether all workers have answered.
    fn put(&self, ids: Ids) -> (u64, bool) {
        if ids.is_empty() && self.ids.load().is_empty() {
            return (0, true);
        }
        let ended = || self.workers.stats.iter().map(|stats| stats.ended_total(EndReason::Revoked)).sum::<u64>();
        let before = ended();
        let mut revocations = auth::Revocations::default();
        for id in &ids {
            if let Err(error) = revocations.insert(id.as_str()) {
                tracing::error!(id = %id, "not revoked: {error}");
            }
        }
        let revocations = Arc::new(revocations);
        self.ids.store(Arc::new(ids));
        let told = self.workers.tell_all(|| Command::Revoke(revocations.clone()));
        let obeyed = super::serve::settle(&self.workers);
        (ended().wrapping_sub(before), told && obeyed)
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
        // Those who are told again obey again: it mends what a worker missed.
        let (sessions_ended, all) = self.put(ids);
        tracing::info!(id = %id, sessions_ended, "revoked by the operator");
        let kept = match is_new || shelf.unwritten {
            true => self.write(&mut shelf),
            false => Ok(self.kept()),
        };
        let kept = kept.map_err(|()| Unkept::Unwritten(sessions_ended))?;
        Ok(Revoked { is_new, sessions_ended, partial: !all, kept })
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
