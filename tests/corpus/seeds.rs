//! The first inputs of the fuzz targets for text and streams: what users write and clients send, and faults in it.

use super::certificate;
use super::folder::put;
use super::http::UPGRADE;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use turnpike::config::coturn::keys::KEYS;

/// Writes them all. What a fuzzer finds lies beside them.
pub fn write() {
    configurations();
    requests();
    streams();
}

fn configurations() {
    let sample = include_str!("../../etc/turnpike.toml");
    // Comments are of no use to a fuzzer; the keys in them are.
    let keys = sample.lines().map(|line| line.trim_start_matches("# ").trim_start_matches('#'));
    let keys: Vec<&str> = keys.filter(|line| line.starts_with('[') || line.contains(" = ")).collect();
    for (number, part) in keys.chunks(24).enumerate() {
        put("config", &format!("sample-{number}"), &[b"\0", part.join("\n").as_bytes()].concat());
    }
    for (name, text) in TOML {
        put("config", &format!("toml-{name}"), &[b"\0", text.as_bytes()].concat());
    }
    for (name, text) in CONF {
        put("config", &format!("conf-{name}"), &[b"\x01", text.as_bytes()].concat());
    }
    let all: Vec<String> = KEYS.iter().map(|key| key.name.to_owned()).collect();
    for (number, part) in all.chunks(40).enumerate() {
        put("config", &format!("conf-keys-{number}"), &[b"\x01", part.join("=1\n").as_bytes()].concat());
        put("config", &format!("flags-{number}"), &[b"\x07--", part.join("\n--").as_bytes()].concat());
    }
    put(
        "config",
        "users",
        b"\x02# all of them\nalice:wonder\n bob : pass:word\ncarol:0x8493fbc53ba582fb4c044c456bdc40eb\n",
    );
    put("config", "users-twice", b"\x02alice:1\nalice:2\nnobody\n");
    put("config", "secrets", b"\x03# rotated\nthe first secret of two\n  the second secret\r\n");
    put("config", "secrets-short", b"\x03the first secret of two\nshort\n");
    put("config", "revocations", b"\x04# left in May\r\n\n alice \nbob\n1893456000:carol\n");
    put("config", "words", WORDS.as_bytes());
    put(
        "config",
        "set",
        b"\x06realm=north\nrealm=south\nrelay.ports=\"50000-50100\"\nlimits__allocations=7\nauth.users.a.b=x\n",
    );
    put(
        "config",
        "flags",
        b"\x07-a\n-u\nalice:wonder\n-r\nnorth\n-Lp3478\n--fing\n--min-port=50000\n-c\nx\nwhat\n--\n-n\n",
    );
}

#[rustfmt::skip]
const TOML: &[(&str, &str)] = &[
    ("whole", "realm = \"turn.example.org\"\nworkers = 2\n[listen]\nudp = [\"0.0.0.0:3478\", \"[::1]:3478\"]\ntls = []\n\
      [relay]\nports = \"50000-50100\"\nexternal = [\"203.0.113.7/10.0.0.7\"]\nallow_peers = [\"10.0.0.0/8\", \"fd00::/8\"]\n\
      [auth]\nsecrets = [\"0123456789abcdef\"]\nusers = { alice = \"wonder\", \"b.b\" = 'x' }\nmax_ttl = \"1h30m\"\n\
      [limits]\nallocations = 10\n[http]\nlisten = \"127.0.0.1:8080\"\napi_keys = [\"north-south-east\"]\n\
      [rooms]\nice_servers = [{ urls = [\"turn:a.example:3478\"], username = \"u\", credential = \"hunter22\" }]\n\
      [log]\nlevel = \"debug\"\n"),
    ("unknown", "[auth]\nsecret = \"hidden words here\"\n[limit]\nallocations = 1\n"),
    ("broken", "[auth]\nsecrets = [\"0123456789abcdef\"\nusers = { a = \"hunter22\"\n"),
    ("types", "workers = \"two\"\n[auth]\nsecrets = \"hidden words here\"\nnonce_lifetime = 10\nanonymous = \"yes\"\n"),
    ("refused", "[auth]\nsecrets = [\"short\"]\n[auth.users]\nalice = \"\"\n[relay]\nports = \"9-8\"\nallow_peers = [\"10.0.0.1/8\"]\n"),
    ("limits", "drain_timeout = \"1m\"\nalternate_servers = [\"b.example=203.0.113.9:3478\"]\n[auth]\nnonce_lifetime = \"9s\"\n"),
];

