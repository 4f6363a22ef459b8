//! The real binary: its files, and every byte it says.

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long a program may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A directory of one test, gone with it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("secrets-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("the folder is made");
        Folder(path)
    }

    /// Writes a file that its owner alone may read; returns its path.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("the folder takes files");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
        path.to_str().expect("a path of text").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The command, in its folder and without settings of the surroundings.
pub fn turnpike(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
    command.args(arguments).current_dir(&folder.0).stdin(Stdio::null()).env("RUST_BACKTRACE", "full");
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("TURNPIKE") || ["XDG_RUNTIME_DIR", "RUNTIME_DIRECTORY"].contains(&&*name) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end: its code, and all that it said.
pub fn said(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().expect("the binary runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).expect("it says text"))
}

/// What a running program has said so far, on both its streams.
#[derive(Default)]
struct Ear {
    said: Mutex<Vec<u8>>,
    more: Condvar,
}

/// A running program, killed if the test ends before it does.
pub struct Program {
    child: Child,
    ear: Arc<Ear>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Program {
    pub fn start(command: &mut Command) -> Program {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let ear = Arc::<Ear>::default();
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("it is a pipe")),
            Box::new(child.stderr.take().expect("it is a pipe")),
        ];
        let readers = streams.map(|mut stream| {
            let ear = ear.clone();
            std::thread::spawn(move || {
                let mut room = [0; 16_384];
                while let Ok(len @ 1..) = stream.read(&mut room) {
                    ear.said.lock().expect("nobody panics with it").extend_from_slice(&room[..len]);
                    ear.more.notify_all();
                }
            })
        });
        Program { child, ear, readers: readers.into() }
    }

    /// All that it has said.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.ear.said.lock().expect("nobody panics with it")).into_owned()
    }

    /// Waits until it has said a text so often.
    pub fn wait_for(&self, text: &str, times: usize) {
        let end = Instant::now() + PATIENCE;
        let mut said = self.ear.said.lock().expect("nobody panics with it");
        while String::from_utf8_lossy(&said).matches(text).count() < times {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "it never says `{text}` {times} times:\n{}", String::from_utf8_lossy(&said));
            said = self.ear.more.wait_timeout(said, left).expect("nobody panics with it").0;
        }
    }

    /// The address that stands behind a word of the line that says that it serves.
    pub fn address(&self, word: &str) -> SocketAddr {
        let said = self.said();
        let line = said.lines().find(|line| line.contains("serving")).expect("it serves");
        let rest = &line[line.find(word).unwrap_or_else(|| panic!("{word}: {line}")) + word.len()..];
        let rest = &rest[rest.find("127.0.0.1:").unwrap_or_else(|| panic!("{word}: {line}"))..];
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
        rest[..end].parse().unwrap_or_else(|error| panic!("{word}: {error}: {line}"))
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A file about the process.
    pub fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).expect("it runs")
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let told = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(told.expect("kill runs").success(), "it takes no signal");
    }

    /// Waits for its end; how it ended, and all that it said.
    pub fn end(mut self) -> (ExitStatus, String) {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().expect("it can be waited for") {
                Some(status) => break status,
                None => assert!(Instant::now() < end, "it does not end:\n{}", self.said()),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        self.readers.drain(..).for_each(|reader| reader.join().expect("a reader reads"));
        (status, self.said())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
