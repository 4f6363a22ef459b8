//! coturn's files and command line, which hold more secrets than turnpike has a use for.

use super::client::Caller;
use super::heard::Heard;
use super::link::Via;
use super::marker::Marker;
use super::ports::Stretch;
use super::program::{Folder, Program, said, turnpike};
use crate::wire_client::{REALM, allocate};

const SECRET: &str = "mark/static+auth+secret/Vb6nM9kJ";
const ALICE: (&str, &str) = ("alice", "mark/user+line/Rf4vT7gB1yH");
const CLI: &str = "mark/cli+password/Wq8eR2tY5uI";
const PKEY: &str = "mark/pkey+pwd/Oi3pA6sD9fG";
const DATABASE: &str = "mark/database+password/Hj1kL4zX";
const NONCE: &str = "mark/nonce+secret/Cv7bN0mQ3wE";
const UNKNOWN: &str = "mark/misspelt+secret/Er5tY8uI2o";

/// Lines with the secrets that are not for use, and one that is misspelt.
fn beside() -> String {
    format!(
        "cli-password={CLI}\npkey-pwd={PKEY}\nstateless-nonce-secret={NONCE}\n\
         psql-userdb=\"host=db user=turn password={DATABASE} dbname=turn\"\n\
         mysql-userdb=\"host=db user=turn password={DATABASE}\"\n\
         mongo-userdb=\"mongodb://turn:{DATABASE}@db/turn\"\n\
         redis-userdb=\"ip=127.0.0.1 password={DATABASE}\"\nredis-statsdb=\"ip=127.0.0.1 password={DATABASE}\"\n\
         static-auth-secrets={UNKNOWN}\n"
    )
}

fn network(ports: &Stretch) -> String {
    let relay = ports.relay();
    format!(
        "listening-ip=127.0.0.1\nlistening-port=0\nrealm=example.org\nno-tls\nverbose\nmin-port={}\nmax-port={}\n",
        relay.start(),
        relay.end()
    )
}

/// The command line of a server on loopback that relays from these ports; words are parted by spaces.
pub fn command_line(ports: &Stretch) -> String {
    let relay = ports.relay();
    let (first, last) = (relay.start(), relay.end());
    format!("coturn -n -L 127.0.0.1 -p 0 -r {REALM} --min-port {first} --max-port {last} --no-tls")
}

fn heard() -> Heard {
    let mut heard = Heard::default();
    for (name, secret) in [
        ("the shared secret", SECRET),
        ("the console's password", CLI),
        ("the key's password", PKEY),
        ("the database's password", DATABASE),
        ("the nonce secret", NONCE),
        ("a misspelt secret", UNKNOWN),
    ] {
        heard.knows(Marker::text(name, secret));
    }
    heard.knows_user(ALICE.0, ALICE.1);
    heard
}

#[test]
fn a_file_of_coturns_is_read_without_telling_its_secrets() {
    let (folder, mut heard, ports) = (Folder::new(), heard(), Stretch::next());
    let users = format!("{}user={}:{}\n{}", network(&ports), ALICE.0, ALICE.1, beside());
    let secret = format!("{}use-auth-secret\nstatic-auth-secret={SECRET}\n{}", network(&ports), beside());
    folder.write("users.conf", &users);
    folder.write("secret.conf", &secret);
    for (file, in_use) in [("users.conf", "the password of alice"), ("secret.conf", "the shared secret")] {
        let output = turnpike(&folder, &["import", file]).output().expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        heard.answered(format!("the configuration made of {file}"), output.stdout, &[in_use]);
        heard.said(format!("what is said of {file}"), output.stderr);
        for arguments in [&["check"][..], &["check", "--format", "json"], &["explain", "credential", "alice"]] {
            let (code, told) = said(&mut turnpike(&folder, &[arguments, &["-c", file]].concat()));
            assert_eq!(code, Some(0), "{arguments:?}: {told}");
            heard.said(format!("{arguments:?} of {file}"), told);
        }
    }
    let mut command = turnpike(&folder, &["run", "-c", "users.conf", "--set", "log.level=trace"]);
    let server = Program::start(&mut command);
    server.wait_for("serving", 1);
    let udp = server.address("udp");
    Caller::as_user(ALICE, Via::Udp, udp).allocate(allocate());
    assert_eq!(Caller::as_user((ALICE.0, CLI), Via::Udp, udp).ask(allocate()).code(), 401);
    folder.write("users.conf", format!("{users}user={}\nmin-port=x\n", ALICE.1));
    server.signal("HUP");
    server.wait_for("reload refused", 1);
    server.signal("INT");
    let (status, log) = server.end();
    assert!(status.success(), "{log}");
    heard.said("the log", log);
    heard.judge();
}

#[test]
fn a_file_of_coturns_is_refused_without_telling_its_secrets() {
    let (folder, mut heard, ports) = (Folder::new(), heard(), Stretch::next());
    let good = format!("{}use-auth-secret\nstatic-auth-secret={SECRET}\n", network(&ports));
    for (at, line) in [
        format!("user={}\nmin-port=x\n", ALICE.1),
        format!("no-auth\nuser={}:{}\n", ALICE.0, ALICE.1),
        format!("static-auth-secrets={UNKNOWN}\nno-tls=perhaps\n"),
        format!("static-auth-secret {SECRET}\nno-tls=perhaps\n"),
        format!("userdb={}\nno-tls=perhaps\n", "users.txt"),
    ]
    .into_iter()
    .enumerate()
    {
        folder.write("users.txt", format!("{}\n", ALICE.1));
        folder.write("bad.conf", format!("{good}{line}"));
        for arguments in [&["run", "-c", "bad.conf"][..], &["check", "-c", "bad.conf"], &["import", "bad.conf"]] {
            let output = turnpike(&folder, arguments).output().expect("it runs");
            assert_eq!(output.status.code(), Some(78), "{line}: {}", String::from_utf8_lossy(&output.stderr));
            heard.said(format!("{arguments:?} of {at}"), output.stderr);
        }
    }
    heard.judge();
}

#[test]
fn coturns_command_line_is_not_repeated_with_its_secrets() {
    let (folder, mut heard, ports) = (Folder::new(), heard(), Stretch::next());
    let user = format!("{}:{}", ALICE.0, ALICE.1);
    let network = command_line(&ports);
    let network: Vec<&str> = network.split(' ').chain(["-V"]).collect();
    let database = format!("ip=127.0.0.1 password={DATABASE}");
    let more = ["-a", "-u", &user, "--cli-password", CLI, "--pkey-pwd", PKEY, "-O", &database];
    let server =
        Program::start(turnpike(&folder, &[&network[..], &more].concat()).env("TURNPIKE__LOG__LEVEL", "trace"));
    server.wait_for("serving", 1);
    let udp = server.address("udp");
    Caller::as_user(ALICE, Via::Udp, udp).allocate(allocate());
    server.signal("INT");
    let (status, log) = server.end();
    assert!(status.success(), "{log}");
    heard.said("the log", log);
    for more in [
        vec!["-u", ALICE.1],
        vec!["-u", &user, "--bogus", CLI],
        vec!["--static-auth-secret", SECRET, "--min-port", "x"],
        vec![ALICE.1, "--min-port", "x"],
        vec!["--static-auth-secret", SECRET, "-y"],
    ] {
        let (code, told) = said(&mut turnpike(&folder, &[&network[..], &more, &["--no-udp-relay"]].concat()));
        assert!(code.is_some_and(|code| code != 0), "{more:?}: {told}");
        heard.said(format!("coturn {more:?}"), told);
    }
    heard.judge();
}
