//! Messages as another implementation writes them (`foreign_stun.py`): read as they are meant, and written by the library
//! to the same bytes, so that what the other reads is what was meant.

use serde_json::Value;
use std::net::SocketAddr;
use turnpike::wire::attribute;
use turnpike::wire::integrity::{Key, MacKind};
use turnpike::wire::stun::{Class, Message, Method, TransactionId, Writer};

/// Some of them; `TURNPIKE_FOREIGN_STUN` names a file with more.
const VECTORS: &str = include_str!("foreign_stun.jsonl");

/// Checks all vectors and returns how many there were.
pub fn check() -> usize {
    let named = std::env::var("TURNPIKE_FOREIGN_STUN").ok();
    let text = named.map(|path| std::fs::read_to_string(path).expect("TURNPIKE_FOREIGN_STUN names a file"));
    let lines = text.as_deref().unwrap_or(VECTORS).lines();
    lines.map(|line| one(&serde_json::from_str(line).expect("a line is JSON"))).count()
}

fn one(vector: &Value) {
    let bytes = unhex(&vector["bytes"]);
    let key = Key::from_bytes(&unhex(&vector["key"]));
    let message = Message::parse(&bytes).unwrap_or_else(|error| panic!("{error:?}: {vector}"));
    let class = match vector["class"].as_u64() {
        Some(0x000) => Class::Request,
        Some(0x010) => Class::Indication,
        Some(0x100) => Class::Success,
        Some(0x110) => Class::Error,
        _ => panic!("{vector}"),
    };
    let id = TransactionId(unhex(&vector["id"]).try_into().expect("twelve bytes"));
    let method = Method::from_bits(vector["method"].as_u64().expect("a number") as u16);
    assert_eq!((message.class(), message.method(), message.transaction_id()), (class, method, id));
    let is_sealed = vector["seal"] == "integrity";
    assert_eq!((message.has_integrity(), message.verify_integrity(&key)), (is_sealed, is_sealed), "{vector}");
    assert_eq!(message.has_fingerprint(), vector["seal"] != "", "{vector}");

    let mut out = vec![0xAA; bytes.len()];
    let mut writer = Writer::new(&mut out, class, method, id);
    let attributes = vector["attributes"].as_array().expect("a list");
    assert_eq!(message.attributes().count(), attributes.len(), "{vector}");
    for (found, attribute) in message.attributes().zip(attributes) {
        let (kind, value) = (attribute[0].as_u64().expect("a number") as u16, &attribute[2]);
        assert_eq!(found.kind, kind);
        write(&mut writer, kind, value, found.value, id);
    }
    if is_sealed {
        writer.push_integrity(MacKind::Sha1, &key);
    }
    if message.has_fingerprint() {
        writer.push_fingerprint();
    }
    assert_eq!(writer.finish(), Ok(bytes.len()));
    assert!(out == bytes, "it is written otherwise: {vector}");
}

/// Compares what is read of a value with what is meant, and writes what is meant.
fn write(writer: &mut Writer<'_>, kind: u16, meant: &Value, read: &[u8], id: TransactionId) {
    match (kind, meant) {
        (attribute::ERROR_CODE, Value::Array(error)) => {
            let (code, reason) = (error[0].as_u64().expect("a code") as u16, error[1].as_str().expect("a reason"));
            assert_eq!((attribute::error_code(read), &read[4..]), (Some(code), reason.as_bytes()));
            writer.push_parts(kind, &[&attribute::encode_error_code(code), reason.as_bytes()]);
        }
        (_, Value::Array(address)) => {
            let ip = address[0].as_str().expect("an address").parse().expect("an address");
            let addr = SocketAddr::new(ip, address[1].as_u64().expect("a port") as u16);
            let masked = [attribute::XOR_MAPPED_ADDRESS, attribute::XOR_PEER_ADDRESS, attribute::XOR_RELAYED_ADDRESS];
            if masked.contains(&kind) {
                assert_eq!(attribute::xor_address(read, &id), Some(addr));
                writer.push_xor_address(kind, addr);
            } else {
                assert_eq!(attribute::address(read), Some(addr));
                let mut value = [0; attribute::ADDRESS_LEN_MAX];
                let len = attribute::encode_address(addr, &mut value);
                writer.push(kind, &value[..len]);
            }
        }
        (attribute::CHANNEL_NUMBER, Value::Number(number)) => {
            let number = number.as_u64().expect("a number") as u16;
            assert_eq!(attribute::channel_number(read), Some(number));
            writer.push(kind, &u32::from(number).rotate_left(16).to_be_bytes());
        }
        (_, Value::Number(number)) => {
            let number = number.as_u64().expect("a number");
            let wide = number.to_be_bytes();
            let value = &wide[8 - read.len()..];
            assert_eq!(read, value);
            if kind == attribute::LIFETIME {
                assert_eq!(attribute::lifetime(read), u32::try_from(number).ok());
            }
            writer.push(kind, value);
        }
        (attribute::DATA | attribute::NONCE, hex) => {
            assert_eq!(read, unhex(hex));
            writer.push(kind, &unhex(hex));
        }
        (_, Value::String(text)) => {
            assert_eq!(read, text.as_bytes());
            writer.push(kind, text.as_bytes());
        }
        (_, Value::Null) => {
            assert!(read.is_empty());
            writer.push(kind, &[]);
        }
        (_, other) => panic!("{other}"),
    }
}

fn unhex(text: &Value) -> Vec<u8> {
    let digits = text.as_str().expect("text").as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("digits");
    digits.chunks(2).map(byte).collect()
}
