//! Commands that are given secrets on their command line or in a file, and `dev`, which makes its own.

use super::client::Caller;
use super::coturn;
use super::heard::Heard;
use super::link::Via;
use super::marker::Marker;
use super::ports::Stretch;
use super::program::{Folder, Program, said, turnpike};
use super::untried::not_tried;
use crate::wire_client::{REALM, allocate};
use std::os::unix::process::ExitStatusExt;

const SECRET: &str = "mark/dev+secret=Bn5mV8cX1zL";
const ALICE: (&str, &str) = ("alice", "mark/dev+alice=Ku7jH4gF9dS");
const WRONG: &str = "mark/dev+wrong=Po3iU6yT0rE";

/// What a core may hold, in bytes: none is written, and none is handed to a program.
const CORE_LIMIT: &str = "1";

fn heard() -> Heard {
    let mut heard = Heard::default();
    heard.knows(Marker::text("the secret", SECRET));
    heard.knows(Marker::text("a wrong password", WRONG));
    heard.knows(Marker::text("the password", ALICE.1));
    heard
}

/// The limits on core files of a running program, soft and hard.
fn core_limits(program: &Program) -> Vec<String> {
    let limits = program.proc("limits");
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).expect("there is a limit");
    line.split_whitespace().skip(4).take(2).map(str::to_owned).collect()
}

#[test]
fn clients_of_a_server_keep_what_they_were_given() {
    let (folder, mut heard) = (Folder::new(), heard());
    folder.write("secret.txt", SECRET);
    folder.write("password.txt", ALICE.1);
    folder.write("empty.txt", "");
    let listen = ["dev", "--listen", "127.0.0.1", "--port", "0", "--http", "127.0.0.1:0", "--log-level", "trace"];
    let user = format!("{}:{}", ALICE.0, ALICE.1);
    let mut command = turnpike(&folder, &[&listen[..], &["--secret", SECRET, "--user", &user]].concat());
    let dev = Program::start(&mut command);
    dev.wait_for("iceTransportPolicy", 1);
    let text = dev.said();
    let at = text.find("udp 127.0.0.1:").expect("it says where it relays") + "udp ".len();
    let address = text[at..].split_whitespace().next().expect("an address");
    let (uri, server) = (format!("turn:{address}"), address.parse().expect("an address"));
    assert_eq!(core_limits(&dev), [CORE_LIMIT; 2], "dev");

    for format in ["text", "json"] {
        for (given, code) in [
            (vec!["--secret", SECRET], 0),
            (vec!["--secret-file", "secret.txt"], 0),
            (vec!["--user", ALICE.0, "--password", ALICE.1], 0),
            (vec!["--user", ALICE.0, "--password-file", "password.txt"], 0),
            (vec!["--user", ALICE.0, "--password", WRONG], 1),
            (vec!["--secret", WRONG], 1),
        ] {
            let (ended, told) =
                said(&mut turnpike(&folder, &[&["probe", &uri, "--format", format], &given[..]].concat()));
            assert_eq!(ended, Some(code), "{given:?}: {told}");
            heard.said(format!("probe {given:?}"), told);
        }
        let load = ["load", &uri, "--allocations", "2", "--rate", "100", "--duration", "1s", "--format", format];
        for (given, code) in [
            (vec!["--secret", SECRET], 0),
            (vec!["--user", ALICE.0, "--password", ALICE.1], 0),
            (vec!["--user", ALICE.0, "--password", WRONG], 1),
            (vec!["--secret", WRONG], 1),
        ] {
            let (ended, told) = said(&mut turnpike(&folder, &[&load[..], &given].concat()));
            assert_eq!(ended, Some(code), "{given:?}: {told}");
            heard.said(format!("load {given:?}"), told);
        }
    }
    assert_eq!(Caller::as_user((ALICE.0, WRONG), Via::Udp, server).ask(allocate()).code(), 401);
    dev.signal("INT");
    let (status, text) = dev.end();
    assert!(status.success(), "{text}");
    heard.answered("dev, which prints what to paste", text, &["the password"]);
    heard.judge();
}

