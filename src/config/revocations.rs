//! The file of those who are revoked: one id a line, read by the server and written by it.

use super::document::Document;
use super::fault::Fault;
use super::layers::Origins;
use crate::http::revocations::{IDS_LEN_MAX, RevokedId};
use crate::turn::auth::REVOCATIONS_MAX;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What a file that the server writes begins with.
const HEAD: &str = "# Refused by this server, one id a line. The server rewrites this file.\n";
/// Longest file that is read, in bytes: every id, a line's end for each, and room for comments.
const FILE_LEN_MAX: usize = IDS_LEN_MAX + 2 * REVOCATIONS_MAX + (1 << 20);
/// The file's name in the state directory.
const FILE_NAME: &str = "revocations";

/// Where the file is, if there is one: `auto` is the directory systemd made for the service's state.
pub fn place(key: &str, configured: &str, origins: &Origins) -> Result<Option<PathBuf>, Fault> {
    let path = match configured {
        "" => return Ok(None),
        "auto" => {
            let directories = std::env::var_os("STATE_DIRECTORY").unwrap_or_default();
            // There may be several, with colons between them.
            match std::env::split_paths(&directories).next().filter(|first| first.is_absolute()) {
                Some(directory) => directory.join(FILE_NAME),
                None => return Ok(None),
            }
        }
        path => origins.path(key, path),
    };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match directory.is_dir() {
        true => Ok(Some(path)),
        false => Err(origins
            .fault(key, format!("{} is not a directory", directory.display()))
            .hint("make it, and let the server write there; \"\" keeps revocations in memory only")),
    }
}

/// The ids in a file; none if there is no such file.
pub fn read(path: &Path) -> Result<BTreeSet<RevokedId>, Fault> {
    let refuse = |what: String| Fault::new(what).at(path.display().to_string());
    let text = match text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(refuse(format!("the revocations can not be read: {error}"))),
    };
    let (mut ids, mut len, mut at) = (BTreeSet::new(), 0, 0);
    for line in text.split_inclusive('\n') {
        let start = at + (line.len() - line.trim_start().len());
        at += line.len();
        let id = line.trim();
        if id.is_empty() || id.starts_with('#') {
            continue;
        }
        let fault = |what: String| Document::file(path, text.clone()).fault(start..start + id.len(), what);
        len += id.len();
        ids.insert(id.parse::<RevokedId>().map_err(fault)?);
        if ids.len() > REVOCATIONS_MAX || len > IDS_LEN_MAX {
            return Err(fault(format!("there are more than {REVOCATIONS_MAX} ids, or {IDS_LEN_MAX} bytes of them")));
        }
    }
    Ok(ids)
}

fn text(path: &Path) -> io::Result<String> {
    // To open a pipe would wait for whoever writes to it.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = String::new();
    File::open(path)?.take(FILE_LEN_MAX as u64 + 1).read_to_string(&mut text)?;
    match text.len() <= FILE_LEN_MAX {
        true => Ok(text),
        false => Err(io::Error::other(format!("it is longer than {FILE_LEN_MAX} bytes"))),
    }
}

/// Writes the ids: all of them or, when it fails, none. The file is its owner's alone.
pub fn write(path: &Path, ids: &BTreeSet<RevokedId>) -> io::Result<()> {
    let (path, new) = places(path);
    let written = write_new(&new, ids).and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        // What is left of it is of no use.
        let _ = fs::remove_file(&new);
    }
    written?;
    // The name in the directory has to outlive a power cut too.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Whether the ids could be written there.
pub fn try_to_write(path: &Path) -> io::Result<()> {
    let (_, new) = places(path);
    create(&new)?;
    fs::remove_file(&new)
}

/// Where the file is, and where the next one is made.
fn places(path: &Path) -> (PathBuf, PathBuf) {
    // Whoever made the file a link keeps it one.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    (path, new)
}

fn create(new: &Path) -> io::Result<File> {
    // One that a crash left behind.
    let _ = fs::remove_file(new);
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)
}

fn write_new(new: &Path, ids: &BTreeSet<RevokedId>) -> io::Result<()> {
    let mut text = String::from(HEAD);
    for id in ids {
        text.push_str(id.as_str());
        text.push('\n');
    }
    let mut file = create(new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::auth::REVOKED_LEN_MAX;
    use std::os::unix::fs::PermissionsExt;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let folder = std::env::temp_dir().join(format!("turnpike-revocations-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Folder(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn ids<const N: usize>(ids: [&str; N]) -> BTreeSet<RevokedId> {
        ids.iter().map(|id| id.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_written_is_read_again_and_belongs_to_its_owner() {
        let folder = Folder::new("round");
        let file = folder.0.join("revocations");
        assert_eq!(read(&file).unwrap(), ids([]), "no file is no id");
        try_to_write(&file).unwrap();
        for list in [ids(["bob", "alice", "1893456000:carol", "ö b"]), ids(["x"]), ids([])] {
            write(&file, &list).unwrap();
            assert_eq!(read(&file).unwrap(), list);
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn people_may_write_comments_and_a_link_stays_one() {
        let folder = Folder::new("people");
        let (file, link) = (folder.0.join("list"), folder.0.join("link"));
        fs::write(&file, "# left in May\r\n\n  alice \r\nbob\nbob").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read(&link).unwrap(), ids(["alice", "bob"]));
        write(&link, &ids(["eve"])).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(read(&file).unwrap(), ids(["eve"]));
    }

    #[test]
    fn a_faulty_file_is_refused_with_its_line() {
        let folder = Folder::new("faulty");
        let file = folder.0.join("list");
        fs::write(&file, format!("alice\n {}\n", "x".repeat(REVOKED_LEN_MAX + 1))).unwrap();
        let fault = read(&file).unwrap_err().to_string();
        assert!(fault.starts_with("an id has 1 to 763 bytes, not 764") && fault.contains("list:2:2"), "{fault}");
        fs::write(&file, b"\xff\xfe").unwrap();
        assert!(read(&file).unwrap_err().to_string().starts_with("the revocations can not be read"));
        let fault = read(&folder.0).unwrap_err().to_string();
        assert!(fault.contains("it is no file"), "{fault}");
        let many: String = (0..=REVOCATIONS_MAX).map(|id| format!("{id}\n")).collect();
        fs::write(&file, &many[..many.len() - 7]).unwrap();
        assert_eq!(read(&file).unwrap().len(), REVOCATIONS_MAX);
        fs::write(&file, many).unwrap();
        assert!(read(&file).unwrap_err().to_string().starts_with("there are more than 100000 ids"));
    }

    #[test]
    fn a_file_that_can_not_be_written_leaves_the_old_one() {
        let folder = Folder::new("unwritten");
        let file = folder.0.join("list");
        write(&file, &ids(["alice"])).unwrap();
        // Where the new one would be is a directory with something in it.
        fs::create_dir_all(folder.0.join("list.new/x")).unwrap();
        assert!(write(&file, &ids(["alice", "bob"])).is_err() && try_to_write(&file).is_err());
        assert_eq!(read(&file).unwrap(), ids(["alice"]));
    }
}
