//! One WebSocket: its handshake, its limits, and Collider's words on it.

use super::super::frames::TooManyFragments;
use super::super::guard::{self, Caller, Problem};
use super::super::{Shared, json as strict};
use super::hub::{self, Line, Place};
use super::must_have_rooms;
use crate::rooms::{ClientId, Limits, Refusal, RoomId};
use axum::Extension;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde::Deserialize;
use serde_json::json;
use std::error::Error as _;
use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

/// Bytes of the longest message.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Bytes that are read of a longer one, so that its sender reads why it is refused.
const READ_BYTES_MAX: usize = 4 * MESSAGE_BYTES_MAX;
/// Bytes that a socket's buffer takes at once; it is there for as long as the socket.
const BUFFER_BYTES: usize = 8 << 10;
/// Frames a socket may send at once.
pub const BURST: NonZeroU32 = NonZeroU32::new(100).unwrap();
/// Frames a socket may send in a second after that.
pub const FRAMES_PER_SECOND: NonZeroU32 = NonZeroU32::new(50).unwrap();
/// Longest that a socket may take over anything, whatever the limits say.
const PATIENCE_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long a socket has to answer when another one knocks for its client.
const PROBE: Duration = Duration::from_secs(3);
/// How long a client has to read the last word.
const LINGER: Duration = Duration::from_secs(2);
/// Frames read from a client after the last word was said to it.
const LINGER_FRAMES_MAX: usize = 1024;
/// What Collider says to those who do not open a WebSocket.
const NOT_WEBSOCKET: &str = "not websocket protocol\n";
/// A page was closed or left: it will not be back.
const GOING_AWAY: u16 = close_code::AWAY;
/// Try again later: it does not read what it is sent.
const SLOW_READER: u16 = close_code::AGAIN;

/// What a client sends; what is missing is empty.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    cmd: Option<String>,
    roomid: Option<String>,
    clientid: Option<String>,
    msg: Option<String>,
}

/// `/ws`: a WebSocket, for pages of this server or of a listed origin, and for applications.
pub async fn upgrade(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let patience = Patience::of(&must_have_rooms(&shared)?);
    let socket = match socket {
        Ok(socket) => socket,
        // RFC 6455 §4.4: whoever speaks another version is told which one is spoken here; RFC 9110
        // §15.5.22 has the protocol named too.
        Err(WebSocketUpgradeRejection::InvalidWebSocketVersionHeader(_)) => {
            let told = [(header::SEC_WEBSOCKET_VERSION, "13"), (header::UPGRADE, "websocket")];
            return Ok((StatusCode::UPGRADE_REQUIRED, told, NOT_WEBSOCKET).into_response());
        }
        Err(_) => return Ok((StatusCode::BAD_REQUEST, NOT_WEBSOCKET).into_response()),
    };
    if !guard::is_origin_allowed(&shared.live.load(), &caller, &headers) {
        let detail = "pages of this origin may not open sockets here; http.cors_origins lists those that may";
        return Err(Problem::new(StatusCode::FORBIDDEN, "origin", detail));
    }
    let place = Place::take(&shared, caller.ip)?;
    let socket = socket.max_message_size(READ_BYTES_MAX).max_frame_size(READ_BYTES_MAX).read_buffer_size(BUFFER_BYTES);
    Ok(socket.on_upgrade(move |socket| Conversation::new(place, socket, patience).hold()))
}

/// Why a conversation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client closed, or its connection broke.
    Closed { is_gone: bool },
    /// This side closes, with this code.
    Closing(u16),
}

/// How long a socket may take over what.
#[derive(Clone, Copy)]
struct Patience {
    /// From its opening to its register.
    register: Duration,
    /// Between two pings of ours.
    ping: Duration,
    /// Without a word, a ping or a pong of its own.
    silence: Duration,
}

impl Patience {
    fn of(limits: &Limits) -> Self {
        let patience = |ms: u64| Duration::from_millis(ms).clamp(Duration::from_millis(1), PATIENCE_MAX);
        Patience {
            register: patience(limits.grace_ms),
            ping: patience(limits.ping_ms),
            silence: patience(limits.silence_ms),
        }
    }
}

struct Conversation {
    place: Place,
    socket: WebSocket,
    patience: Patience,
    rate: DefaultDirectRateLimiter,
    opened: Instant,
    heard: Instant,
    /// When it must have answered, if it was asked.
    answer_by: Option<Instant>,
    is_registered: bool,
    /// The last word was said; nothing more is heard.
    is_over: bool,
}

