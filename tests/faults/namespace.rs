//! A network and mounts of one test's own: the test runs itself once more in namespaces that end with it.

use super::untried::not_tried;
use std::process::{Command, Stdio};

/// What a line that tells a figure begins with.
pub const FIGURE: &str = "figure: ";

/// Says to the test which one it is there.
const INSIDE: &str = "TURNPIKE_FAULTS_ALONE";

/// True in namespaces of the test's own, with loopback up; outside it runs the test there and is false. `test` is the
/// test's name with its module, `programs` what it needs.
pub fn is_alone(test: &str, programs: &[&str]) -> bool {
    if std::env::var(INSIDE).is_ok_and(|inside| inside == test) {
        run(&["ip", "link", "set", "lo", "up"]);
        return true;
    }
    for program in programs {
        let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).stdout(Stdio::null()).status();
        if !found.is_ok_and(|found| found.success()) {
            not_tried(test, &format!("{program} is not installed"));
            return false;
        }
    }
    // Root needs no user namespace; anyone else becomes root in one.
    let ways: [&[&str]; 2] = [&["--net", "--mount"], &["--user", "--map-root-user", "--net", "--mount"]];
    let opens = |way: &&&[&str]| {
        let opened = Command::new("unshare").args(**way).arg("true").stderr(Stdio::null()).status();
        opened.is_ok_and(|opened| opened.success())
    };
    let Some(way) = ways.iter().find(opens) else {
        not_tried(test, "namespaces are refused");
        return false;
    };
    let mut command = Command::new("unshare");
    command.args(*way).arg(std::env::current_exe().expect("it has a path"));
    command.args(["--exact", test, "--nocapture", "--include-ignored"]).env(INSIDE, test);
    let output = command.output().expect("unshare runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{test} in namespaces of its own:\n{said}");
    // What it measured, or could not try, is said here.
    said.lines()
        .filter(|line| line.contains("NOT TRIED") || line.contains(FIGURE))
        .for_each(|line| eprintln!("{line}"));
    false
}

/// Runs a program that must succeed and returns what it said.
pub fn run(line: &[&str]) -> String {
    let output = Command::new(line[0]).args(&line[1..]).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", line[0]));
    assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
