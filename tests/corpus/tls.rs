//! A TCP or TLS connection under any bytes in any pieces: the same frames however they come, bounded memory, and always
//! on. Body of the fuzz target `tls_stream`; datagrams of DTLS, which nobody here speaks, are told from STUN beside it.

use super::{certificate, cut};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, ServerConfig};
use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};
use turnpike::engine::rehearsal::{Heard, QUEUE_MAX, RELAYED_QUEUE_MAX, Rehearsal};
use turnpike::wire::channel::{ChannelData, ChannelRange};
use turnpike::wire::stream::FRAME_LEN_MAX;
use turnpike::wire::stun::Message;
use turnpike::wire::{Kind, classify};

/// Memory of a connection at most: a frame that is not whole, in a buffer that grew by doubling, and its output.
const HELD_MAX: usize = 2 * FRAME_LEN_MAX + 2 * QUEUE_MAX;
/// Bytes that one read may leave for the next.
const READ_MAX: usize = 64 << 10;
/// Rounds after which a handshake is over or never will be.
const ROUNDS_MAX: usize = 20;
/// No lengths of pieces: all in one.
const WHOLE: &[u8] = &[];

static SERVER: LazyLock<Arc<ServerConfig>> = LazyLock::new(certificate::server);
static CLIENTS: LazyLock<[Arc<ClientConfig>; 2]> =
    LazyLock::new(|| [&TLS12, &TLS13].map(|version| certificate::client(&[version], &[])));

/// A byte of flags, a byte `n`, `n` lengths of pieces, then bytes. The flags' lower three bits say what they are: in the
/// clear (0), raw records (1), what a client says by TLS (2), the same with a bit turned on the way (3), what it is told
/// (4), or a datagram (5); 8 is the wide channel range, 16 is TLS 1.3.
pub fn tls_stream(input: &[u8]) {
    let [flags, count, rest @ ..] = input else { return };
    let (lens, bytes) = rest.split_at(rest.len().min(usize::from(*count)));
    let range = if flags & 8 == 0 { ChannelRange::Rfc8656 } else { ChannelRange::Rfc5766 };
    match flags & 7 {
        0 => assert_eq!(hear(None, range, lens, bytes), hear(None, range, WHOLE, bytes)),
        1 => {
            let records = Some(&*SERVER);
            assert_eq!(hear(records, range, lens, bytes), hear(records, range, WHOLE, bytes));
        }
        2 => {
            let mut link = Link::new(range, flags & 16 != 0);
            assert_eq!(link.speak(bytes, lens, None), hear(None, range, WHOLE, bytes));
        }
        3 => {
            let mut link = Link::new(range, flags & 16 != 0);
            let heard = link.speak(bytes, lens, Some(usize::from(*count)));
            let meant = hear(None, range, WHOLE, bytes);
            assert!(meant.frames.starts_with(&heard.frames), "nothing is heard that was not said");
        }
        4 => Link::new(range, flags & 16 != 0).listen(bytes, lens),
        _ => datagram(bytes, range),
    }
}

/// What a connection hears of a stream until it is closed.
fn hear(config: Option<&Arc<ServerConfig>>, range: ChannelRange, lens: &[u8], bytes: &[u8]) -> Heard {
    let mut connection = Rehearsal::new(config.cloned(), range).expect("a pair of sockets");
    let mut all = Heard::default();
    for piece in cut(bytes, lens) {
        add(&mut all, take(&mut connection, piece));
        if all.closed {
            break;
        }
    }
    // What it would answer, an alert for one, is bounded too.
    connection.flush(&mut Vec::new());
    all
}

fn add(all: &mut Heard, new: Heard) {
    all.frames.extend(new.frames);
    all.http = if new.http.is_empty() { std::mem::take(&mut all.http) } else { new.http };
    all.closed |= new.closed;
}

