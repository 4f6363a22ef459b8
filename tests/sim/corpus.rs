//! The seeds of the fuzz targets: where they lie, how they are made, and that all still pass.

use super::chance::{Choice, Seeded};
use super::message::{self as m, Build, Class, Seal};
use super::{formats, peers, roundtrip, run_bytes, run_choice};

#[path = "../corpus/folder.rs"]
pub mod folder;

use folder::put;

/// Steps of a recorded run.
const RECORDED_STEPS: usize = 120;
/// Recorded runs.
const RECORDED: u64 = 24;
/// Descriptions of messages and of policies, and the bytes of the longest.
const DESCRIBED: u64 = 20;
const DESCRIBED_LEN_MAX: u32 = 1200;

/// The fuzz targets and what each does with an input.
#[allow(clippy::type_complexity)]
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("stun_parse", formats::stun_parse),
    ("stun_roundtrip", roundtrip::stun_roundtrip),
    ("peer_policy", peers::peer_policy),
    ("stream_deframe", formats::stream_deframe),
    ("channel_data", formats::channel_data),
    ("server_ops", |input| drop(run_bytes(input, String::from("fuzz/corpus/server_ops")))),
];

/// Passes choices on, and writes down the bytes that would have made them.
struct Recorder {
    seeded: Seeded,
    bytes: Vec<u8>,
}

impl Choice for Recorder {
    fn below(&mut self, n: u32) -> u32 {
        let chosen = self.seeded.below(n);
        let bytes = chosen.to_be_bytes();
        match n {
            0 | 1 => {}
            2..=0x100 => self.bytes.push(bytes[3]),
            0x101..=0x1_0000 => self.bytes.extend(&bytes[2..]),
            _ => self.bytes.extend(bytes),
        }
        chosen
    }

    fn is_over(&self) -> bool {
        false
    }
}

/// Writes the seeds: what is known to be worth a start. What a fuzzer finds lies beside them.
pub fn write() {
    for (number, message) in messages().into_iter().enumerate() {
        put("stun_parse", &format!("message-{number:02}"), &[&[0][..], &message].concat());
        put("stun_parse", &format!("sealed-{number:02}"), &[&[15][..], &message].concat());
    }
    let stream = messages().into_iter().take(6).chain([frame(0x4000, 5), frame(0x4FFF, 0), frame(0x4001, 1200)]);
    let stream: Vec<u8> = stream.flatten().collect();
    for (number, pieces) in [&[][..], &[1], &[7, 1, 255], &[19, 1, 3, 4]].into_iter().enumerate() {
        let head = [number as u8 & 1, pieces.len() as u8];
        put("stream_deframe", &format!("stream-{number}"), &[&head, pieces, &stream].concat());
    }
    put("stream_deframe", "http", b"\x00\x01\x10GET / HTTP/1.1\r\n\r\n");
    put("stream_deframe", "longest", &[&[0, 2, 255, 255][..], &frame(0x4000, 65_535)[..4], &[0; 900]].concat());
    for (number, len) in [0, 1, 4, 160].into_iter().enumerate() {
        let number = number as u8;
        put("channel_data", &format!("padded-{len}"), &[&[number & 1][..], &frame(0x4000, len)].concat());
        put("channel_data", &format!("short-{len}"), &[&[number & 1][..], &[0x40, number, 0, 200], &[7; 9]].concat());
    }
    put("channel_data", "wide", &[&[1][..], &frame(0x7FFF, 3)].concat());
    for seed in 0..RECORDED {
        let mut recorder = Recorder { seeded: Seeded::new(seed), bytes: Vec::new() };
        drop(run_choice(&mut recorder, RECORDED_STEPS, format!("recorded run {seed}")));
        put("server_ops", &format!("run-{seed:02}"), &recorder.bytes);
    }
    // Any bytes describe something.
    for seed in 0..DESCRIBED {
        let mut seeded = Seeded::new(seed);
        let len = seeded.below(DESCRIBED_LEN_MAX);
        let bytes: Vec<u8> = (0..len).map(|_| seeded.any() as u8).collect();
        put("stun_roundtrip", &format!("described-{seed:02}"), &bytes);
        put("peer_policy", &format!("described-{seed:02}"), &bytes);
    }
}

