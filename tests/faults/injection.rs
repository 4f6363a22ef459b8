//! System calls of a running server that fail because a test wants it so: strace attaches, and detaches at the end.

use super::link::PATIENCE;
use super::server::Server;
use super::untried::not_tried;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Whether the tests are to run as many and as long as the list of faults says.
pub fn is_long() -> bool {
    std::env::var("TURNPIKE_FAULTS").is_ok_and(|wanted| wanted == "long")
}

/// A number for the ordinary run, and the one of the list of faults.
pub fn times(ordinary: usize, long: usize) -> usize {
    if is_long() { long } else { ordinary }
}

/// A strace that is attached to a server's threads.
pub struct Injection {
    strace: Child,
    trace: PathBuf,
    calls: String,
}

impl Injection {
    /// Attaches to the threads of a server whose names begin so, and has `calls` (as strace names sets of them) fail, wait or only be written
    /// down: `how` is what strace's `inject=` takes after the set, or nothing. `None` where that is refused.
    pub fn attach(server: &Server, threads: &str, calls: &str, how: &str) -> Option<Injection> {
        let trace = server.path("trace");
        let _ = fs::remove_file(&trace);
        let mut command = Command::new("strace");
        let tasks = tasks(server, threads);
        assert!(!tasks.is_empty(), "there is no thread {threads}");
        for task in &tasks {
            command.args(["-p", task]);
        }
        command.arg("-o").arg(&trace).args(["-e", &format!("trace={calls}"), "-e", "signal=none"]);
        if !how.is_empty() {
            command.args(["-e", &format!("inject={calls}:{how}")]);
        }
        let strace = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut strace = match strace {
            Ok(strace) => strace,
            Err(error) => {
                not_tried(&format!("{calls} that fail"), &format!("strace: {error}"));
                return None;
            }
        };
        let mut said = BufReader::new(strace.stderr.take().expect("it is a pipe")).lines().map_while(Result::ok);
        let mut heard = String::new();
        for _ in &tasks {
            match said.find(|line| line.contains("attached") || line.contains("attach:")) {
                Some(line) if !line.contains("attach:") => heard = line,
                other => {
                    let _ = strace.wait();
                    let why = other.unwrap_or(heard);
                    not_tried(&format!("{calls} that fail"), &format!("strace can not attach: {why}"));
                    return None;
                }
            }
        }
        // What it says from now on is of no interest, but must not stop it.
        std::thread::spawn(move || said.for_each(drop));
        Some(Injection { strace, trace, calls: calls.into() })
    }

    /// Detaches; what was traced, a line a call.
    pub fn end(mut self) -> Vec<String> {
        let pid = self.strace.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
        self.strace.wait().expect("strace detaches");
        let text = fs::read_to_string(&self.trace).expect("strace wrote what it saw");
        text.lines().map(str::to_owned).collect()
    }

    /// Detaches; how many calls failed because of it, of which there has to be one.
    pub fn injected(self) -> usize {
        let calls = self.calls.clone();
        let count = self.end().iter().filter(|line| line.contains("(INJECTED)")).count();
        assert!(count > 0, "no {calls} was made to fail");
        count
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        // By its own end strace lets go of the threads; SIGKILL would do the same, a little later.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// The ids of the threads of a server whose names begin so, once all have their own: one that has not begun yet has that
/// of the first.
fn tasks(server: &Server, name: &str) -> Vec<String> {
    let until = Instant::now() + PATIENCE;
    loop {
        let folder = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("the server runs");
        let all = folder.map(|entry| entry.expect("the server runs").path());
        let all: Vec<(PathBuf, String)> =
            all.filter_map(|task| fs::read_to_string(task.join("comm")).ok().map(|comm| (task, comm))).collect();
        let first = fs::read_to_string(format!("/proc/{}/comm", server.pid())).expect("the server runs");
        if all.iter().filter(|(_, comm)| *comm == first).count() == 1 || Instant::now() > until {
            let named = all.iter().filter(|(_, comm)| comm.starts_with(name));
            return named
                .map(|(task, _)| task.file_name().expect("it has one").to_string_lossy().into_owned())
                .collect();
        }
        std::thread::yield_now();
    }
}
