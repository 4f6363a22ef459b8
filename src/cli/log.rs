//! The log: to stderr, as text, JSON or for journald.
//!
//! Whoever logs never waits: a line goes into a queue, and a thread writes it out. When nobody reads
//! stderr the queue fills up, and what does not fit is lost and counted.

use crate::config::value::{Format, Level};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

/// Lines that wait to be written; one more is lost.
const LINES_MAX: usize = 8_192;
/// Bytes written at a time, unless one line is longer.
const BATCH_LEN: usize = 32 << 10;
/// How often the log says that lines were lost.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How long the end of the program waits for the last lines.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// The way to the level of a log that has started.
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();
/// Lines that nobody read in time.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Starts the log; the first call of a program counts. What waits to be written is written when
/// the end of it is dropped.
pub fn start(level: Level, format: Format) -> End {
    let (queue, end) = Queue::start(stderr());
    let (filter, handle) = reload::Layer::new(filter(level));
    let log = tracing_subscriber::registry().with(filter);
    let lines = || layer().with_writer(queue).with_target(false);
    let started = match format {
        Format::Text => log.with(lines().with_ansi(io::stderr().is_terminal())).try_init(),
        Format::Json => {
            log.with(lines().json().flatten_event(true).with_current_span(false).with_span_list(false)).try_init()
        }
        Format::Journald => log.with(lines().with_ansi(false).event_format(Journald)).try_init(),
    };
    debug_assert!(started.is_ok(), "the log is started once");
    // The handle of a log that did not start leads nowhere.
    let _ = LEVEL.set(handle);
    end
}

/// Logs so much from now on.
pub fn set_level(level: Level) {
    if LEVEL.get().is_some_and(|handle| handle.reload(filter(level)).is_err()) {
        tracing::error!("the level of the log can not be changed");
    }
}

/// Lines that were lost because nobody read them in time.
pub fn lines_lost() -> u64 {
    LOST.load(Ordering::Relaxed)
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

/// Stderr, without the lock that a thread would hold while nobody reads.
fn stderr() -> Box<dyn Write + Send> {
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(fd) => Box::new(File::from(fd)),
        Err(_) => Box::new(io::stderr()),
    }
}

/// What goes to the thread that writes.
enum Item {
    Line(Vec<u8>),
    /// Everything before it is to be written, and then this is to be answered.
    Flush(Sender<()>),
}

/// The way to the thread that writes.
struct Queue(Sender<Item>);

/// The end of the log: whoever drops it waits a little for the last lines.
#[must_use = "the last lines are written when it is dropped"]
pub struct End(Sender<Item>);

impl Queue {
    fn start(out: impl Write + Send + 'static) -> (Queue, End) {
        let (lines, waiting) = bounded(LINES_MAX);
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || write(&waiting, out));
        if let Err(error) = thread {
            // The lines will be counted as lost.
            eprintln!("turnpike: the log can not be written: {error}");
        }
        (Queue(lines.clone()), End(lines))
    }
}

impl Write for &Queue {
    /// Takes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.try_send(Item::Line(line.to_vec())).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = &'a Queue;

    fn make_writer(&'a self) -> &'a Queue {
        self
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let until = Instant::now() + FLUSH_PATIENCE;
        let (written, is_written) = bounded(1);
        if self.0.send_deadline(Item::Flush(written), until).is_ok() {
            // If nobody reads, the program ends all the same.
            let _ = is_written.recv_deadline(until);
        }
    }
}

/// Writes what comes, several lines at once when they wait.
fn write(waiting: &Receiver<Item>, mut out: impl Write) {
    let (mut batch, mut told, mut told_at) = (Vec::new(), lines_lost(), None::<Instant>);
    while let Ok(first) = waiting.recv() {
        batch.clear();
        let mut next = Some(first);
        let mut flushed = None;
        while let Some(item) = next.take() {
            match item {
                Item::Line(line) => batch.extend_from_slice(&line),
                Item::Flush(written) => flushed = Some(written),
            }
            if flushed.is_none() && batch.len() < BATCH_LEN {
                next = waiting.try_recv().ok();
            }
        }
        // There is nowhere to complain to.
        let _ = out.write_all(&batch).and_then(|()| out.flush());
        if let Some(written) = flushed {
            // Whoever waited may have lost patience.
            let _ = written.send(());
        }
        let lost = lines_lost();
        // While the queue is full this line would be lost too.
        let has_room = waiting.len() < LINES_MAX / 2;
        if lost > told && has_room && told_at.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            tracing::warn!(lines = lost - told, "lines of the log were lost: nobody read them in time");
            (told, told_at) = (lost, Some(Instant::now()));
        }
    }
}

/// A line as sd-daemon(3) has it: `<N>` with the syslog priority, then the text and its fields. The
/// time is journald's own.
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

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;

    /// Keeps what is written, once it is let.
    #[derive(Clone)]
    struct Slow(Arc<Mutex<Vec<u8>>>, Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Whoever lets it go on for ever drops the other end.
            let _ = self.1.recv();
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_in_order_and_the_last_one_before_the_end() {
        let (go, may) = bounded(0);
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let (queue, end) = Queue::start(Slow(written.clone(), may));
        drop(go);
        for line in 0..1_000 {
            (&queue).write_all(format!("{line}\n").as_bytes()).expect("it never fails");
        }
        drop(end);
        let expected: String = (0..1_000).map(|line| format!("{line}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&written.lock()), expected);
    }

    #[test]
    fn nobody_waits_for_a_reader_that_is_stuck_and_what_does_not_fit_is_counted() {
        let (go, may) = bounded(0);
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let (queue, end) = Queue::start(Slow(written.clone(), may));
        let before = lines_lost();
        // More than the queue and what the thread has taken out of it.
        let sent = LINES_MAX as u64 + BATCH_LEN as u64 + 100;
        for _ in 0..sent {
            (&queue).write_all(b"x\n").expect("it never fails");
        }
        let lost = lines_lost() - before;
        assert!(lost >= 100 && lost <= sent - LINES_MAX as u64, "{lost} of {sent} lines");
        drop(go);
        drop(end);
        assert_eq!(written.lock().len() as u64, (sent - lost) * 2, "every other line is written");
    }

    /// What a format makes of one event.
    fn formatted(
        format: impl FormatEvent<Registry, tracing_subscriber::fmt::format::DefaultFields> + Send + Sync + 'static,
    ) -> String {
        let (go, may) = bounded(0);
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let (queue, end) = Queue::start(Slow(written.clone(), may));
        drop(go);
        let lines = layer().with_writer(queue).with_ansi(false).event_format(format);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            tracing::warn!(user = "alice", to_peer_bytes = 7, "ended");
        });
        drop(end);
        String::from_utf8_lossy(&written.lock()).into_owned()
    }

    #[test]
    fn journald_gets_a_priority_and_every_field() {
        assert_eq!(formatted(Journald), "<4>ended user=\"alice\" to_peer_bytes=7\n");
    }
}
