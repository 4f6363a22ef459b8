//! IN-130 and what belongs to it: configurations that are wrong, too large, or no files at all. None starts, each is
//! told where and what to do, no secret is shown, nothing hangs; and a running server goes on as it was.

use super::{PATIENCE, SECRET, Server, answers_binding, lines, stderr, turnpike};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::RecvTimeoutError;

/// In every secret of these tests, and in no message.
const MARK: &str = "hunter2";
/// Longest that the server says about one fault, in bytes.
const SAID_MAX: usize = 2048;

/// What stands where the configuration, or a file that it names, should be.
enum Put {
    Text(&'static str),
    Bytes(Vec<u8>),
    /// A file of so many zeros, which takes no room.
    Zeros(u64),
    Directory,
    Pipe,
    Link(&'static str),
}

impl Put {
    fn at(&self, path: &Path) {
        match self {
            Put::Text(text) => fs::write(path, text).unwrap(),
            Put::Bytes(bytes) => fs::write(path, bytes).unwrap(),
            Put::Zeros(len) => fs::File::create(path).unwrap().set_len(*len).unwrap(),
            Put::Directory => fs::create_dir(path).unwrap(),
            Put::Pipe => assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo is there").success()),
            Put::Link(target) => std::os::unix::fs::symlink(target, path).unwrap(),
        }
    }
}

/// A configuration that is refused.
struct Bad {
    /// The configuration itself.
    config: Put,
    /// `file`, which it may name.
    file: Option<Put>,
    /// What is said, in its order: the fault, the place, what to do.
    said: &'static [&'static str],
}

fn text(text: &'static str, said: &'static [&'static str]) -> Bad {
    Bad { config: Put::Text(text), file: None, said }
}

fn bytes(bytes: impl Into<Vec<u8>>, said: &'static [&'static str]) -> Bad {
    Bad { config: Put::Bytes(bytes.into()), file: None, said }
}

fn naming(text: &'static str, file: Put, said: &'static [&'static str]) -> Bad {
    Bad { config: Put::Text(text), file: Some(file), said }
}

/// What is wrong with the text.
fn texts() -> Vec<Bad> {
    vec![
        text("[listen]\nupd = []\n", &["unknown key `listen.upd` (", "t.toml:2:1)", "did you mean `udp`?"]),
        text("[relay]\ndeny_peers = [\"10.0.0.0/33\"]\n", &["longer than the address (", "t.toml:2:15)"]),
        text("[relay]\nallow_peers = [\"10.0.0.1/8\"]\n", &["bits set behind its prefix", "t.toml:2:16)"]),
        text(
            "[listen]\nudp = [\"127.0.0.1:65536\"]\n",
            &["65536 is not a port: ports are 1 to 65535 (", "t.toml:2:8)"],
        ),
        text("[relay]\nports = \"49152-65536\"\n", &["`65536` is not a port", "t.toml:2:9)"]),
        text("[auth]\nnonce_lifetime = \"ten\"\n", &["`ten` is not a duration: write \"10m\"", "t.toml:2:18)"]),
        text("[auth]\nnonce_lifetime = 10.5\n", &["expected a duration like \"10m\"", "t.toml:2:18)"]),
        text("workers = \"2\"\n", &["invalid type: string", "t.toml:1:11)"]),
        text("[auth]\nsecrets = [\"hunter2.\"]\n", &["a secret of 8 bytes can be guessed: 16 or more", "t.toml:2:12)"]),
        text("[auth]\nsecrets = [\"\"]\n", &["a secret of 0 bytes can be guessed", "t.toml:2:12)"]),
        text("[auth]\nsecrets = \"hunter2 and then some\"\n", &["expected a list", "t.toml:2:11)"]),
        text("[auth]\nusers = { alice = \"hunter2\", alice = \"hunter2\" }\n", &["duplicate key (", "t.toml:2:30)"]),
        text("realm = \"a\"\nrealm = \"b\"\n", &["duplicate key (", "t.toml:2:1)"]),
        text("[log]\n[auth]\n[log]\n", &["duplicate key (", "t.toml:3:2)"]),
        text("[auth]\nsecrets = [\"hunter2 is not closed\n", &["unclosed array", "t.toml:2:34)"]),
        text("realm = \"a\0b\"\n", &["invalid basic string", "t.toml:1:11)"]),
        text("realm =\n", &["t.toml:1:8)"]),
        text("not toml at all", &["t.toml:1:5)"]),
        bytes(b"realm = \"\xff\xfe\"\n", &["the file is not UTF-8 text: byte 9 ("]),
        bytes(b"\xff\xfer\0e\0a\0l\0m\0", &["the file is not UTF-8 text: byte 0 ("]),
        bytes("[".repeat(100_000), &["t.toml:1:"]),
        bytes(format!("realm = {}", "[".repeat(100_000)), &["t.toml:1:"]),
        bytes(format!("a = {}", "{a=".repeat(100_000)), &["t.toml:1:"]),
        bytes(format!("{} = 1", vec!["a"; 100_000].join(".")), &["t.toml:1:"]),
        bytes(format!("{} = 1", "a".repeat(100_000)), &["unknown key `aaaa", "… (", "t.toml:1:1)"]),
        bytes(format!("[log]\nlevel = \"{}\"", "a".repeat(100_000)), &["`log.level`: `aaaa", "… (", "t.toml:2:9)"]),
        bytes(format!("realm = \"{}\"", "a".repeat(100_000)), &["at most 127 characters (", "t.toml:1:9)"]),
        bytes(
            (0..60_000).map(|key| format!("a{key} = 1\n")).collect::<String>(),
            &["unknown key `a0` (", "t.toml:1:1)"],
        ),
    ]
}

/// What is wrong with the file, or with one that is named.
fn files() -> Vec<Bad> {
    let alone = |config, said| Bad { config, file: None, said };
    let mut all = vec![
        alone(Put::Zeros(100 << 20), &["the file can not be read: it is larger than 1 MiB ("]),
        alone(Put::Directory, &["the directory holds no .toml file ("]),
        alone(Put::Pipe, &["the file can not be read: it is a pipe, a socket or a disk, and no file; one in /run"]),
        alone(Put::Link("/dev/zero"), &["the file can not be read: it is larger than 1 MiB ("]),
        alone(Put::Link("/nowhere/at/all"), &["the file can not be read: No such file"]),
        alone(Put::Link("t.toml"), &["the file can not be read: Too many levels of symbolic links"]),
    ];
    let keys: [(&'static str, &'static [&'static str]); 6] = [
        ("[auth]\nsecret_file = \"file\"\n", &["it is named by auth.secret_file (", "t.toml:2)"]),
        ("[auth]\nusers_file = \"file\"\n", &["it is named by auth.users_file (", "t.toml:2)"]),
        ("[tls]\ncert = \"file\"\n", &["tls.cert: ", "can not be read", "t.toml:2:8)"]),
        ("[tls]\nkey = \"file\"\n", &["tls.cert: ", "can not be read", "t.toml:2:7)"]),
        ("[http]\nadmin_token_file = \"file\"\n", &["can not be read", "t.toml:2:20)"]),
        (
            "[auth]\nrevocations_file = \"file\"\n",
            &["the revocations can not be read", "it is named by auth.revocations_file"],
        ),
    ];
    for (config, said) in keys {
        for put in [Put::Zeros(100 << 20), Put::Directory, Put::Pipe, Put::Link("/dev/zero"), Put::Link("file")] {
            all.push(naming(config, put, said));
        }
    }
    for (config, put, said) in [
        ("[auth]\nsecret_file = \"file\"\n", Put::Text(""), &["the file holds no secret (", "t.toml:2)"][..]),
        (
            "[auth]\nsecret_file = \"file\"\n",
            Put::Text("hunter2\n"),
            &["a secret of 7 bytes", "file:1:1)", "t.toml:2)"],
        ),
        ("[auth]\nsecret_file = \"file\"\n", Put::Link("/dev/null"), &["the file holds no secret (", "t.toml:2)"]),
        ("[auth]\nusers_file = \"file\"\n", Put::Text(""), &["the file holds no user (", "t.toml:2)"]),
        ("[auth]\nusers_file = \"file\"\n", Put::Text("alice:hunter2\nhunter2"), &["`name:password`", "file:2:1)"]),
        (
            "[auth]\nusers_file = \"file\"\n",
            Put::Text("alice:hunter2\nalice:hunter2\n"),
            &["is there twice", "file:2:1)"],
        ),
        ("[tls]\ncert = \"file\"\n", Put::Text("hunter2"), &["holds no PEM certificate", "t.toml:2:8)"]),
        (
            "[http]\nadmin_token_file = \"file\"\n",
            Put::Text("hunter2\n"),
            &["holds no token of 16 bytes or more", "t.toml:2:20)"],
        ),
        (
            "[auth]\nrevocations_file = \"nowhere/list\"\n",
            Put::Text(""),
            &["nowhere is not a directory", "t.toml:2:20)"],
        ),
    ] {
        all.push(naming(config, put, said));
    }
    for config in ["[auth]\nsecret_file = \"file\"\n", "[auth]\nusers_file = \"file\"\n"] {
        all.push(naming(
            config,
            Put::Bytes(b"alice:\xff\xfe hunter2 hunter2\n".into()),
            &["is not UTF-8 text: byte 6 ("],
        ));
    }
    all
}

/// A folder with a configuration, and what it names; gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn config(&self) -> PathBuf {
        self.0.join("t.toml")
    }

    /// Puts a configuration where the last one was.
    fn put(&self, bad: &Bad) {
        for name in ["t.toml", "file"] {
            let path = self.0.join(name);
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        }
        bad.config.at(&self.config());
        if let Some(file) = &bad.file {
            file.at(&self.0.join("file"));
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a command that has to end by itself, soon.
fn ended(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (stdout, said) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
    let mut stderr = String::new();
    loop {
        match said.recv_timeout(PATIENCE) {
            Ok(line) => stderr += &(line + "\n"),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{command:?} hangs after {stderr}");
            }
        }
    }
    let stdout: String = stdout.iter().collect();
    Output { status: child.wait().unwrap(), stdout: stdout.into(), stderr: stderr.into() }
}

fn check(said: &str, bad: &Bad) {
    let mut rest = said;
    for words in bad.said {
        let Some((_, after)) = rest.split_once(words) else { panic!("`{words}` is not said, or too early: {said}") };
        rest = after;
    }
    assert!(said.len() <= SAID_MAX, "{} bytes: {said}", said.len());
    assert!(!said.contains(MARK), "{said}");
}

fn starts_refused(name: &str, all: &[Bad]) {
    let folder = Folder::new(name);
    for bad in all {
        folder.put(bad);
        for command in ["run", "check"] {
            let output = ended(turnpike(&[command, "-c"]).arg(folder.config()));
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(78), "{command}: {said}");
            assert!(said.starts_with("turnpike: ") && output.stdout.is_empty(), "{command}: {said}");
            check(&said, bad);
        }
    }
}

#[test]
fn a_faulty_text_is_no_start_and_says_where_and_what_to_do() {
    starts_refused("texts", &texts());
}

#[test]
fn what_is_no_file_or_too_long_or_empty_is_no_start_and_nobody_waits_for_it() {
    starts_refused("files", &files());
}

#[test]
fn a_key_of_another_certificate_is_no_start() {
    let folder = Folder::new("pair");
    let make = || rcgen::generate_simple_self_signed(["turn.example.org".to_owned()]).unwrap();
    let (own, other) = (make(), make());
    fs::write(folder.0.join("cert.pem"), own.cert.pem()).unwrap();
    fs::write(folder.0.join("key.pem"), other.signing_key.serialize_pem()).unwrap();
    fs::write(folder.config(), "[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n").unwrap();
    let output = ended(turnpike(&["run", "-c"]).arg(folder.config()));
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("is not that of the certificate in") && said.contains("t.toml:3:7)"), "{said}");
    assert!(said.contains("renew both files together") && !said.contains("PRIVATE"), "{said}");
}

#[test]
fn a_wrong_file_among_several_is_the_one_that_is_blamed() {
    let folder = Folder::new("several");
    fs::write(folder.0.join("a.toml"), "realm = \"a\"\n").unwrap();
    fs::write(folder.0.join("b.toml"), "realm = \"b\"\nworkers = 1000\n").unwrap();
    let output = ended(turnpike(&["run", "-c"]).arg(&folder.0));
    assert_eq!(output.status.code(), Some(78));
    assert!(
        stderr(&output).contains("at most 128 workers (") && stderr(&output).contains("b.toml:2:11)"),
        "{}",
        stderr(&output)
    );
}

/// Asks the admin part; the status and the body.
fn ask(admin: SocketAddr, method: &str, path: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

/// A configuration of a server for tests, on ports of the kernel's choice.
fn good() -> String {
    format!(
        "realm = \"test\"\nworkers = 1\n[listen]\nudp = [\"127.0.0.1:0\"]\ntcp = []\n[auth]\nsecrets = [\"{SECRET}\"]\n\
         [http]\nlisten = \"\"\nadmin_listen = \"127.0.0.1:0\"\nadmin_socket = \"\"\n[log]\nformat = \"json\"\n"
    )
}

/// A server with this configuration, and where its relay and its admin part listen.
fn serving(config: &Path) -> (Server, String, SocketAddr) {
    let server = Server::start(turnpike(&["run", "-c"]).arg(config));
    let line: Value = serde_json::from_str(server.log_until("\"serving\"").last().unwrap()).unwrap();
    let udp = line["listen"].as_str().unwrap().strip_prefix("udp ").unwrap().to_owned();
    let admin = line["admin"].as_str().unwrap().strip_prefix("http://").unwrap().trim_end_matches('/').parse().unwrap();
    (server, udp, admin)
}

#[test]
fn a_running_server_keeps_its_configuration_whatever_takes_its_place() {
    let folder = Folder::new("reload");
    fs::write(folder.config(), good()).unwrap();
    let (server, udp, admin) = serving(&folder.config());
    let (status, before) = ask(admin, "GET", "/api/v1/config");
    assert!(status == 200 && !before.to_string().contains(SECRET));
    for bad in texts().iter().chain(&files()) {
        folder.put(bad);
        let (status, problem) = ask(admin, "POST", "/api/v1/reload");
        assert_eq!((status, problem["code"].as_str()), (422, Some("bad_configuration")), "{problem}");
        check(problem["detail"].as_str().unwrap(), bad);
        assert_eq!(ask(admin, "GET", "/api/v1/config"), (200, before.clone()));
    }
    assert!(answers_binding(&udp));
    // By a signal it is the same, and its words are in the log.
    let bad = text("[listen]\nupd = []\n", &["reload refused", "unknown key `listen.upd` (", "t.toml:2:1)"]);
    folder.put(&bad);
    server.signal("HUP");
    let log = server.log_until("unknown key `listen.upd`").join("\n");
    assert!(log.contains("the old configuration stays") && !log.contains(MARK) && !log.contains(SECRET), "{log}");
    let _ = fs::remove_file(folder.config());
    fs::write(folder.config(), good()).unwrap();
    assert_eq!(ask(admin, "POST", "/api/v1/reload").0, 200);
    assert!(answers_binding(&udp));
    server.signal("INT");
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn a_file_of_a_directory_that_is_cut_to_nothing_is_no_reload_and_one_that_was_empty_is() {
    let folder = Folder::new("emptied");
    let users = folder.0.join("b.toml");
    fs::write(folder.0.join("a.toml"), good()).unwrap();
    fs::write(&users, "[auth.users]\nalice = \"wonderland\"\n").unwrap();
    fs::write(folder.0.join("c.toml"), "").unwrap();
    let (server, udp, admin) = serving(&folder.0);
    assert_eq!(ask(admin, "POST", "/api/v1/reload").0, 200, "one was empty from the start");
    fs::write(&users, "").unwrap();
    let (status, problem) = ask(admin, "POST", "/api/v1/reload");
    let said = problem["detail"].as_str().unwrap_or_default();
    assert!(status == 422 && said.starts_with("the file is empty") && said.contains("b.toml"), "{problem}");
    fs::write(&users, "# nobody\n").unwrap();
    assert_eq!(ask(admin, "POST", "/api/v1/reload").0, 200, "a comment alone is meant");
    assert!(answers_binding(&udp));
    server.signal("INT");
    assert_eq!(server.end().code(), Some(0));
}
