//! The admin part's unix socket: its file, its mode, and whose it is.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Who may connect: the owner of the process, and root.
const MODE: u32 = 0o600;

/// The file of a bound socket; removed when dropped, unless another has taken its place.
#[derive(Debug)]
pub struct Owned {
    path: PathBuf,
    identity: (u64, u64),
    /// As long as the socket is there, no other file has its identity.
    _socket: UnixListener,
}

/// Listens at `path`. A file that is a socket nobody answers on is replaced; anything else there
/// is an error, and so is a folder that is not there.
pub fn bind(path: &Path) -> io::Result<(UnixListener, Owned)> {
    make_way(path)?;
    // Nobody else gets into this folder, so nobody connects before the mode is set.
    let mut folder = path.as_os_str().to_owned();
    folder.push(".new");
    let folder = PathBuf::from(folder);
    // Left over, if at all, by a process that was killed in between.
    let _ = fs::remove_dir_all(&folder);
    DirBuilder::new().mode(0o700).create(&folder)?;
    let bound = bind_in(&folder, path);
    let removed = fs::remove_dir_all(&folder);
    let bound = bound?;
    removed?;
    Ok(bound)
}

fn bind_in(folder: &Path, path: &Path) -> io::Result<(UnixListener, Owned)> {
    let file = folder.join("s");
    let listener = UnixListener::bind(&file)?;
    fs::set_permissions(&file, Permissions::from_mode(MODE))?;
    let identity = identity(&file)?;
    fs::rename(&file, path)?;
    let socket = listener.try_clone()?;
    Ok((listener, Owned { path: path.to_owned(), identity, _socket: socket }))
}

fn make_way(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another turnpike answers there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

impl Drop for Owned {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // A file that stays is stale, and the next one to bind replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A folder of its own, gone with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Folder {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let name = format!("turnpike-unix-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Folder(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn the_socket_is_the_owners_alone_and_gone_in_the_end() {
        let folder = Folder::new();
        let path = folder.0.join("admin.sock");
        let (listener, owned) = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, MODE);
        assert_eq!(folder.names(), ["admin.sock"]);
        let _client = UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        drop((listener, owned));
        assert!(folder.names().is_empty());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = Folder::new();
        let path = folder.0.join("admin.sock");
        // The folder and the socket of those that were killed.
        fs::create_dir(folder.0.join("admin.sock.new")).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        let first = bind(&path).unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(UnixStream::connect(&path).is_ok(), "it answers still");
        fs::remove_file(&path).unwrap();
        let _second = bind(&path).unwrap();
        drop(first);
        assert_eq!(folder.names(), ["admin.sock"], "the first leaves what is the second's");
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = Folder::new();
        let path = folder.0.join("admin.sock");
        fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert_eq!(bind(&folder.0.join("nowhere/admin.sock")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
