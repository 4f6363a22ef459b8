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
    Ok((listener, Owned { path: path.to_owned(), identity }))
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