/// ChannelData as a stream carries it.
fn frame(number: u16, len: u16) -> Vec<u8> {
    let mut bytes = [number.to_be_bytes(), len.to_be_bytes()].concat();
    bytes.resize((4 + usize::from(len)).next_multiple_of(4), 0);
    bytes
}

/// The vectors of RFC 5769 and one of RFC 8489's kind, then one of each usual message.
fn messages() -> Vec<Vec<u8>> {
    let mut messages: Vec<_> = VECTORS.iter().map(|text| unhex(text)).collect();
    let tid = *b"twelve bytes";
    let key = m::long_term_key(m::Algorithm::Md5, b"alice", b"example.org", b"wonder");
    type Shape<'a> = (Class, u16, &'a [(u16, &'a [u8])]);
    let shapes: [Shape<'_>; 7] = [
        (Class::Request, m::BINDING, &[]),
        (Class::Request, m::ALLOCATE, &[(m::REQUESTED_TRANSPORT, &[17, 0, 0, 0]), (m::EVEN_PORT, &[0x80])]),
        (Class::Request, m::REFRESH, &[(m::LIFETIME, &[0, 0, 2, 88]), (m::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0])]),
        (Class::Request, m::CREATE_PERMISSION, &[(m::XOR_PEER_ADDRESS, &[0, 1, 1, 2, 3, 4, 5, 6])]),
        (Class::Request, m::CHANNEL_BIND, &[(m::CHANNEL_NUMBER, &[0x40, 0, 0, 0])]),
        (Class::Indication, m::SEND, &[(m::XOR_PEER_ADDRESS, &[0, 2, 1, 2]), (m::DATA, b"hello"), (0xFFFF, &[1])]),
        (Class::Error, m::ALLOCATE, &[(m::ERROR_CODE, &[0, 0, 4, 1]), (m::PASSWORD_ALGORITHMS, &m::ALGORITHMS)]),
    ];
    for (class, method, attributes) in shapes {
        let mut build = Build::new(class, method, tid);
        attributes.iter().for_each(|(kind, value)| build.push(*kind, value));
        if class == Class::Request && method != m::BINDING {
            build.push(m::USERNAME, b"alice");
            build.push(m::REALM, b"example.org");
            build.push(m::NONCE, b"obMatJos2gAAAjunk");
            build.sign(Seal::Sha1, &key);
        }
        build.push_fingerprint();
        messages.push(build.done());
    }
    messages
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("digits");
    digits.chunks(2).map(byte).collect()
}

/// RFC 5769 §2.1 to §2.4, and an Allocate with USERHASH, PASSWORD-ALGORITHMS and SHA-256.
#[rustfmt::skip]
const VECTORS: &[&str] = &[
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff
     80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249
     c1b571a280280004e57a3bcf",
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643
     000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96",
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9fa
     a5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c",
    "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b900000015001c
     662f2f3439396b39353464364f4c33346f4c39465354767936347341 0014000b6578616d706c652e6f72670000080014
     f67024656dd64a3e02b8e0712e85c9a28ca89666",
    "000300a42112a44278ad3433c6ad72c029da412e0019000411000000001e00204a3cf38fef6992bda952c6780417da0f
     24819415569e60b205c46e41407f17040014000b6578616d706c652e6f726700001500296f624d61744a6f7332774141
     41662f2f3439396b39353464364f4c33346f4c39465354767936347341000000800200080002000000010000001d0004
     00020000001c0020f25a29660e16ea730b056d1ad38490f7ea46639f0aec2085182a64b5b68f688a",
];
