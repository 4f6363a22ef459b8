//! `/api/v1/events`: what happens, as server-sent events.
//!
//! Whoever listens hears the same; one who does not keep up is let go, and may come again.

use super::Shared;
use super::admin::Admitted;
use super::api::{shapes, views};
use super::guard::Problem;
use super::notices::Told;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde::Serialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;

/// How many may listen at a time.
pub const LISTENERS_MAX: usize = 32;
/// Blocks of events that wait for one who is slow: those of five seconds at least.
const WAITING_MAX: usize = 25;
/// How often a silent stream says that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Those who listen.
#[derive(Default)]
pub struct Audience(Mutex<Vec<mpsc::Sender<Bytes>>>);

impl Audience {
    /// Whether nobody listens.
    pub fn is_empty(&self) -> bool {
        let mut listeners = self.0.lock();
        listeners.retain(|listener| !listener.is_closed());
        listeners.is_empty()
    }

    /// One more; `None` if there are too many.
    fn join(&self) -> Option<mpsc::Receiver<Bytes>> {
        let mut listeners = self.0.lock();
        listeners.retain(|listener| !listener.is_closed());
        if listeners.len() >= LISTENERS_MAX {
            return None;
        }
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        listeners.push(sender);
        Some(receiver)
    }

    fn tell(&self, block: String) {
        let block = Bytes::from(block);
        self.0.lock().retain(|listener| match listener.try_send(block.clone()) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(_)) => {
                tracing::debug!("one who listens to the events does not keep up and is let go");
                false
            }
        });
    }
}

/// Tells the figures of the last second.
pub fn tell_figures(shared: &Shared) {
    let audience = &shared.watch.audience;
    if audience.is_empty() {
        return;
    }
    let mut block = String::new();
    write(&mut block, "status", &views::status(shared));
    if let Some(picture) = shared.watch.latest() {
        write(&mut block, "sessions", &views::fastest(&picture));
    }
    audience.tell(block);
}

/// Tells what happened.
pub fn tell_notices(audience: &Audience, notices: &[Arc<Told>]) {
    if audience.is_empty() {
        return;
    }
    let mut block = String::new();
    for notice in notices {
        write(&mut block, "notice", notice.as_ref());
    }
    audience.tell(block);
}

/// Adds an event. Its JSON has no line break, so it is one line of data.
fn write(block: &mut String, name: &str, content: &impl Serialize) {
    match serde_json::to_string(content) {
        Ok(json) => block.extend(["event: ", name, "\ndata: ", &json, "\n\n"]),
        Err(error) => tracing::error!(%error, "an event could not be written"),
    }
}

/// Events as they happen: `status` (a Status) and `sessions` (a Fastest) every second, `notice` (a
/// Told) when something begins, ends or is refused.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    tag = "watch",
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = 503, description = "Too many listen.", body = shapes::ProblemShape),
    )
)]
pub async fn events(_: Admitted, State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let receiver = shared.watch.audience.join().ok_or_else(|| {
        let detail = format!("{LISTENERS_MAX} listen already; close a console and try again");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_listeners", detail)
    })?;
    shared.watch.hurry();
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
        let block = match timeout(KEEP_ALIVE, receiver.recv()).await {
            Ok(block) => block?,
            Err(_) => Bytes::from_static(b":\n\n"),
        };
        Some((Ok::<_, Infallible>(block), receiver))
    });
    let head = [
        (header::CONTENT_TYPE.as_str(), "text/event-stream"),
        (header::CACHE_CONTROL.as_str(), "no-store"),
        // A proxy would hold the events back otherwise.
        ("x-accel-buffering", "no"),
    ];
    Ok((head, Body::from_stream(stream)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_data_whatever_it_holds() {
        let mut block = String::new();
        write(&mut block, "notice", &"a\n\nevent: b\r\u{2028}\u{0}");
        assert_eq!(block.trim_end_matches('\n').split(['\n', '\r']).count(), 2, "{block:?}");
        assert!(block.starts_with("event: notice\ndata: \"a\\n\\n") && block.ends_with("\"\n\n"));
    }

    #[test]
    fn listeners_are_limited_and_the_slow_are_let_go() {
        let audience = Audience::default();
        assert!(audience.is_empty());
        let mut listeners: Vec<_> = (0..LISTENERS_MAX).map(|_| audience.join().expect("there is room")).collect();
        assert!(audience.join().is_none(), "no room for one more");
        drop(listeners.pop());
        assert!(audience.join().is_some(), "one who is gone makes room");
        for number in 0..=WAITING_MAX {
            audience.tell(number.to_string());
            // Only the first keeps up.
            assert_eq!(listeners[0].try_recv().expect("it is told"), number.to_string());
        }
        assert!(!audience.is_empty());
        for slow in &mut listeners[1..] {
            let waiting = std::iter::from_fn(|| slow.try_recv().ok()).count();
            assert_eq!(waiting, WAITING_MAX, "what waited is still told");
            assert!(slow.is_closed());
        }
        assert!(listeners[0].try_recv().is_err() && !listeners[0].is_closed());
    }
}
