//! The log: to stderr, as text, JSON or for journald.

use crate::config::value::{Format, Level};
use std::fmt;
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

/// The way to the level of a log that has started.
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Starts the log; the first call of a program counts.
pub fn start(level: Level, format: Format) {
    let (filter, handle) = reload::Layer::new(filter(level));
    let log = tracing_subscriber::registry().with(filter);
    let lines = || layer().with_writer(std::io::stderr).with_target(false);
    let started = match format {
        Format::Text => log.with(lines().with_ansi(std::io::stderr().is_terminal())).try_init(),
        Format::Json => {
            log.with(lines().json().flatten_event(true).with_current_span(false).with_span_list(false)).try_init()
        }
        Format::Journald => log.with(lines().with_ansi(false).event_format(Journald)).try_init(),
    };
    debug_assert!(started.is_ok(), "the log is started once");
    // The handle of a log that did not start leads nowhere.
    let _ = LEVEL.set(handle);
}

/// Logs so much from now on.
pub fn set_level(level: Level) {
    if LEVEL.get().is_some_and(|handle| handle.reload(filter(level)).is_err()) {
        tracing::error!("the level of the log can not be changed");
    }
}

const fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Off => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

/// A line as sd-daemon(3) has it: `<N>` with the syslog priority, then the text. The time is
/// journald's own.
struct Journald;

impl<S, N> FormatEvent<S, N> for Journald
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let priority = match *event.metadata().level() {
            tracing::Level::ERROR => 3,
            tracing::Level::WARN => 4,
            tracing::Level::INFO => 6,
            tracing::Level::DEBUG | tracing::Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
