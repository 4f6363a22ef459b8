//! `/healthz` and `/readyz`: whether the workers answer, and whether new clients are welcome.

use super::guard::Problem;
use super::sessions::ask;
use super::{Routes, Shared};
use crate::bus::{self, Command};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::routing::get;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// How long a worker may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one check stands for all who ask.
const GOOD_FOR: Duration = Duration::from_millis(250);

/// The last check, and the workers that did not answer. Whoever asks while one is under way
/// waits for that one.
#[derive(Default)]
pub struct Health(Mutex<Option<(Instant, Vec<usize>)>>);

impl Health {
    async fn silent_workers(&self, workers: &bus::Workers) -> Vec<usize> {
        let mut last = self.0.lock().await;
        match &*last {
            Some((at, silent)) if at.elapsed() < GOOD_FOR => silent.clone(),
            _ => {
                let silent = check(workers).await;
                *last = Some((Instant::now(), silent.clone()));
                silent
            }
        }
    }
}

/// `/healthz` and `/readyz`: for anyone, without a token.
pub fn routes() -> Routes {
    Routes::new().route("/healthz", get(healthz)).route("/readyz", get(readyz))
}

type Good = ([(header::HeaderName, &'static str); 1], Json<Value>);

fn good(status: &str) -> Good {
    ([(header::CACHE_CONTROL, "no-store")], Json(json!({ "status": status })))
}

/// Every worker that does not answer in time.
async fn check(workers: &bus::Workers) -> Vec<usize> {
    let each = workers.mailboxes.iter().map(|mailbox| timeout(PATIENCE, ask(mailbox, Command::Settled)));
    let answers = futures_util::future::join_all(each).await;
    let silent = answers.iter().enumerate().filter(|(_, answer)| !matches!(answer, Ok(Ok(_))));
    silent.map(|(worker, _)| worker).collect()
}

async fn healthz(State(shared): State<Arc<Shared>>) -> Result<Good, Problem> {
    let silent = shared.watch.health.silent_workers(&shared.workers).await;
    if silent.is_empty() {
        return Ok(good("ok"));
    }
    let names: Vec<String> = silent.iter().map(usize::to_string).collect();
    let detail = format!("within {} s no answer came from worker {}", PATIENCE.as_secs(), names.join(", "));
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "worker_silent", detail))
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Result<Good, Problem> {
    match (shared.control.draining)() {
        None => Ok(good("ready")),
        Some(_) => {
            let detail = "the server drains: it takes no new allocation";
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "draining", detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Mailbox;

    fn workers(mailboxes: Vec<Mailbox>) -> bus::Workers {
        bus::Workers { mailboxes, stats: Vec::new(), notices: bus::notices().1, listening: Vec::new() }
    }

    #[tokio::test]
    async fn a_worker_that_does_not_answer_is_named() {
        let waker = |poll: &mio::Poll| Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).expect("a waker"));
        let polls = [(); 3].map(|()| mio::Poll::new().expect("a poll"));
        let [(good, commands), (wedged, _unread), (gone, ended)] =
            polls.each_ref().map(|poll| Mailbox::new(waker(poll)));
        drop(ended);
        let answering = std::thread::spawn(move || match commands.recv() {
            Ok(Command::Settled(reply)) => reply.give(()),
            other => panic!("the check asks for an answer alone: {other:?}"),
        });
        let health = Health::default();
        let workers = workers(vec![good, wedged, gone]);
        assert_eq!(health.silent_workers(&workers).await, [1, 2]);
        answering.join().expect("it answers");
        assert_eq!(health.silent_workers(&workers).await, [1, 2], "one check stands for all who ask at a time");
    }
}
