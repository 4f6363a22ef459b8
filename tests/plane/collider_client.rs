//! A WebSocket client of Collider that says exactly what it is told.

use super::super::fixture::PATIENCE;
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::{HeaderName, HeaderValue};
use tungstenite::{Bytes, Error, Message, WebSocket};

/// What the server says to an unknown command.
pub const UNEXPECTED: &str = "Invalid message: unexpected 'cmd'";

/// A socket at `/ws`.
pub struct Talker {
    socket: WebSocket<TcpStream>,
}

impl Talker {
    /// A socket without an `Origin`, as applications open it.
    pub fn open(addr: SocketAddr) -> Talker {
        Talker::open_with(addr, &[]).expect("the handshake succeeds")
    }

    /// A socket with more headers in its handshake; the error is the status.
    pub fn open_with(addr: SocketAddr, headers: &[(&str, &str)]) -> Result<Talker, u16> {
        let mut request = format!("ws://{addr}/ws").into_client_request().expect("it is a URL");
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("it is a header");
            request.headers_mut().append(name, HeaderValue::from_str(value).expect("it is a value"));
        }
        let stream = TcpStream::connect(addr).expect("the plane accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("TCP takes its options");
        stream.set_write_timeout(Some(PATIENCE)).expect("TCP takes its options");
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Talker { socket }),
            Err(tungstenite::HandshakeError::Failure(Error::Http(answer))) => Err(answer.status().as_u16()),
            Err(error) => panic!("the handshake is answered: {error}"),
        }
    }

    /// A socket that is registered, which the server has heard.
    pub fn registered(addr: SocketAddr, room: &str, client: &str) -> Talker {
        let mut talker = Talker::open(addr);
        talker.register(room, client);
        talker
    }

    /// Registers and waits until the server has heard it; what was said to it first is dropped.
    pub fn register(&mut self, room: &str, client: &str) {
        self.say(&json!({ "cmd": "register", "roomid": room, "clientid": client }));
        let heard = self.drain();
        assert!(heard.iter().all(|text| !text.is_empty()), "messages are texts: {heard:?}");
    }

    /// Sends a frame of JSON.
    pub fn say(&mut self, frame: &Value) {
        self.write(Message::text(frame.to_string()));
    }

    /// Sends a message to the others in the room.
    pub fn send(&mut self, text: &str) {
        self.say(&json!({ "cmd": "send", "msg": text }));
    }

    /// Sends a frame as it is.
    pub fn write(&mut self, frame: Message) {
        self.socket.send(frame).expect("the socket is open");
    }

    /// Sends a frame to a server that may be gone.
    pub fn try_write(&mut self, frame: Message) -> bool {
        self.socket.send(frame).is_ok()
    }

    /// Sends bytes beside the protocol.
    pub fn raw(&mut self) -> &mut TcpStream {
        self.socket.get_mut()
    }

    /// The next message, which must come and have both keys and a new line.
    pub fn hear(&mut self) -> Result<String, String> {
        let text = match self.next() {
            Message::Text(text) => text,
            other => panic!("a message comes: {other:?}"),
        };
        assert!(text.ends_with('\n'), "Collider's messages end with a new line");
        let value: Value = serde_json::from_str(&text).expect("a message is JSON");
        let keys = value.as_object().expect("a message is an object").len();
        let (msg, error) = (value["msg"].as_str().expect("msg"), value["error"].as_str().expect("error"));
        assert_eq!(keys, 2, "{text}");
        match (msg, error) {
            (msg, "") => Ok(msg.to_string()),
            ("", error) => Err(error.to_string()),
            other => panic!("a message is one or the other: {other:?}"),
        }
    }

    /// All messages that were said to it before the server heard all that it said.
    pub fn drain(&mut self) -> Vec<String> {
        self.say(&json!({ "cmd": "is all said?" }));
        let mut heard = Vec::new();
        loop {
            match self.hear() {
                Ok(text) => heard.push(text),
                Err(error) => {
                    assert_eq!(error, UNEXPECTED);
                    return heard;
                }
            }
        }
    }

    /// The code that the server closes with, after any error it tells; `None`: it just closed.
    pub fn ended(&mut self) -> Option<u16> {
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
                Ok(_) => {}
                Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("the server closes")
                }
                Err(_) => return None,
            }
        }
    }

    /// The error that the server tells, and the code that it closes with.
    pub fn refused(&mut self) -> (String, Option<u16>) {
        (self.hear().expect_err("an error comes"), self.ended())
    }

    /// Waits for a ping of the server and answers it.
    pub fn answer_ping(&mut self) {
        while !matches!(self.socket.read().expect("a ping comes"), Message::Ping(_)) {}
        // The answer was queued by reading the ping.
        self.socket.flush().expect("the socket is open");
    }

    /// Pings, and returns whether the answer is right.
    pub fn ping(&mut self, payload: &'static [u8]) -> bool {
        self.write(Message::Ping(Bytes::from_static(payload)));
        matches!(self.next(), Message::Pong(answer) if answer == payload)
    }

    /// Closes as a page does that is left (1001) or that hangs up (1000).
    pub fn close(mut self, code: u16) {
        let frame = tungstenite::protocol::CloseFrame { code: code.into(), reason: "".into() };
        self.socket.close(Some(frame)).expect("the socket is open");
        self.socket.flush().expect("the socket is open");
        while self.socket.read().is_ok() {}
    }

    fn next(&mut self) -> Message {
        loop {
            match self.socket.read() {
                Ok(Message::Ping(_)) => {}
                Ok(message) => return message,
                Err(error) => panic!("something is said: {error}"),
            }
        }
    }
}
