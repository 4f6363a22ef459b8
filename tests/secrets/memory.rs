//! What a running server does not need any more is not in its memory: passwords it made keys of, tokens and API keys
//! it has the digests of. Shared secrets and the private key are in use.

use super::ports::Stretch;
use super::program::{Folder, Program, turnpike};
use super::untried::not_tried;
use super::{certificate, wire_client};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};

const PASSWORD: &str = "mark/forgotten+password=Ui9oP2aS";
const LISTED: &str = "mark/forgotten+listed=Df5gH8jK1l";
const API_KEY: &str = "mark/forgotten+api+key=Zx4cV7bN0";
const TOKEN: &str = "mark/forgotten+token=Qw3eR6tY9u";
const NEXT: &str = "mark/forgotten+next=Mn8bV5cX2zA";
/// In use, so it must be found: else nothing is looked at.
const SECRET: &str = "mark/remembered+secret=Lk1jH4gF7d";

/// The memory that a process can write to: `None`, and a word about it, where that may not be looked at.
fn memory(program: &Program) -> Option<Vec<u8>> {
    let mut file = match File::open(format!("/proc/{}/mem", program.id())) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            not_tried("what is in memory", &format!("the system does not let it be looked at ({error})"));
            return None;
        }
        Err(error) => panic!("the memory of the server: {error}"),
    };
    let mut bytes = Vec::new();
    for line in program.proc("maps").lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let number = |text: &str| u64::from_str_radix(text, 16).expect("a number");
        file.seek(SeekFrom::Start(number(from))).expect("memory has that place");
        // A mapping may have gone meanwhile.
        let _ = Read::by_ref(&mut file).take(number(to) - number(from)).read_to_end(&mut bytes);
    }
    Some(bytes)
}

/// What all secrets of this test begin with.
const MARK: &[u8] = b"mark/";

/// Everything in memory that begins as they do.
fn marked(memory: &[u8]) -> Vec<&[u8]> {
    let (mut found, mut from) = (Vec::new(), 0);
    while let Some(at) = memory[from..].iter().position(|&byte| byte == MARK[0]) {
        from += at + 1;
        if memory[from - 1..].starts_with(MARK) {
            found.push(&memory[from - 1..]);
        }
    }
    found
}

/// How often a text is among them.
fn places(marked: &[&[u8]], text: &str) -> usize {
    assert!(text.as_bytes().starts_with(MARK), "it is looked for by its beginning");
    marked.iter().filter(|rest| rest.starts_with(text.as_bytes())).count()
}

#[test]
fn a_server_that_runs_has_forgotten_what_it_does_not_need() {
    let (folder, ports) = (Folder::new(), Stretch::next());
    let configuration = |password: &str| {
        format!(
            "realm = \"{}\"\nworkers = 1\n[listen]\nudp = [\"127.0.0.1:0\"]\ntcp = []\ntls = [\"127.0.0.1:0\"]\n\
             [tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n[relay]\nports = \"{}-{}\"\n\
             [auth]\nsecrets = [\"{SECRET}\"]\nusers = {{ alice = \"{password}\" }}\nusers_file = \"users.txt\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nadmin_socket = \"\"\n\
             admin_token_file = \"token.txt\"\napi_keys = [\"{API_KEY}\"]\n",
            wire_client::REALM,
            ports.relay().start(),
            ports.relay().end()
        )
    };
    folder.write("t.toml", configuration(PASSWORD));
    folder.write("users.txt", format!("bob:{LISTED}\n"));
    folder.write("token.txt", TOKEN);
    folder.write("cert.pem", certificate::CERTIFICATE);
    folder.write("key.pem", certificate::KEY);
    let server = Program::start(&mut turnpike(&folder, &["run", "-c", "t.toml"]));
    server.wait_for("serving", 1);
    let forgotten = [PASSWORD, LISTED, API_KEY, TOKEN, NEXT];
    let look = |when: &str| {
        let Some(memory) = memory(&server) else { return };
        let memory = marked(&memory);
        assert!(places(&memory, SECRET) > 0, "{when}: what is in use is there, so that this looks at the right place");
        let found: Vec<_> =
            forgotten.iter().map(|text| (text, places(&memory, text))).filter(|(_, n)| *n > 0).collect();
        assert!(found.is_empty(), "{when}: {found:?}");
    };
    look("at the start");
    folder.write("t.toml", configuration(NEXT));
    server.signal("HUP");
    server.wait_for("reloaded", 1);
    look("after a reload");
    server.signal("INT");
    assert!(server.end().0.success());
}