#[test]
fn a_command_line_that_is_not_understood_is_not_repeated_with_its_secrets() {
    let (folder, mut heard) = (Folder::new(), heard());
    folder.write("empty.txt", "");
    let user = format!("{}:{}", ALICE.0, ALICE.1);
    for (arguments, code) in [
        (vec!["dev", "--user", ALICE.1], 1),
        (vec!["dev", "--user", &user, "--bogus"], 2),
        (vec!["dev", "--secret", "short", "--user", &user], 1),
        (vec!["dev", "--secret", SECRET, "--port", "x"], 2),
        (vec!["dev", "--secret", SECRET, "--http", "x"], 1),
        (vec!["probe", "turn:127.0.0.1", "--password", ALICE.1], 1),
        (vec!["probe", "bogus:127.0.0.1", "--user", ALICE.0, "--password", ALICE.1], 2),
        (vec!["probe", "turn:127.0.0.1", "--user", ALICE.0, "--secret", SECRET, "--secret-file", "empty.txt"], 1),
        (vec!["probe", "turn:127.0.0.1", "--user", ALICE.0, "--password-file", "empty.txt", "--secret", SECRET], 1),
        (vec!["load", "bogus:127.0.0.1", "--duration", "1s", "--secret", SECRET], 2),
        (vec!["load", "turn:127.0.0.1", "--duration", "1s", "--password", ALICE.1], 1),
        (vec!["load", "turn:127.0.0.1", "--duration", "1s", "--password", ALICE.1, "--mode", "bogus"], 2),
        (vec!["explain", "credential", "alice", "--password", ALICE.1, "--format", "bogus"], 2),
    ] {
        let (ended, told) = said(&mut turnpike(&folder, &arguments));
        assert_eq!(ended, Some(code), "{arguments:?}: {told}");
        heard.said(format!("{arguments:?}"), told);
    }
    heard.judge();
}

#[test]
fn what_is_minted_goes_to_who_asked_alone() {
    let (folder, mut heard) = (Folder::new(), heard());
    folder.write(
        "t.toml",
        format!("realm = \"{REALM}\"\n[listen]\nudp = [\"127.0.0.1:3478\"]\n[auth]\nsecrets = [\"{SECRET}\"]\n"),
    );
    folder.write("secret.txt", SECRET);
    for given in [&["guest", "-c", "t.toml"][..], &["visitor", "-c", "t.toml", "--secret-file", "secret.txt"]] {
        let output = turnpike(&folder, &[&["credentials", "--user"], given].concat()).output().expect("it runs");
        let text = String::from_utf8(output.stdout).expect("it is text");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let password =
            json.pointer("/iceServers/0/credential").and_then(|password| password.as_str()).expect("a password");
        let what = format!("the password for {given:?}");
        heard.knows(Marker::text(&what, password));
        heard.answered(format!("credentials {given:?}"), &text, &[&what]);
        heard.said("what it says beside", output.stderr);
    }
    let (code, told) =
        said(&mut turnpike(&folder, &["credentials", "--user", "guest", "--ttl", "999h", "-c", "t.toml"]));
    assert_eq!(code, Some(1), "{told}");
    heard.said("credentials that are refused", told);
    heard.judge();
}

#[test]
fn no_core_of_the_daemon_is_dumped() {
    let (folder, ports) = (Folder::new(), Stretch::next());
    let relay = ports.relay();
    folder.write(
        "t.toml",
        format!(
            "[listen]\nudp = [\"127.0.0.1:0\"]\ntcp = []\n[relay]\nports = \"{}-{}\"\n\
             [http]\nlisten = \"\"\nadmin_listen = \"\"\nadmin_socket = \"\"\n",
            relay.start(),
            relay.end()
        ),
    );
    let flags = coturn::command_line(&ports);
    let flags: Vec<&str> = flags.split(' ').collect();
    for arguments in [&["run", "-c", "t.toml"][..], &flags] {
        let program = Program::start(&mut turnpike(&folder, arguments));
        program.wait_for("serving", 1);
        assert_eq!(core_limits(&program), [CORE_LIMIT; 2], "{arguments:?}");
        program.signal("INT");
        assert!(program.end().0.success());
    }
    // And the system keeps to it: whoever starts it may want cores, as far as the system lets them.
    let command = turnpike(&folder, &[]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -c unlimited; exec \"$0\" run -c t.toml"]).arg(command.get_program());
    shell.current_dir(&folder.0);
    command.get_envs().for_each(|(name, value)| match value {
        Some(value) => drop(shell.env(name, value)),
        None => drop(shell.env_remove(name)),
    });
    let program = Program::start(&mut shell);
    program.wait_for("serving", 1);
    program.signal("ABRT");
    let (status, said) = program.end();
    assert!(!status.success() && !status.core_dumped(), "{status}: {said}");
    let mut left = std::fs::read_dir(&folder.0).expect("the folder is there").flatten();
    assert!(left.all(|entry| !entry.file_name().to_string_lossy().contains("core")), "a core file was left");
}

#[test]
fn where_the_limit_of_cores_can_not_be_set_no_program_gets_one_either() {
    let folder = Folder::new();
    let daemon = turnpike(&folder, &[]);
    let mut strace = std::process::Command::new("strace");
    strace.args(["-qq", "-e", "signal=none", "-e", "trace=prctl,prlimit64", "-e", "inject=prlimit64:error=EPERM"]);
    let output = strace.arg(daemon.get_program()).args(["completions", "bash"]).output();
    let Ok(output) = output.inspect_err(|error| not_tried("a core limit of 0", &format!("strace: {error}"))) else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return not_tried("a core limit of 0", &format!("strace: {said}"));
    }
    assert!(said.contains("prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE) = 0"), "{said}");
}
