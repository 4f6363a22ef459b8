//! One run of the program and what it printed.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a run printed and how it ended.
pub struct Run {
    /// The exit code.
    pub code: Option<i32>,
    /// Its standard output.
    pub printed: String,
    /// Its standard error.
    pub said: String,
}

impl Run {
    /// The report, of a run with `--format json`.
    pub fn report(&self) -> Value {
        serde_json::from_str(&self.printed)
            .unwrap_or_else(|error| panic!("{error}: it is no JSON: {}\n{}", self.printed, self.said))
    }

    /// The steps of a target.
    pub fn steps(&self, at: usize) -> Value {
        self.report()["targets"][at]["steps"].clone()
    }

    /// How a step of the first target went, and why.
    pub fn step(&self, name: &str) -> (String, String) {
        let step = &self.steps(0)[name];
        let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
        (text("outcome"), text("reason"))
    }

    /// Fails unless a step of the first target went so and its reason holds every one of these words.
    pub fn expect(&self, name: &str, outcome: &str, words: &[&str]) {
        let (was, reason) = self.step(name);
        assert_eq!(was, outcome, "{name}: {}\n{}", self.printed, self.said);
        for word in words {
            assert!(reason.contains(word), "{name}: no `{word}` in: {reason}");
        }
    }
}

/// The program with these arguments and none of the tester's environment.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
    command.arg("probe").args(arguments).env_remove("TURNPIKE_PROBE_PASSWORD").env_remove("TURNPIKE_PROBE_SECRET");
    command.stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(arguments: &[&str]) -> Run {
    let output = command(arguments).output().expect("turnpike starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
    Run { code: output.status.code(), printed: text(output.stdout), said: text(output.stderr) }
}

/// Runs it with few packets and a report as JSON.
pub fn probe(arguments: &[&str]) -> Run {
    run(&[&["--format", "json", "--packets", "10"], arguments].concat())
}

/// A directory of one test, gone with it.
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty one.
    pub fn new() -> Scratch {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("probe-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).expect("the scratch directory is made");
        Scratch(path)
    }

    /// Writes a file and says where it is.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("the scratch directory takes files");
        path.to_str().expect("the path is UTF-8").to_owned()
    }

    /// A certificate for loopback, signed by itself: where it and its key are.
    pub fn certificate(&self) -> (String, String) {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate is made");
        (self.file("own.pem", &made.cert.pem()), self.file("own.key", &made.signing_key.serialize_pem()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
