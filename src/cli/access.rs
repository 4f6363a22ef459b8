//! The way to the running server: its admin socket or URL, one question at a time.

use super::{Failure, print, secret_text};
use crate::config::{default_socket, token_line};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use zeroize::Zeroizing;

/// Where the admin part is unless told.
const DEFAULT_URL: &str = "http://127.0.0.1:9641";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest answer read, in bytes.
const ANSWER_LEN_MAX: usize = 16 << 20;

/// How to reach the running server; the same for every command that does.
#[derive(Clone, Debug, clap::Args)]
pub struct Access {
    /// The admin listener, http://HOST:PORT, or the path of its socket; without it the socket in
    /// the runtime directory, then http://127.0.0.1:9641
    #[arg(long = "admin", env = "TURNPIKE_ADMIN", value_name = "URL")]
    pub admin: Option<String>,
    /// A file with the admin token; the socket needs none
    #[arg(long, env = "TURNPIKE_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How to print the answer
    #[arg(long, value_enum, default_value_t)]
    pub format: super::check::Format,
}

/// Where the server is.
enum Place {
    Socket(PathBuf),
    Address(String),
}

impl Access {
    fn place(&self) -> Result<Place, Failure> {
        let Some(text) = &self.admin else {
            let socket = default_socket().filter(|path| path.exists());
            return Ok(socket.map_or_else(|| Place::Address(DEFAULT_URL["http://".len()..].into()), Place::Socket));
        };
        if let Some(address) = text.strip_prefix("http://") {
            return Ok(Place::Address(address.trim_end_matches('/').to_owned()));
        }
        match text.strip_prefix("unix:").unwrap_or(text) {
            path if path.starts_with(['/', '.']) => Ok(Place::Socket(path.into())),
            _ => {
                Err(Failure::Other(format!("--admin {text}: write http://HOST:PORT, or the path of the admin socket")))
            }
        }
    }

    fn token(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let text = secret_text(path).map_err(Failure::Other)?;
        match token_line(&text) {
            Some(token) => Ok(Some(Zeroizing::new(token.to_owned()))),
            None => Err(Failure::Other(format!("{} holds no token", path.display()))),
        }
    }

    /// Asks, and returns the answer's JSON; null for an empty one.
    pub(super) fn ask(&self, method: Method, path: &str) -> Result<Value, Failure> {
        self.send(method, path, &Value::Null)
    }

    /// The same with a body, unless that is null.
    pub(super) fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value, Failure> {
        let (place, token) = (self.place()?, self.token()?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::Other(error.to_string()))?;
        let answer = runtime.block_on(async {
            tokio::time::timeout(PATIENCE, async {
                match &place {
                    Place::Socket(path_of_socket) => {
                        let stream = UnixStream::connect(path_of_socket).await;
                        exchange(
                            stream.map_err(|error| unreachable(&place, &error))?,
                            "localhost",
                            method,
                            path,
                            token,
                            body,
                        )
                        .await
                    }
                    Place::Address(address) => {
                        let stream = TcpStream::connect(address).await;
                        exchange(
                            stream.map_err(|error| unreachable(&place, &error))?,
                            address,
                            method,
                            path,
                            token,
                            body,
                        )
                        .await
                    }
                }
            })
            .await
        });
        let (status, body) = answer.map_err(|_| Failure::Other("the server does not answer".into()))??;
        let json: Value = match body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&body)
                .map_err(|_| Failure::Other("the answer is not turnpike's: is --admin the admin listener?".into()))?,
        };
        match status.is_success() {
            true => Ok(json),
            false if status == StatusCode::UNAUTHORIZED => {
                Err(Failure::Other("the server wants the admin token: name its file with --token-file".into()))
            }
            false => Err(Failure::Other(match json["detail"].as_str() {
                Some(detail) => detail.split('\n').map(printable).collect::<Vec<_>>().join("\n"),
                None => format!("the server answered {status}"),
            })),
        }
    }

    /// Prints an answer as text, or as it is.
    pub(super) fn show(&self, answer: &Value, text: impl Fn(&Value) -> String) {
        print(&match self.format {
            super::check::Format::Text => text(answer),
            super::check::Format::Json => json_text(answer),
        });
    }
}

fn unreachable(place: &Place, error: &std::io::Error) -> Failure {
    let place = match place {
        Place::Socket(path) => path.display().to_string(),
        Place::Address(address) => format!("http://{address}"),
    };
    Failure::Other(format!(
        "no server answers at {place} ({error}); is it running, and is http.admin_listen or http.admin_socket on? \
         --admin names another place"
    ))
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    host: &str,
    method: Method,
    path: &str,
    token: Option<Zeroizing<String>>,
    body: &Value,
) -> Result<(StatusCode, Bytes), Failure> {
    let broken = |error: &dyn std::fmt::Display| Failure::Other(format!("the connection broke: {error}"));
    let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(|error| broken(&error))?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
    if let Some(token) = &token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.as_str()));
    }
    let body = match body {
        Value::Null => Bytes::new(),
        body => {
            request = request.header(header::CONTENT_TYPE, "application/json");
            body.to_string().into()
        }
    };
    let request = request.body(Full::new(body)).map_err(|error| broken(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_LEN_MAX).collect().await;
    Ok((status, body.map_err(|error| broken(&error))?.to_bytes()))
}

/// Percent-encodes all but letters, digits, `-`, `.` and `_`.
pub(super) fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
        escaped
    })
}

/// Text from the network on one line, without what a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    let is_obeyed = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.chars().map(|c| if is_obeyed(c) { '\u{FFFD}' } else { c }).collect()
}

/// JSON from the network for people and programs, without what a terminal would obey.
pub(super) fn json_text(value: &Value) -> String {
    let mut text = String::new();
    // JSON leaves these as they are, and there are none but in its strings.
    for c in format!("{value:#}\n").chars() {
        match c {
            '\u{7F}'..='\u{9F}' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_from_the_network_has_no_line_breaks_of_its_own() {
        assert_eq!(
            printable("a\nb\r\tc\u{85}d\u{2028}e\u{2029}f"),
            "a\u{FFFD}b\u{FFFD}\u{FFFD}c\u{FFFD}d\u{FFFD}e\u{FFFD}f"
        );
    }

    #[test]
    fn json_from_the_network_can_not_steer_a_terminal_and_means_the_same() {
        let value = json!({ "user\u{9B}": ["\u{7F}\u{80}\u{9B}2J\u{9F}\u{1B}\n", "\u{A0}é"] });
        let text = json_text(&value);
        assert!(text.contains(r"\u007f\u0080\u009b2J\u009f\u001b\n") && text.contains("\u{A0}é"), "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("it is JSON"), value);
    }
}
