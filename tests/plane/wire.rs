//! An HTTP client that says exactly what it is told, over TCP, TLS or a unix socket.

use super::certificate;
use super::fixture::PATIENCE;
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header that is there once at most.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| &**value);
        let value = found.next();
        assert_eq!(found.next(), None, "{name} is there once");
        value
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The body as JSON, which its type must say.
    pub fn json(&self) -> serde_json::Value {
        let kind = self.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/") && kind.contains("json"), "{kind} is JSON: {self:?}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The stable word of an error.
    pub fn code(&self) -> String {
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        problem["code"].as_str().expect("an error has a code").into()
    }
}

/// Asks one thing on a connection of its own.
pub fn request(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Answer {
    Wire::connect(addr).ask(method, target, headers, body)
}

/// A byte stream of any kind.
trait Stream: Read + Write + Send {
    /// Ends the way there.
    fn finish(&mut self);
}

impl Stream for TcpStream {
    fn finish(&mut self) {
        self.shutdown(Shutdown::Write).expect("the connection is open");
    }
}

impl Stream for UnixStream {
    fn finish(&mut self) {
        self.shutdown(Shutdown::Write).expect("the connection is open");
    }
}

impl Stream for StreamOwned<ClientConnection, TcpStream> {
    fn finish(&mut self) {
        self.conn.send_close_notify();
        self.flush().expect("the connection is open");
    }
}

/// A connection that is told every byte.
pub struct Wire {
    stream: Box<dyn Stream>,
    host: String,
    unread: Vec<u8>,
}

impl Wire {
    /// By TCP.
    pub fn connect(addr: SocketAddr) -> Wire {
        let stream = TcpStream::connect(addr).expect("the plane accepts");
        Wire::over(stream, addr)
    }

    /// By TCP from another address of this host, such as 127.0.0.9.
    pub fn connect_from(ip: IpAddr, addr: SocketAddr) -> Wire {
        let domain = socket2::Domain::for_address(addr);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).expect("there is a socket");
        socket.bind(&SocketAddr::new(ip, 0).into()).expect("the address is this host's");
        socket.connect(&addr.into()).expect("the plane accepts");
        Wire::over(socket.into(), addr)
    }

    /// By TCP, to one who keeps little for it: what it is sent and does not read soon waits at the sender.
    pub fn connect_narrow(addr: SocketAddr) -> Wire {
        let domain = socket2::Domain::for_address(addr);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).expect("there is a socket");
        socket.set_recv_buffer_size(4096).expect("TCP takes its options");
        // What the kernel keeps at the sender's side goes by this.
        socket.set_tcp_mss(536).expect("TCP takes its options");
        socket.connect(&addr.into()).expect("the plane accepts");
        Wire::over(socket.into(), addr)
    }

    fn over(stream: TcpStream, addr: SocketAddr) -> Wire {
        stream.set_nodelay(true).expect("TCP takes its options");
        stream.set_read_timeout(Some(PATIENCE)).expect("TCP takes its options");
        Wire { stream: Box::new(stream), host: addr.to_string(), unread: Vec::new() }
    }

    /// By TLS; the protocol that was agreed on by ALPN, too.
    pub fn tls(addr: SocketAddr, alpn: &[&[u8]]) -> io::Result<(Wire, Option<Vec<u8>>)> {
        let mut stream = TcpStream::connect(addr).expect("the plane accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("TCP takes its options");
        let name = certificate::NAME.try_into().expect("it is a DNS name");
        let config = certificate::client(rustls::ALL_VERSIONS, alpn);
        let mut connection = ClientConnection::new(config, name).expect("the configuration is complete");
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        let agreed = connection.alpn_protocol().map(<[u8]>::to_vec);
        let stream = Box::new(StreamOwned::new(connection, stream));
        Ok((Wire { stream, host: addr.to_string(), unread: Vec::new() }, agreed))
    }

    /// By a unix socket.
    pub fn unix(path: &Path) -> Wire {
        let stream = UnixStream::connect(path).expect("the plane accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes its options");
        Wire { stream: Box::new(stream), host: "localhost".into(), unread: Vec::new() }
    }

    /// Sends bytes; false when the other side is gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).and_then(|()| self.stream.flush()).is_ok()
    }

    /// Sends no more; answers still come.
    pub fn finish(&mut self) {
        self.stream.finish();
    }

    /// Sends a request and returns its answer. `Host` and `Content-Length` are added where they are missing.
    pub fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        let has = |name: &str| headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !has("host") {
            head += &format!("Host: {}\r\n", self.host);
        }
        if !has("content-length") && !has("transfer-encoding") && (!body.is_empty() || method == "POST") {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        self.send([head.as_bytes(), body].concat());
        self.answer(method == "HEAD")
    }

    /// The next answer, which must come.
    pub fn answer(&mut self, is_head: bool) -> Answer {
        self.try_answer(is_head).expect("an answer comes")
    }

    /// The next answer; `None` when the connection ends before its first byte.
    pub fn try_answer(&mut self, is_head: bool) -> Option<Answer> {
        let end = self.fill_until(|bytes| find(bytes, b"\r\n\r\n"))?;
        let head: Vec<u8> = self.unread.drain(..end + 4).collect();
        let head = String::from_utf8(head).expect("a head is text");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).expect("an answer has its line");
        let status: u16 = status[..3].parse().expect("a status is a number");
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').expect("a header has its colon"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        if is_head || matches!(status, 101 | 204 | 304) {
            return Some(answer);
        }
        answer.body = match (answer.header("transfer-encoding"), answer.header("content-length")) {
            (Some("chunked"), None) => self.chunks(),
            (None, Some(len)) => self.take(len.parse().expect("a length is a number")),
            other => panic!("the end of the body is told: {other:?}"),
        };
        Some(answer)
    }

    /// The bytes up to the end of the line, without it.
    pub fn line(&mut self) -> String {
        let end = self.fill_until(|bytes| find(bytes, b"\n")).expect("a line comes");
        let line: Vec<u8> = self.unread.drain(..=end).collect();
        String::from_utf8(line).expect("a line is text").trim_end_matches(['\r', '\n']).to_owned()
    }

    /// Whether the other side closes within the patience of tests; bytes before that are dropped.
    pub fn is_closed(&mut self) -> bool {
        loop {
            self.unread.clear();
            match self.read() {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        }
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let len = usize::from_str_radix(&self.line(), 16).expect("a chunk has its length");
            body.extend(self.take(len));
            assert_eq!(self.line(), "", "a chunk ends with a line");
            if len == 0 {
                return body;
            }
        }
    }

    /// The next bytes, whatever they are; so many must come.
    pub fn take(&mut self, len: usize) -> Vec<u8> {
        self.fill_until(|bytes| (bytes.len() >= len).then_some(len)).expect("the body is complete");
        self.unread.drain(..len).collect()
    }

    /// Reads until something is there; `None` when the connection ends with nothing unread.
    fn fill_until(&mut self, is_there: impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
        loop {
            if let Some(at) = is_there(&self.unread) {
                return Some(at);
            }
            match self.read() {
                Ok(0) if self.unread.is_empty() => return None,
                Ok(0) => panic!("it ends in the middle: {}", self.unread.escape_ascii()),
                Ok(_) => {}
                // TLS writes while it reads, and is told so of an end that came before.
                Err(error) if is_gone(&error) && self.unread.is_empty() => return None,
                Err(error) => panic!("{error} after {}", self.unread.escape_ascii()),
            }
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let mut room = [0; 16_384];
        let len = self.stream.read(&mut room)?;
        self.unread.extend_from_slice(&room[..len]);
        Ok(len)
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
