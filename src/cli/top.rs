//! `turnpike top`: a live screen of what the running server does.
//!
//! A thread asks the server once an interval, so that a server which hangs never keeps anyone from
//! leaving. The terminal is put back as it was, whatever ends the command.

mod frame;
mod rates;
mod screen;

use super::access::{Access, json_text};
use super::check::Format;
use super::{Failure, print};
use crate::config::value::Seconds;
use crossbeam_channel::Sender;
use frame::{Sample, Size, View};
use hyper::Method;
use screen::Screen;
use serde_json::json;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::Signals;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// The longest interval, in seconds.
const INTERVAL_MAX_S: u64 = 3600;
/// Sessions asked for: more than a screen is high.
const SESSIONS: usize = 200;
/// How large a plain frame is.
const PLAIN: Size = Size { columns: 200, lines: 60 };

/// `turnpike top`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  turnpike top                  Ctrl-C leaves it\n  \
                        turnpike top --once           one frame, for a script\n  \
                        turnpike top --format json | jq .sessions.total")]
pub struct Options {
    /// How often it is looked at: 1s to 1h
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    pub interval: Seconds,
    /// Print one frame, of one interval, and end; so does output that is no terminal, and JSON
    #[arg(long)]
    pub once: bool,
    /// The server.
    #[command(flatten)]
    pub access: Access,
}

/// Shows the server until told to leave.
pub fn top(options: &Options) -> Result<(), Failure> {
    if !(1..=INTERVAL_MAX_S).contains(&options.interval.0) {
        return Err(Failure::Other("--interval is 1s to 1h".into()));
    }
    let interval = Duration::from_secs(options.interval.0);
    let first = Sample::take(&options.access)?;
    match options.access.format {
        Format::Text if !options.once && io::stdout().is_terminal() => {
            live(&options.access, interval, first).map_err(|error| Failure::Other(format!("the screen: {error}")))
        }
        format => {
            // Rates need two looks.
            std::thread::sleep(interval);
            let second = Sample::take(&options.access)?;
            print(&plain(format, &first, &second));
            Ok(())
        }
    }
}

fn plain(format: Format, first: &Sample, second: &Sample) -> String {
    match format {
        Format::Json => json_text(&json!({ "status": second.status, "sessions": second.sessions })),
        Format::Text => {
            let view = View { before: Some(first), now: second, trouble: None };
            frame::lines(&view, PLAIN).iter().map(|line| format!("{}\n", line.text.trim_end())).collect()
        }
    }
}

impl Sample {
    /// Asks the server.
    fn take(access: &Access) -> Result<Sample, Failure> {
        let sessions = access.ask(Method::GET, &format!("/api/v1/sessions?sort=rate&limit={SESSIONS}"))?;
        let status = access.ask(Method::GET, "/api/v1/status")?;
        Ok(Sample { at: Instant::now(), status, sessions })
    }
}

/// What the screen is told.
enum News {
    Seen(Result<Sample, Failure>),
    /// The size has changed, or the program goes on after a stop.
    Redraw,
    /// Ctrl-Z.
    Pause,
    Leave,
}

fn live(access: &Access, interval: Duration, first: Sample) -> io::Result<()> {
    let (tell, told) = crossbeam_channel::unbounded();
    hear(tell.clone())?;
    let access = access.clone();
    let ask = move || {
        loop {
            std::thread::sleep(interval);
            if tell.send(News::Seen(Sample::take(&access))).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("ask".into()).spawn(ask)?;
    let mut screen = Screen::open()?;
    let (mut before, mut now, mut trouble) = (None, first, None);
    loop {
        let view = View { before: before.as_ref(), now: &now, trouble: trouble.as_deref() };
        screen.draw(&frame::lines(&view, Size::of_terminal()))?;
        match told.recv() {
            Ok(News::Seen(Ok(sample))) => {
                before = Some(std::mem::replace(&mut now, sample)).filter(|_| trouble.is_none());
                trouble = None;
            }
            Ok(News::Seen(Err(failure))) => trouble = Some(failure.to_string()),
            Ok(News::Redraw) => {}
            Ok(News::Pause) => {
                drop(screen);
                signal_hook::low_level::emulate_default_handler(SIGTSTP)?;
                screen = Screen::open()?;
            }
            Ok(News::Leave) | Err(_) => return Ok(()),
        }
    }
}

/// Turns signals into news.
fn hear(tell: Sender<News>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP, SIGCONT])?;
    let hear = move || {
        for signal in signals.forever() {
            let news = match signal {
                SIGWINCH | SIGCONT => News::Redraw,
                SIGTSTP => News::Pause,
                _ => News::Leave,
            };
            if tell.send(news).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(hear)?;
    Ok(())
}