#[rustfmt::skip]
const CONF: &[(&str, &str)] = &[
    ("secret", "listening-port=3478\nfingerprint\nuse-auth-secret\nstatic-auth-secret=0123456789abcdef0123\nrealm=turn.example.org\n\
      total-quota=100\nbps-capacity=0\nstale-nonce=600\nno-multicast-peers\nexternal-ip=203.0.113.7/10.0.0.7\n\
      denied-peer-ip=10.0.0.0-10.255.255.255\nallowed-peer-ip=10.0.0.5\nmin-port=49160\nmax-port=49200\nverbose\n"),
    ("users", "# a comment\nlt-cred-mech\nuser=alice:wonder\nuser = bob:0x8493fbc53ba582fb4c044c456bdc40eb\nrealm north\n\
      listening-ip=127.0.0.1\nrelay-ip=10.0.0.7\ncli-password=qwerty77\nno-tls\nno-dtls\nprometheus\nproc-user=turn\n"),
    ("wrong", "user=alice\nport=3478\nstatic-auth-secert=abc\nlistening-port=65536\nmin-port=7000\nmax-port=6000\nno-auth\n\
      denied-peer-ip=\nallowed-peer-ip=0.0.0.0-255.255.255.255\nfingerprint=maybe\nexternal-ip=turn.example.org\nalternate-server=1.2.3.4\n"),
];

const WORDS: &str = "\x05\
    10m\n1h30m\n90\n100us\n49152-65535\n:\n0.0.0.0:3478\n[::]:3478\n10.0.0.0/8\n10.0.0.1/8\n2001:db8::/32\n203.0.113.7/10.0.0.7\n\
    b.example=203.0.113.9:3478\nhttps://app.example.org\nhttp://a.example:80/\nturn:turn.example.org:3478?transport=udp\n\
    stun:[2001:db8::1]\n+a2+r125000+b1000000000\n7-12-3\n4.6.1-1+deb12u1\ninfo\njournald\nexample.org\nalice\n0123456789abcdef\n";

fn requests() {
    for (name, flags, text) in REQUESTS {
        put("http_ws_step", name, &[&[*flags, 0][..], text.replace('\n', "\r\n").as_bytes()].concat());
    }
    put("http_ws_step", "pieces", &[&[3, 3, 1, 7, 40][..], REQUESTS[0].2.replace('\n', "\r\n").as_bytes()].concat());
    put("http_ws_step", "head", &[&[0, 2, 5, 90][..], UPGRADE].concat());
    let register = br#"{"cmd":"register","roomid":"42","clientid":"12345678"}"#;
    let send = br#"{"cmd":"send","msg":"{\"type\":\"bye\"}"}"#;
    let talk = [frame(0x81, register), frame(0x81, send), frame(0x89, b"ping"), frame(0x88, &[3, 0xE8])].concat();
    let parts = [frame(0x01, &register[..9]), frame(0x80, &register[9..]), frame(0x82, send)].concat();
    for (name, frames) in
        [("talk", talk), ("parts", parts), ("surplus", [frame(1, b"{"), frame(0, b"").repeat(17)].concat())]
    {
        put("http_ws_step", &format!("frames-{name}"), &[&[1, 1, 3][..], &frames].concat());
        put("http_ws_step", &format!("socket-{name}"), &[&[5, 1, 30][..], &frames].concat());
    }
    for (name, first) in [("reserved", 0xC1), ("opcode", 0x83), ("long-ping", 0x89)] {
        put("http_ws_step", &format!("socket-{name}"), &[&[5, 0][..], &frame(first, &[b'a'; 126])].concat());
    }
    for (name, text) in JSON {
        put("http_ws_step", &format!("json-{name}"), &[&[2, 0][..], text.as_bytes()].concat());
    }
}

