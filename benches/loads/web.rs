//! Visitors of the public part: rooms by WebSocket, and credentials.

use crate::gauges;
use crate::site::API_KEY;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;
use tungstenite::{Message, WebSocket};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks for a credential of a user, as an application does.
pub fn credential(public: SocketAddr, user: &str) -> io::Result<()> {
    let key = format!("Authorization: Bearer {API_KEY}\r\n");
    let answer = gauges::get(public, &format!("/turn?service=turn&username={user}"), &key)?;
    let credential: Value = serde_json::from_str(&answer)?;
    if credential["password"].is_string() { Ok(()) } else { Err(io::Error::other(format!("no password: {answer}"))) }
}

/// A visitor with a seat in a room.
pub struct Visitor(pub WebSocket<TcpStream>);

impl Visitor {
    /// Comes from an address of this host, takes a seat, and does not wait for a word about it.
    pub fn come(public: SocketAddr, from: IpAddr, room: &str, name: &str) -> io::Result<Visitor> {
        let socket = Socket::new(Domain::for_address(public), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect(&public.into())?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let opened = tungstenite::client(format!("ws://{public}/ws"), stream);
        let (socket, _) = opened.map_err(|error| io::Error::other(format!("a WebSocket is refused: {error}")))?;
        let mut visitor = Visitor(socket);
        visitor.say(&json!({ "cmd": "register", "roomid": room, "clientid": name }))?;
        Ok(visitor)
    }

    /// Sends a frame.
    pub fn say(&mut self, frame: &Value) -> io::Result<()> {
        self.0.send(Message::text(frame.to_string())).map_err(io::Error::other)
    }

    /// Sends a message to the others in the room.
    pub fn send(&mut self, text: &str) -> io::Result<()> {
        self.say(&json!({ "cmd": "send", "msg": text }))
    }

    /// The next message of another.
    pub fn hear(&mut self) -> io::Result<String> {
        loop {
            if let Message::Text(text) = self.0.read().map_err(io::Error::other)? {
                let message: Value = serde_json::from_str(&text)?;
                return match message["error"].as_str() {
                    Some("") | None => Ok(message["msg"].as_str().unwrap_or_default().to_owned()),
                    Some(error) => Err(io::Error::other(format!("a room says: {error}"))),
                };
            }
        }
    }

    /// Hangs up and waits until the server has heard it.
    pub fn leave(mut self) -> io::Result<()> {
        self.0.close(None).map_err(io::Error::other)?;
        while self.0.read().is_ok() {}
        Ok(())
    }
}

/// Two visitors meet in a room, say a word each, and leave.
pub fn meet(public: SocketAddr, from: IpAddr, room: &str) -> io::Result<()> {
    let mut first = Visitor::come(public, from, room, "1")?;
    let mut second = Visitor::come(public, from, room, "2")?;
    for (word, ear_is_second) in [("offer", true), ("answer", false)] {
        let (mouth, ear) = if ear_is_second { (&mut first, &mut second) } else { (&mut second, &mut first) };
        mouth.send(word)?;
        let heard = ear.hear()?;
        if heard != word {
            return Err(io::Error::other(format!("{word} was said, {heard} was heard")));
        }
    }
    first.leave()?;
    second.leave()
}
