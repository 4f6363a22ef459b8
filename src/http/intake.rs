//! The bytes of a connection before the parser sees them: one request at a time, its head
//! complete, in time, and readable in one way only.
//!
//! A refused head never reaches the parser. For the parser the stream ends there; the refusal is
//! written when it shuts the connection down, after all answers before.

use super::Shared;
use super::connections::Seat;
use super::frames::{Frames, TooManyFragments};
use super::guard::{Problem, SECURITY_HEADERS};
use super::head::{Fault, Framing, HEAD_MAX, Head, Scan};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Bytes read at once.
const READ_LEN: usize = 8 * 1024;
/// Bytes dropped after the last answer, so that it is not lost to a reset.
const LINGER_LEN_MAX: usize = 256 * 1024;

/// How long things may take on a connection.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// TLS.
    pub handshake: Duration,
    /// A head, from its first byte to its last.
    pub head: Duration,
    /// A body.
    pub body: Duration,
    /// A body of which nothing has come; what comes earns it more, up to the deadline of bodies.
    pub body_grace: Duration,
    /// Nothing at all between two requests, or before the first.
    pub idle: Duration,
    /// The other side takes nothing that is sent.
    pub stalled: Duration,
    /// The other side goes on sending after the last answer.
    pub linger: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines {
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(5),
            body: Duration::from_secs(10),
            body_grace: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            stalled: Duration::from_secs(10),
            linger: Duration::from_secs(2),
        }
    }
}

/// A connection's stream, as the parser is given it.
pub struct Intake<S> {
    stream: S,
    seat: Seat,
    shared: Arc<Shared>,
    deadlines: Deadlines,
    /// Read and not handed on.
    unread: Vec<u8>,
    stage: Stage,
    reading: Timer,
    writing: Timer,
    /// Its own: the parser flushes on, and what is flushed in time ends the wait for that.
    lingering: Timer,
    /// The refusal, and how much of it is written.
    farewell: (Vec<u8>, usize),
    closing: Closing,
}

/// What the next bytes are.
enum Stage {
    /// A head, so far.
    Head(Scan),
    /// So many more bytes of a request.
    Request(u64),
    /// What is not ours to understand.
    Open,
    /// Another protocol: frames of a WebSocket, of which one too many may have come.
    Upgrade(Frames, Option<TooManyFragments>),
    /// Nothing: the parser is told that it ended.
    Ended,
}

/// How far the shutdown is.
enum Closing {
    No,
    Written,
    /// Bytes dropped since.
    Lingering(usize),
}

impl<S> Intake<S> {
    /// Reads and writes `stream`, which has a place.
    pub fn new(stream: S, seat: Seat, shared: Arc<Shared>, deadlines: Deadlines) -> Self {
        Intake {
            stream,
            seat,
            shared,
            deadlines,
            unread: Vec::new(),
            stage: Stage::Head(Scan::default()),
            reading: Timer::default(),
            writing: Timer::default(),
            lingering: Timer::default(),
            farewell: (Vec::new(), 0),
            closing: Closing::No,
        }
    }

    fn refuse(&mut self, fault: Fault) {
        tracing::debug!(?fault, "a request was refused");
        self.shared.counts.count("other", fault.status().as_u16());
        self.farewell = (refusal(fault), 0);
        self.stage = Stage::Ended;
    }

    /// Hands on what was read, `len_max` bytes at most.
    fn hand_on(&mut self, out: &mut ReadBuf<'_>, len_max: usize) -> usize {
        let len = self.unread.len().min(out.remaining()).min(len_max);
        out.put_slice(&self.unread[..len]);
        self.unread.drain(..len);
        len
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Intake<S> {
    /// Reads more; 0 at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [0; READ_LEN];
        let mut room = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
        self.unread.extend_from_slice(room.filled());
        Poll::Ready(Ok(room.filled().len()))
    }

    /// Waits until there is a head; `None` when the connection ends before.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Head>>> {
        loop {
            let Some(idle_since) = self.idle_since(cx) else {
                // What the client sends ahead waits; that it is gone must be seen.
                if self.unread.len() >= HEAD_MAX || ready!(self.poll_fill(cx))? > 0 {
                    if self.unread.len() >= HEAD_MAX {
                        return Poll::Pending;
                    }
                    continue;
                }
                return Poll::Ready(Ok(None));
            };
            let Stage::Head(scan) = &mut self.stage else { return Poll::Ready(Ok(None)) };
            match scan.go_on(&self.unread) {
                Ok(Some(head)) => {
                    self.reading.clear();
                    return Poll::Ready(Ok(Some(head)));
                }
                Ok(None) => {}
                Err(fault) => {
                    self.refuse(fault);
                    return Poll::Ready(Ok(None));
                }
            }
            let read = self.poll_fill(cx)?;
            match read {
                Poll::Ready(0) => return Poll::Ready(Ok(None)),
                Poll::Ready(len) => {
                    if len == self.unread.len() {
                        // The first bytes of a head: from now on it is the head that is waited for.
                        self.reading.clear();
                    }
                    continue;
                }
                Poll::Pending => {}
            }
            let is_idle = self.unread.is_empty();
            let deadline = match is_idle {
                true => Instant::from_std(idle_since) + self.deadlines.idle,
                false => Instant::now() + self.deadlines.head,
            };
            ready!(self.reading.poll(cx, deadline));
            if !is_idle {
                self.refuse(Fault::TooSlow);
            }
            return Poll::Ready(Ok(None));
        }
    }