const JSON: &[(&str, &str)] = &[
    ("plain", r#" {"a":[null,true,"x",-1,2.5e3],"b":{"c":"A\n"}} "#),
    ("twice", r#"[{"b":{"a":1,"c":2,"a":3}}]"#),
    ("deep", "[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]"),
    ("numbers", "[1e308,1e400,-0,18446744073709551616]"),
];

/// A masked frame of a client.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | len as u8),
        len => bytes.extend([&[0x80 | 126][..], &(len as u16).to_be_bytes()].concat()),
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Flags, and a request or several as clients of AppRTC, of Collider and of the API send them.
#[rustfmt::skip]
const REQUESTS: &[(&str, u8, &str)] = &[
    ("apprtc", 3, "GET /r/42 HTTP/1.1\nHost: localhost\n\nPOST /join/42 HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n\
      POST /message/42/12345678 HTTP/1.1\nHost: localhost\nContent-Length: 14\n\n{\"type\":\"bye\"}\
      POST /leave/42/12345678 HTTP/1.1\nHost: localhost\nContent-Length: 0\n\nGET /params HTTP/1.1\nHost: localhost\n\n"),
    ("collider", 3, "POST /42/12345678 HTTP/1.1\nHost: localhost\nContent-Length: 5\n\nhelloDELETE /42/12345678 HTTP/1.1\n\
      Host: localhost\n\nGET /status HTTP/1.1\nHost: localhost\n\n"),
    ("turn", 3, "GET /turn?service=turn&username=alice&key=an-api-key-of-the-corpus&ttl=60 HTTP/1.1\nHost: localhost\n\n\
      OPTIONS /turn HTTP/1.1\nHost: localhost\nOrigin: https://call.example.org\nAccess-Control-Request-Method: GET\n\n"),
    ("credentials", 3, "POST /v1/credentials HTTP/1.1\nHost: localhost\nAuthorization: Bearer an-api-key-of-the-corpus\n\
      Content-Type: application/json\nContent-Length: 28\n\n{\"user\":\"alice\",\"ttl\":\"10m\"}"),
    ("iceconfig", 3, "POST /v1alpha/iceconfig?key=an-api-key-of-the-corpus HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n2\n{}\n0\n\n"),
    ("proxied", 11, "GET / HTTP/1.1\nHost: a\nX-Forwarded-For: 192.0.2.1, [2001:db8::1]:80\nX-Forwarded-Proto: https\n\
      X-Forwarded-Host: turn.example.org\n\nGET /test HTTP/1.1\nHost: localhost\nIf-None-Match: \"x\"\n\n"),
    ("pages", 3, "HEAD / HTTP/1.1\nHost: localhost\n\nGET /a.js HTTP/1.0\n\n"),
    ("expect", 3, "POST /a/ HTTP/1.1\nHost: localhost\nExpect: 100-continue\nContent-Length: 2\n\n{}"),
    ("smuggle", 3, "POST / HTTP/1.1\nHost: localhost\nContent-Length: 5\nTransfer-Encoding: chunked\n\n0\n\nGET / HTTP/1.1\nHost: b\n\n"),
    ("admin", 20, "GET /healthz HTTP/1.1\nHost: localhost\n\nGET /metrics HTTP/1.1\nHost: localhost\n\n\
      GET /api/v1/status HTTP/1.1\nHost: localhost\n\nGET /api/v1/sessions?limit=5 HTTP/1.1\nHost: localhost\n\n"),
    ("steering", 20, "POST /api/v1/revocations HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Length: 14\n\n\
      {\"user\":\"eve\"}\nGET /api/v1/openapi.json HTTP/1.1\nHost: localhost\n\n"),
    ("abroad", 4, "GET /metrics HTTP/1.1\nHost: localhost\n\n"),
];

fn streams() {
    let binding = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], b"twelve bytes"].concat();
    let channel = [&[0x40, 1, 0, 5][..], b"hello\0\0\0"].concat();
    let both = [&binding[..], &channel, &binding].concat();
    for (flags, name) in
        [(0, "clear"), (2, "tls12"), (18, "tls13"), (19, "turned"), (4, "told12"), (20, "told13"), (8, "wide")]
    {
        put("tls_stream", name, &[&[flags, 0][..], &both].concat());
        put("tls_stream", &format!("{name}-cut"), &[&[flags, 3, 1, 9, 30][..], &both].concat());
    }
    put("tls_stream", "http", b"\x00\x01\x07GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    put("tls_stream", "desync", &[&[0, 0][..], &channel[..9], &binding].concat());
    put(
        "tls_stream",
        "dtls",
        &[&[5, 0][..], &[22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9], &[1, 0, 0, 0, 0, 0, 0, 0, 0]].concat(),
    );
    for (version, name) in [(&TLS12, "hello12"), (&TLS13, "hello13")] {
        let config = certificate::client(&[version], &[b"stun.turn"]);
        let name_of_server = ServerName::try_from(certificate::NAME).expect("a name");
        let mut client = rustls::ClientConnection::new(config, name_of_server).expect("a client");
        let mut hello = vec![1, 2, 6, 250];
        client.write_tls(&mut hello).expect("a vector takes everything");
        put("tls_stream", name, &hello);
    }
    put("tls_stream", "endless", &[&[1, 0, 0x16, 3, 1, 0x40, 0, 1, 0xFF, 0xFF, 0xFF][..], &[0; 300]].concat());
    put("tls_stream", "alerts", &[1, 1, 3, 0x15, 3, 3, 0, 2, 1, 0, 0x15, 3, 3, 0, 2, 2, 40]);
}
