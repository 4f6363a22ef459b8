//! What makes the load: `turnpike load`, and this program itself for what that can not do.

use crate::daemon::LAUNCH;
use crate::server::{PASSWORD, USER};
use serde_json::Value;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Where peers are.
const PEER: &str = "127.0.0.2";

/// A generator at work. It ends when this is dropped, and when the thread that started it does.
#[derive(Debug)]
pub struct Generator {
    child: Option<Child>,
    /// What was typed, for who wants to do it again.
    pub command: String,
}

impl Generator {
    /// `turnpike load` of the server with this process, with these arguments besides those that are the same for all.
    pub fn load(program: &Path, cores: &str, pid: u32, uri: &str, arguments: &str) -> io::Result<Generator> {
        let pid = pid.to_string();
        let mut all = vec!["load", uri];
        all.extend(arguments.split_whitespace());
        all.extend([
            "--user",
            USER,
            "--peer",
            PEER,
            "--insecure",
            "--pid",
            &pid,
            "--max-loss",
            "1",
            "--format",
            "json",
        ]);
        Generator::start(program, cores, &all)
    }

    /// A part of this program, such as `flood`.
    pub fn own(cores: &str, arguments: &str) -> io::Result<Generator> {
        Generator::start(&std::env::current_exe()?, cores, &arguments.split_whitespace().collect::<Vec<_>>())
    }

    fn start(program: &Path, cores: &str, arguments: &[&str]) -> io::Result<Generator> {
        let mut command = Command::new("sh");
        command.args(["-c", LAUNCH, cores]).arg(program).args(arguments);
        command.env("TURNPIKE_LOAD_PASSWORD", PASSWORD);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        Ok(Generator { child: Some(child), command: format!("{name} {}", arguments.join(" ")) })
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> io::Result<bool> {
        self.child.as_mut().map_or(Ok(true), |child| Ok(child.try_wait()?.is_some()))
    }

    /// Waits for its end and what it reports. A load that ended early has its fault in the report.
    pub fn finish(mut self) -> io::Result<Value> {
        let Some(child) = self.child.take() else { return Err(io::Error::other("it is waited for once")) };
        let output = child.wait_with_output()?;
        serde_json::from_slice(&output.stdout).map_err(|_| {
            let said = String::from_utf8_lossy(&output.stderr);
            io::Error::other(format!("{}: {} ({})", self.command, said.trim_end(), output.status))
        })
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Errors here mean that it has ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A number of a report; 0 where there is none.
pub fn number(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0)
}