    /// Hands on what comes after a head that asks for another protocol, up to a frame that is one too many.
    fn poll_frames(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        if self.unread.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, out))?;
        } else {
            self.hand_on(out, usize::MAX);
        }
        let Stage::Upgrade(frames, fault @ None) = &mut self.stage else { return Poll::Ready(Ok(())) };
        let Err(good) = frames.go_on(&out.filled()[before..]) else { return Poll::Ready(Ok(())) };
        *fault = Some(TooManyFragments);
        if !self.seat.is_upgraded() {
            return Poll::Ready(Ok(()));
        }
        out.set_filled(before + good);
        match good {
            // Nothing at all would be the end of the stream.
            0 => Poll::Ready(Err(io::Error::other(TooManyFragments))),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Since when no request is under way; otherwise the task is woken when there is none.
    fn idle_since(&self, cx: &Context<'_>) -> Option<std::time::Instant> {
        self.seat.idle_since().or_else(|| {
            self.seat.wake_when_idle(cx.waker());
            self.seat.idle_since()
        })
    }

    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.farewell.1 < self.farewell.0.len() {
            let rest = &self.farewell.0[self.farewell.1..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.farewell.1 += written,
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// The other side may take so long to take what is written.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.writing.clear();
            return written;
        }
        let deadline = Instant::now() + self.deadlines.stalled;
        ready!(self.writing.poll(cx, deadline));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Intake<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.stage {
                Stage::Head(_) => match ready!(this.poll_head(cx))? {
                    Some(Head { len, body: Framing::Length(body) }) => {
                        this.stage = Stage::Request(body.saturating_add(len as u64));
                    }
                    Some(Head { body: Framing::Chunks, .. }) => this.stage = Stage::Open,
                    Some(Head { len, body: Framing::Upgrade(body) }) => {
                        this.stage = Stage::Upgrade(Frames::after(body.saturating_add(len as u64)), None);
                    }
                    None => {
                        this.stage = Stage::Ended;
                        return Poll::Ready(Ok(()));
                    }
                },
                Stage::Request(0) => this.stage = Stage::Head(Scan::default()),
                &mut Stage::Request(left) => {
                    if this.unread.is_empty() && ready!(this.poll_fill(cx))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    let len = this.hand_on(out, usize::try_from(left).unwrap_or(usize::MAX));
                    this.stage = Stage::Request(left - len as u64);
                    return Poll::Ready(Ok(()));
                }
                Stage::Open if this.unread.is_empty() => return Pin::new(&mut this.stream).poll_read(cx, out),
                Stage::Open => {
                    this.hand_on(out, usize::MAX);
                    return Poll::Ready(Ok(()));
                }
                // What was sent ahead of the answer that makes it another protocol may be in the parser already.
                Stage::Upgrade(_, Some(fault)) if this.seat.is_upgraded() => {
                    return Poll::Ready(Err(io::Error::other(*fault)));
                }
                Stage::Upgrade(..) => return this.poll_frames(cx, out),
                Stage::Ended => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Intake<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.in_time(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.in_time(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match this.closing {
                Closing::No => {
                    let written = this.poll_farewell(cx);
                    ready!(this.in_time(cx, written))?;
                    this.closing = Closing::Written;
                }
                Closing::Written => {
                    let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
                    ready!(this.in_time(cx, shut))?;
                    this.closing = Closing::Lingering(0);
                }
                Closing::Lingering(dropped) => {
                    this.unread.clear();
                    match this.poll_fill(cx) {
                        Poll::Ready(Ok(len)) if len > 0 && dropped < LINGER_LEN_MAX => {
                            this.closing = Closing::Lingering(dropped + len);
                        }
                        Poll::Ready(_) => return Poll::Ready(Ok(())),
                        Poll::Pending => {
                            let deadline = Instant::now() + this.deadlines.linger;
                            ready!(this.lingering.poll(cx, deadline));
                            return Poll::Ready(Ok(()));
                        }
                    }
                }
            }
        }
    }
}

/// A deadline that is set when it is first looked at, and stays until it is cleared.
#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    is_set: bool,
}

impl Timer {
    fn clear(&mut self) {
        self.is_set = false;
    }

    fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if !self.is_set {
            sleep.as_mut().reset(deadline);
            self.is_set = true;
        }
        sleep.as_mut().poll(cx)
    }
}

/// The whole answer to a head that is refused.
fn refusal(fault: Fault) -> Vec<u8> {
    let status = fault.status();
    let (code, detail) = match fault {
        Fault::Malformed(detail) => ("bad_request", detail),
        Fault::LineTooLong => ("uri_too_long", "the request line is too long"),
        Fault::HeadersTooLarge => ("headers_too_large", "there are too many headers, or too long ones"),
        Fault::TooSlow => ("request_timeout", "the request did not come in time"),
    };
    // Three fields of plain text are always JSON.
    let body = serde_json::to_string(&Problem::new(status, code, detail)).unwrap_or_default();
    let mut answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         connection: close\r\n",
        body.len()
    );
    for (name, value) in SECURITY_HEADERS {
        answer += &format!("{name}: {value}\r\n");
    }
    answer += "\r\n";
    answer += &body;
    answer.into_bytes()
}
