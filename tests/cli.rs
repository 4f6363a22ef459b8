//! The binary as a user meets it: exit codes, what goes to stdout, what goes to stderr.

#[path = "cli/refused.rs"]
mod refused;

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
use turnpike::wire::integrity;

const SECRET: &str = "a secret of 24 bytes ...";

fn turnpike(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TURNPIKE__") {
            command.env_remove(name);
        }
    }
    command
}

fn output(arguments: &[&str]) -> Output {
    turnpike(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A configuration file that goes when the test does.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("cli-{}-{}.toml", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, text).unwrap();
        File(path)
    }

    /// A server on loopback, on ports of the kernel's choice.
    fn server(auth: &str) -> Self {
        File::new(&format!(
            "realm = \"test\"\nworkers = 1\n[listen]\nudp = [\"127.0.0.1:0\"]\ntcp = [\"127.0.0.1:0\"]\n\
             [http]\nlisten = \"\"\nadmin_listen = \"127.0.0.1:0\"\nadmin_socket = \"\"\n\
             [auth]\n{auth}\n"
        ))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// How long a server may take for one line, or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that is killed if the test ends before it does.
struct Server {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Server { child, stdout, stderr }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Lines of the log up to the first that contains `text`.
    fn log_until(&self, text: &str) -> Vec<String> {
        let mut log = Vec::new();
        loop {
            match self.stderr.recv_timeout(PATIENCE) {
                Ok(line) => log.push(line),
                Err(error) => panic!("no `{text}`: {error}\n{log:#?}"),
            }
            if log.last().is_some_and(|line| line.contains(text)) {
                return log;
            }
        }
    }

    /// Waits for the end: a program that has ended has closed what it wrote to.
    fn end(mut self) -> ExitStatus {
        loop {
            match self.stderr.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(RecvTimeoutError::Timeout) => panic!("the server does not end"),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe, so that waiting for one can have an end.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

#[test]
fn help_and_version_succeed_and_a_wrong_command_line_does_not() {
    for arguments in
        [&["--help"][..], &["dev", "--help"], &["run", "-h"], &["check", "--help"], &["credentials", "--help"]]
    {
        let output = output(arguments);
        assert!(output.status.success() && stdout(&output).contains("Example:"), "{arguments:?}");
    }
    let version = format!("turnpike {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(stdout(&output(&["--version"])), version);
    assert_eq!(output(&["serve"]).status.code(), Some(2));
    assert_eq!(output(&["dev", "--port", "65536"]).status.code(), Some(2));
}

#[test]
fn a_wrong_configuration_exits_78_and_says_where() {
    let file = File::new("[listen]\nupd = []\n");
    for command in ["check", "run"] {
        let output = output(&[command, "-c", file.path()]);
        assert_eq!(output.status.code(), Some(78), "{command}");
        assert_eq!(stdout(&output), "");
        let expected = format!(
            "turnpike: unknown key `listen.upd` ({}:2:1)\n  |\n2 | upd = []\n  | ^^^\n  = did you mean `udp`?\n",
            file.path()
        );
        assert_eq!(stderr(&output), expected);
    }
    for arguments in [&["check"][..], &["run"], &["check", "-c", "/nowhere.toml"], &["check", "--set", "workers=129"]] {
        let output = output(arguments);
        assert_eq!(output.status.code(), Some(78), "{arguments:?}");
        assert!(stderr(&output).starts_with("turnpike: "), "{}", stderr(&output));
    }
}

#[test]
fn check_prints_every_value_with_its_source_and_the_warnings() {
    let file = File::server("");
    let mut command = turnpike(&["check", "-c", file.path(), "--set", "limits.allocations=9"]);
    let output = command.env("TURNPIKE__AUTH__USERS__ALICE", "wonderland").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for (value, source) in [
        ("realm = \"test\"", format!("{}:1", file.path())),
        ("udp = [\"127.0.0.1:0\"]", format!("{}:4", file.path())),
        ("users.alice = (set, 10 bytes)", "env TURNPIKE__AUTH__USERS__ALICE".into()),
        ("allocations = 9", "--set limits.allocations".into()),
        ("max_ttl = \"24h\"", "default".into()),
    ] {
        let line = text.lines().find(|line| line.starts_with(value)).unwrap_or_else(|| panic!("{value}\n{text}"));
        assert!(line.ends_with(&format!("  # {source}")), "{line}");
    }
    assert!(!text.contains("wonderland") && text.contains("\n  udp 127.0.0.1:0\n"), "{text}");
}

#[test]
fn check_prints_json() {
    let file =
        File::server(&format!("secrets = [\"{SECRET}\"]\nanonymous = true\ni_know_this_is_an_open_relay = true"));
    let output = output(&["check", "--format", "json", "-c", file.path()]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["values"]["realm"]["value"], "test");
    assert_eq!(json["values"]["auth.secrets"]["value"][0], "(set, 24 bytes)");
    assert_eq!(json["values"]["auth.secrets"]["source"], format!("{}:11", file.path()));
    assert_eq!(json["listening"][0]["address"], "127.0.0.1:0");
    assert!(json["warnings"].as_array().unwrap().iter().any(|w| w.as_str().unwrap().contains("open relay")));
}

#[test]
fn credentials_are_minted_with_the_first_secret() {
    let file = File::new(&format!(
        "realm = \"turn.example.org\"\n[listen]\nudp = [\"127.0.0.1:3478\"]\ntcp = [\"127.0.0.1:443\"]\n\
         [relay]\nexternal = [\"203.0.113.7\"]\n[auth]\nsecrets = [\"{SECRET}\", \"another secret, later\"]\n"
    ));
    let output = output(&["credentials", "--user", "alice", "--ttl", "8h", "-c", file.path()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let server = &json["iceServers"][0];
    assert_eq!(server["urls"][0], "turn:203.0.113.7:3478?transport=udp");
    assert_eq!(server["urls"][1], "turn:203.0.113.7:443?transport=tcp");
    let username = server["username"].as_str().unwrap();
    let (expiry, id) = username.split_once(':').unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let left = expiry.parse::<u64>().unwrap() - now;
    assert!(id == "alice" && (8 * 3600 - 60..=8 * 3600).contains(&left), "{username}");
    let password = integrity::rest_password(SECRET.as_bytes(), username.as_bytes());
    assert_eq!(server["credential"].as_str().unwrap().as_bytes(), password);
}

#[test]
fn credentials_may_have_caps() {
    let secret = File::new(SECRET);
    let mint = |options: &[&str]| {
        output(&[&["credentials", "--user", "bob", "--secret-file", secret.path()], options].concat())
    };
    let minted = mint(&["--bytes", "1000000000", "--allocations", "2", "--bytes-per-second", "125000"]);
    let json: Value = serde_json::from_slice(&minted.stdout).unwrap();
    let username = json["iceServers"][0]["username"].as_str().unwrap();
    assert!(username.ends_with("+a2+r125000+b1000000000:bob"), "{username}");
    let password = integrity::rest_password(SECRET.as_bytes(), username.as_bytes());
    assert_eq!(json["iceServers"][0]["credential"].as_str().unwrap().as_bytes(), password);
    for wrong in [["--bytes", "0"], ["--allocations", "-1"], ["--bytes-per-second", "1MB"]] {
        assert_eq!(mint(&wrong).status.code(), Some(2), "{wrong:?}");
    }
    let refused = mint(&["--bytes", "1", "--set", "auth.separator=+"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("auth.separator"), "{}", stderr(&refused));
}

#[test]
fn revocations_are_kept_in_the_state_directory_that_systemd_made() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-state-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = File::server("users = { alice = \"wonderland\" }\n[log]\nformat = \"json\"");
    let mut command = turnpike(&["run", "-c", file.path()]);
    let server = Server::start(command.env("STATE_DIRECTORY", format!("{}:/nowhere", folder.display())));
    let log = server.log_until("\"serving\"");
    let line: Value = serde_json::from_str(log.last().unwrap()).unwrap();
    let revoke = output(&["revoke", "alice", "--admin", line["admin"].as_str().unwrap()]);
    assert_eq!(stdout(&revoke), "alice is revoked: 0 sessions ended; kept across restarts\n", "{}", stderr(&revoke));
    let kept = std::fs::read_to_string(folder.join("revocations")).unwrap();
    assert!(kept.ends_with("\nalice\n"), "{kept}");
    server.signal("INT");
    assert_eq!(server.end().code(), Some(0));
    for wrong in [&["revoke"][..], &["revoke", "a", "--list"], &["revoke", "a", "--undo", "b"]] {
        assert_eq!(output(wrong).status.code(), Some(2), "{wrong:?}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn credentials_take_a_secret_file_and_refuse_what_the_server_would() {
    let secret = File::new(&format!("# ours\n{SECRET}\n"));
    let minted = output(&["credentials", "--user", "bob", "--secret-file", secret.path()]);
    assert!(minted.status.success(), "{}", stderr(&minted));
    let json: Value = serde_json::from_slice(&minted.stdout).unwrap();
    let username = json["iceServers"][0]["username"].as_str().unwrap();
    let password = integrity::rest_password(SECRET.as_bytes(), username.as_bytes());
    assert_eq!(json["iceServers"][0]["credential"].as_str().unwrap().as_bytes(), password);

    let server = File::server("");
    let none = output(&["credentials", "--user", "bob", "-c", server.path()]);
    assert_eq!(none.status.code(), Some(78));
    assert!(stderr(&none).starts_with("turnpike: there is no secret to mint with"), "{}", stderr(&none));
    let long = output(&["credentials", "--user", "bob", "--ttl", "25h", "--secret-file", secret.path()]);
    assert_eq!(long.status.code(), Some(1));
    assert_eq!(stderr(&long), "turnpike: --ttl 25h is longer than auth.max_ttl = 24h (default)\n");
    for user in ["", "a\nb", &"x".repeat(500)] {
        let refused = output(&["credentials", "--user", user, "--secret-file", secret.path()]);
        assert_eq!(refused.status.code(), Some(1), "{user}");
    }
}

/// A Binding request with the transaction id `turnpike-cli`.
const BINDING: &[u8; 20] = b"\x00\x01\x00\x00\x21\x12\xa4\x42turnpike-cli";

fn answers_binding(address: &str) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut buffer = [0; 1500];
    // A lost datagram is sent again; loopback loses none unless the machine is overloaded.
    (0..5).any(|_| {
        socket.send_to(BINDING, address).unwrap();
        socket.recv(&mut buffer).is_ok_and(|len| len > 20 && buffer[..2] == [1, 1] && buffer[8..20] == BINDING[8..])
    })
}

/// The JSON object `dev` prints: from a line `{` to the line `}`.
fn ice_server(server: &Server) -> Value {
    let mut text = String::new();
    loop {
        let line = server.stdout.recv_timeout(PATIENCE).unwrap();
        if line == "{" || !text.is_empty() {
            text.push_str(&line);
        }
        if line == "}" {
            let json: Value = serde_json::from_str(&text).unwrap();
            return json["iceServers"][0].clone();
        }
    }
}

#[test]
fn dev_prints_an_ice_server_and_stops_on_term() {
    let server = Server::start(&mut turnpike(&[
        "dev",
        "--listen",
        "127.0.0.1",
        "--http",
        "127.0.0.1:0",
        "--port",
        "0",
        "--workers",
        "1",
    ]));
    let ice = ice_server(&server);
    assert!(ice["username"].as_str().unwrap().ends_with(":dev"));
    let uri = ice["urls"][0].as_str().unwrap();
    let address = uri.strip_prefix("turn:").and_then(|uri| uri.strip_suffix("?transport=udp")).unwrap();
    assert!(address.starts_with("127.0.0.1:") && answers_binding(address), "{uri}");
    server.signal("TERM");
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn dev_prints_the_user_it_is_given_and_stops_on_int() {
    let options = ["dev", "--listen", "127.0.0.1", "--http", "127.0.0.1:0", "--port", "0", "--user", "alice:won:der"];
    let server = Server::start(&mut turnpike(&options));
    let ice = ice_server(&server);
    assert_eq!((ice["username"].as_str(), ice["credential"].as_str()), (Some("alice"), Some("won:der")));
    server.signal("INT");
    assert_eq!(server.end().code(), Some(0));
}

/// The status line of an HTTP answer.
fn status_line(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn dev_serves_its_pages_where_it_says() {
    let options = ["dev", "--listen", "127.0.0.1", "--http", "127.0.0.1:0", "--port", "0"];
    let server = Server::start(&mut turnpike(&options));
    let mut pages = Vec::new();
    while pages.len() < 3 {
        let line = server.stdout.recv_timeout(PATIENCE).unwrap();
        pages
            .extend(line.trim().strip_prefix("http://").map(|page| page.split_whitespace().next().unwrap().to_owned()));
    }
    for page in &pages {
        let (host, path) = page.split_once('/').unwrap();
        assert_eq!(
            status_line(&host.replace("localhost", "127.0.0.1"), &format!("/{path}")),
            "HTTP/1.1 200 OK",
            "{page}"
        );
    }
    let admin = format!("http://{}", pages[2].trim_end_matches('/'));
    let status = output(&["status", "--admin", &admin]);
    assert!(stdout(&status).starts_with("state         serving"), "{}", stderr(&status));
    let reload = output(&["reload", "--admin", &admin]);
    assert!(stderr(&reload).contains("has no configuration file"), "{}", stderr(&reload));
    server.signal("INT");
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn dev_without_pages_only_relays() {
    let options = ["dev", "--listen", "127.0.0.1", "--http", "off", "--port", "0"];
    let server = Server::start(&mut turnpike(&options));
    let first: Vec<String> = (0..3).map(|_| server.stdout.recv_timeout(PATIENCE).unwrap()).collect();
    assert!(first[2].starts_with("Relaying for clients of"), "{first:?}");
    server.signal("INT");
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn dev_names_the_option_that_is_wrong() {
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = web.local_addr().unwrap().to_string();
    let refused = output(&["dev", "--listen", "127.0.0.1", "--port", "0", "--http", &address]);
    assert_eq!(refused.status.code(), Some(1));
    let text = stderr(&refused);
    assert!(text.contains(&address) && text.contains("choose another with --http ADDR"), "{text}");
    let refused = output(&["dev", "--listen", "127.0.0.1", "--port", "0", "--http", "8080"]);
    assert!(
        stderr(&refused).starts_with("turnpike: --http: `8080` is not an address and port"),
        "{}",
        stderr(&refused)
    );

    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let refused = output(&["dev", "--listen", "127.0.0.1", "--port", &port]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).starts_with(&format!("turnpike: port {port} is taken: choose another with --port")),
        "{}",
        stderr(&refused)
    );

    let short =
        output(&["dev", "--listen", "127.0.0.1", "--http", "127.0.0.1:0", "--port", "0", "--secret", "hunter2"]);
    assert_eq!(short.status.code(), Some(1));
    assert!(
        stderr(&short).starts_with("turnpike: --secret: a secret of 7 bytes") && !stderr(&short).contains("hunter2")
    );
}

#[test]
fn run_serves_says_so_answers_hup_and_stops() {
    let file = File::server(&format!("secrets = [\"{SECRET}\"]\n[log]\nformat = \"json\""));
    let server = Server::start(&mut turnpike(&["run", "-c", file.path()]));
    let log = server.log_until("\"serving\"");
    let line: Value = serde_json::from_str(log.last().unwrap()).unwrap();
    assert_eq!((line["realm"].as_str(), line["workers"].as_u64()), (Some("test"), Some(1)));
    let udp = line["listen"].as_str().unwrap().split(", ").find_map(|listen| listen.strip_prefix("udp ")).unwrap();
    assert!(answers_binding(udp), "{line}");
    server.signal("HUP");
    assert!(server.log_until("\"reloaded\"").last().unwrap().contains("INFO"));
    assert!(answers_binding(udp));
    server.signal("TERM");
    server.log_until("\"stopped\"");
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn run_logs_for_journald() {
    let file = File::server("[log]\nformat = \"journald\"");
    let server = Server::start(&mut turnpike(&["run", "-c", file.path()]));
    let log = server.log_until("serving");
    assert!(log[0].starts_with("<4>there is no secret and no user"), "{log:#?}");
    assert!(log.last().unwrap().starts_with("<6>serving version="), "{log:#?}");
    server.signal("INT");
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn run_blames_the_address_this_host_does_not_have() {
    let file = File::new("[listen]\nudp = [\"127.0.0.1:0\", \"192.0.2.99:3478\"]\ntcp = []\n");
    let output = output(&["run", "-c", file.path()]);
    assert_eq!(output.status.code(), Some(1), "it may come: another start may help");
    let text = stderr(&output);
    let expected = format!("turnpike: `listen.udp`: 192.0.2.99 is not an address of this host ({}:2:23)", file.path());
    assert!(text.contains(&expected), "{text}");
}