/// Hands over some bytes. Each read gets further, and no memory is kept beyond the limits.
fn take(connection: &mut Rehearsal, bytes: &[u8]) -> Heard {
    let heard = connection.hear(bytes).expect("a socket takes what there is room for");
    let reads_max = 2 + 2 * bytes.len().div_ceil(READ_MAX) + bytes.len() / 1024;
    assert!(connection.reads <= reads_max, "{} reads for {} bytes", connection.reads, bytes.len());
    assert!(connection.held() <= HELD_MAX, "{} bytes are held", connection.held());
    heard
}

/// A client that speaks TLS, and its connection.
struct Link {
    connection: Rehearsal,
    client: ClientConnection,
}

impl Link {
    /// A link whose handshake is done.
    fn new(range: ChannelRange, is_new: bool) -> Self {
        let name = ServerName::try_from(certificate::NAME).expect("a name");
        let client = ClientConnection::new(CLIENTS[usize::from(is_new)].clone(), name).expect("a client");
        let connection = Rehearsal::new(Some(SERVER.clone()), range).expect("a pair of sockets");
        let mut link = Link { connection, client };
        let mut rounds = 0;
        while link.client.is_handshaking() || link.connection.is_unready() || link.client.wants_write() {
            let records = link.records();
            let heard = take(&mut link.connection, &records);
            assert!(heard == Heard::default(), "a handshake says nothing");
            link.answer();
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "the handshake has no end");
        }
        link
    }

    /// What the client has to send.
    fn records(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut records).expect("a vector takes everything");
        }
        records
    }

    /// What the client is told.
    fn answer(&mut self) -> Vec<u8> {
        let (mut records, mut plain) = (Vec::new(), Vec::new());
        assert!(self.connection.flush(&mut records), "the client reads");
        let mut rest = &records[..];
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).expect("records");
            self.client.process_new_packets().expect("good records");
            // The end of a read is that there is no more for now.
            let _ = self.client.reader().read_to_end(&mut plain);
        }
        plain
    }

    /// Sends bytes by TLS, a piece a record, and the records in the same pieces; perhaps with one bit turned.
    fn speak(&mut self, bytes: &[u8], lens: &[u8], turned: Option<usize>) -> Heard {
        let mut all = Heard::default();
        let mut records = Vec::new();
        for piece in cut(bytes, lens) {
            self.client.writer().write_all(piece).expect("the client takes it");
            records.extend(self.records());
        }
        if let (Some(turned), false) = (turned, records.is_empty()) {
            let at = turned * 7919 % records.len();
            records[at] ^= 1 << (turned % 8);
        }
        for piece in cut(&records, lens) {
            add(&mut all, take(&mut self.connection, piece));
            if all.closed {
                break;
            }
        }
        all
    }

    /// Is told bytes in pieces, a frame each, and hears them all; what there is no room for is refused.
    fn listen(&mut self, bytes: &[u8], lens: &[u8]) {
        let mut told = Vec::new();
        for (number, piece) in cut(bytes, lens).into_iter().enumerate() {
            let (front, back) = piece.split_at(piece.len() / 2);
            match self.connection.say(&[front, back], number % 2 == 0) {
                Ok(()) => told.extend_from_slice(piece),
                Err(_) => assert!(self.connection.held() + piece.len() > RELAYED_QUEUE_MAX, "there is room"),
            }
            assert!(self.connection.held() <= HELD_MAX);
            if number % 3 == 2 {
                let heard = self.answer();
                assert!(told.starts_with(&heard));
                told.drain(..heard.len());
            }
        }
        assert!(self.answer() == told, "all that was taken arrives");
    }
}

/// RFC 7983 §7: what the first byte of a datagram says. Records of DTLS are 20 to 63, and nobody's.
fn datagram(bytes: &[u8], range: ChannelRange) {
    let kind = match bytes.first() {
        Some(0..=3) => Kind::Stun,
        Some(64..=79) => Kind::ChannelData,
        Some(80..=127) if range == ChannelRange::Rfc5766 => Kind::ChannelData,
        _ => Kind::Other,
    };
    assert_eq!(classify(bytes, range), kind);
    assert!(kind == Kind::Stun || Message::parse(bytes).is_err());
    assert!(kind == Kind::ChannelData || ChannelData::parse(bytes, range).is_err());
}