impl Conversation {
    fn new(place: Place, socket: WebSocket, patience: Patience) -> Self {
        let rate = RateLimiter::direct(Quota::per_second(FRAMES_PER_SECOND).allow_burst(BURST));
        let now = Instant::now();
        Conversation {
            place,
            socket,
            patience,
            rate,
            opened: now,
            heard: now,
            answer_by: None,
            is_registered: false,
            is_over: false,
        }
    }

    async fn hold(mut self) {
        let end = self.converse().await;
        tracing::debug!(socket = self.place.id.0, ?end, "a room's socket ended");
        match end {
            End::Closed { is_gone } => {
                self.place.closed(is_gone);
                self.linger().await;
            }
            End::Closing(code) => {
                self.place.closed(false);
                self.farewell(code).await;
            }
        }
    }

    async fn converse(&mut self) -> End {
        let mut ping = interval_at(self.opened + self.patience.ping, self.patience.ping);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = self.deadline();
            let said = tokio::select! {
                () = self.place.backlog.overflown.notified() => Err(self.slow()),
                line = self.place.lines.recv() => match line {
                    Some(Line::Text(text)) => {
                        self.place.backlog.took(&text);
                        self.write(Message::Text(text)).await
                    }
                    Some(Line::Late(text)) => self.write(Message::Text(text)).await,
                    Some(Line::Probe) => {
                        self.answer_by.get_or_insert(Instant::now() + PROBE);
                        self.write(Message::Ping(Default::default())).await
                    }
                    Some(Line::Close(code)) => Err(End::Closing(code)),
                    // The hub gave up on it.
                    None => Err(self.slow()),
                },
                frame = self.socket.recv(), if !self.is_over => self.read(frame),
                _ = ping.tick() => self.write(Message::Ping(Default::default())).await,
                () = sleep_until(deadline) => Err(End::Closing(close_code::POLICY)),
            };
            if let Err(end) = said {
                return end;
            }
        }
    }

    /// Until when the client may go on like this.
    fn deadline(&self) -> Instant {
        let silent = self.heard + self.patience.silence;
        let register = if self.is_registered { silent } else { self.opened + self.patience.register };
        silent.min(register).min(self.answer_by.unwrap_or(silent))
    }

    /// Writes until the deadline; a reader too slow is not waited for.
    async fn write(&mut self, message: Message) -> Result<(), End> {
        let deadline = self.deadline();
        let backlog = self.place.backlog.clone();
        let written = tokio::select! {
            () = backlog.overflown.notified() => None,
            () = sleep_until(deadline) => None,
            written = self.socket.send(message) => Some(written),
        };
        match written {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) => Err(End::Closed { is_gone: false }),
            None => Err(self.slow()),
        }
    }

    fn slow(&self) -> End {
        self.place.shared().signalling.ws_errors.fetch_add(1, Ordering::Relaxed);
        End::Closing(SLOW_READER)
    }

    fn read(&mut self, frame: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Err(End::Closing(broken(&error).ok_or(End::Closed { is_gone: false })?)),
            None => return Err(End::Closed { is_gone: false }),
        };
        self.heard = Instant::now();
        self.answer_by = None;
        if let Message::Close(frame) = frame {
            return Err(End::Closed { is_gone: frame.is_some_and(|frame| frame.code == GOING_AWAY) });
        }
        if self.rate.check().is_err() {
            self.refuse("Too many messages", Some(close_code::POLICY));
            return Ok(());
        }
        match frame {
            Message::Text(text) => self.hear(text.as_bytes()),
            Message::Binary(bytes) => self.hear(&bytes),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
        }
        Ok(())
    }

    fn hear(&mut self, bytes: &[u8]) {
        if let Err(problem) = must_have_rooms(self.place.shared()) {
            return self.refuse(&problem.detail, Some(close_code::AWAY));
        }
        if bytes.len() > MESSAGE_BYTES_MAX {
            return self.refuse("Message too long", Some(close_code::SIZE));
        }
        // An array would be read as a struct's fields in their order.
        let is_object = bytes.trim_ascii_start().starts_with(b"{");
        let asked = match strict::read::<Asked>(bytes) {
            Ok(asked) if is_object => asked,
            Ok(_) => return self.refuse("websocket.JSON.Receive error: no object", Some(close_code::NORMAL)),
            Err(error) => {
                return self.refuse(&format!("websocket.JSON.Receive error: {error}"), Some(close_code::NORMAL));
            }
        };
        match asked.cmd.as_deref() {
            Some("register") => {
                self.register(&asked.roomid.unwrap_or_default(), &asked.clientid.unwrap_or_default());
            }
            Some("send") => self.send(&asked.msg.unwrap_or_default()),
            _ => self.refuse("Invalid message: unexpected 'cmd'", None),
        }
    }

    fn register(&mut self, room: &str, client: &str) {
        let closes = Some(close_code::NORMAL);
        if self.is_registered {
            return self.refuse(&Refusal::RegisteredTwice.to_string(), closes);
        }
        if room.is_empty() || client.is_empty() {
            return self.refuse("Invalid register request: missing 'clientid' or 'roomid'", closes);
        }
        let (Some(room), Some(client)) = (RoomId::parse(room), ClientId::parse(client)) else {
            let error = "Invalid register request: 'clientid' and 'roomid' are 1 to 64 letters, digits, '-' or '_'";
            return self.refuse(error, closes);
        };
        let hub = &self.place.shared().signalling;
        if hub.admit_as(self.place.source, &room, &client).is_err() {
            return self.refuse("Too many registrations", Some(close_code::POLICY));
        }
        let id = self.place.id;
        match hub::act(self.place.shared(), |rooms, now_ms| rooms.register(now_ms, id, &room, &client)) {
            Ok(()) => self.is_registered = true,
            Err(refusal) => self.refuse(&refusal.to_string(), closes),
        }
    }

    fn send(&mut self, text: &str) {
        let closes = Some(close_code::NORMAL);
        if !self.is_registered {
            return self.refuse(&Refusal::NotRegistered.to_string(), closes);
        }
        if text.is_empty() {
            return self.refuse("Invalid send request: missing 'msg'", closes);
        }
        let id = self.place.id;
        match hub::act(self.place.shared(), |rooms, now_ms| rooms.send(now_ms, id, text)) {
            // Collider does not tell that nobody has room for it; clients do not expect it.
            Ok(()) | Err(Refusal::QueueFull) => {}
            Err(Refusal::MessageTooLong) => self.refuse(&Refusal::MessageTooLong.to_string(), None),
            Err(refusal) => self.refuse(&refusal.to_string(), closes),
        }
    }

    /// Tells the client what is wrong, after all that was said to it before, and then closes if
    /// there is a code to close with.
    fn refuse(&mut self, error: &str, closes: Option<u16>) {
        self.place.shared().signalling.ws_errors.fetch_add(1, Ordering::Relaxed);
        self.place.tell(Line::Text(Utf8Bytes::from(format!("{}\n", json!({ "msg": "", "error": error })))));
        if let Some(code) = closes {
            self.is_over = true;
            self.place.tell(Line::Close(code));
        }
    }

    async fn farewell(&mut self, code: u16) {
        let frame = CloseFrame { code, reason: Utf8Bytes::default() };
        if let Ok(Ok(())) = timeout(LINGER, self.socket.send(Message::Close(Some(frame)))).await {
            self.linger().await;
        }
    }

    /// Reads on for a moment: a connection closed with something unread in it is reset, and the
    /// client would never read why.
    async fn linger(&mut self) {
        let read_on = async {
            for _ in 0..LINGER_FRAMES_MAX {
                if !matches!(self.socket.recv().await, Some(Ok(_))) {
                    break;
                }
            }
        };
        // However it ends, the socket is dropped next.
        let _ = timeout(LINGER, read_on).await;
    }
}

/// The code for a frame that cannot be read; `None`: the connection itself broke. The library's
/// error type is not ours to match, its words are; what the intake refused is.
fn broken(error: &axum::Error) -> Option<u16> {
    let mut sources = std::iter::successors(error.source(), |&error| error.source());
    let is_fragmented = |error: &io::Error| error.get_ref().is_some_and(|inner| inner.is::<TooManyFragments>());
    if sources.any(|error| error.downcast_ref().is_some_and(is_fragmented)) {
        return Some(close_code::SIZE);
    }
    let text = error.to_string();
    if text.starts_with("Space limit exceeded") {
        Some(close_code::SIZE)
    } else if text.starts_with("UTF-8 encoding error") {
        Some(close_code::INVALID)
    } else if text.starts_with("WebSocket protocol error") && !text.contains("without closing handshake") {
        Some(close_code::PROTOCOL)
    } else {
        None
    }
}
