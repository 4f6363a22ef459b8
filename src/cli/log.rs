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
use std::thread::ThreadId;
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
/// How long the end of the program waits for the last lines, and so does a panic.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);
/// How long a descriptor that takes no more for now is left alone.
const RETRY_AFTER: Duration = Duration::from_millis(5);

/// The way to the level of a log that has started.
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();
/// Lines that nobody read in time, or that could not be written.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Starts the log; the first call of a program counts. What waits to be written is written when
/// the end of it is dropped, and when a thread panics.
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
    flush_at_panics(&end);
    end
}

/// Has whoever panics wait a little for the last lines: it may be the end of the program.
fn flush_at_panics(end: &End) {
    let (queue, log) = (end.queue.clone(), end.thread);
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        // The log's own thread would wait for itself.
        if log != Some(std::thread::current().id()) {
            flush(&queue);
        }
    }));
}

/// Logs so much from now on.
pub fn set_level(level: Level) {
    if LEVEL.get().is_some_and(|handle| handle.reload(filter(level)).is_err()) {
        tracing::error!("the level of the log can not be changed");
    }
}

/// Lines that were lost because nobody read them in time, or because they could not be written.
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
pub struct End {
    queue: Sender<Item>,
    /// The thread that writes.
    thread: Option<ThreadId>,
}

impl Queue {
    fn start(out: impl Write + Send + 'static) -> (Queue, End) {
        let (lines, waiting) = bounded(LINES_MAX);
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || write(&waiting, out));
        if let Err(error) = &thread {
            // The lines will be counted as lost.
            eprintln!("turnpike: the log can not be written: {error}");
        }
        let thread = thread.ok().map(|thread| thread.thread().id());
        (Queue(lines.clone()), End { queue: lines, thread })
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
        flush(&self.queue);
    }
}

/// Waits a little until what is in the queue is written.
fn flush(queue: &Sender<Item>) {
    let until = Instant::now() + FLUSH_PATIENCE;
    let (written, is_written) = bounded(1);
    if queue.send_deadline(Item::Flush(written), until).is_ok() {
        // If nobody reads, the program ends all the same.
        let _ = is_written.recv_deadline(until);
    }
}

/// Lines that are written at once.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where each line ends.
    ends: Vec<usize>,
}

impl Batch {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn push(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.ends.push(self.bytes.len());
    }

    /// Writes them, however long that takes, and says how many did not get out whole.
    fn write(&self, out: &mut impl Write) -> u64 {
        let mut written = 0;
        while written < self.bytes.len() {
            match out.write(&self.bytes[written..]) {
                Ok(0) => break,
                Ok(len) => written += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Whoever shares the descriptor may have made it one that does not wait.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(RETRY_AFTER),
                Err(_) => break,
            }
        }
        self.ends.iter().filter(|&&end| end > written).count() as u64
    }
}

/// Writes what comes, several lines at once when they wait.
fn write(waiting: &Receiver<Item>, mut out: impl Write) {
    let (mut batch, mut told, mut told_at) = (Batch::default(), lines_lost(), None::<Instant>);
    while let Ok(first) = waiting.recv() {
        batch.clear();
        let mut next = Some(first);
        let mut flushed = None;
        while let Some(item) = next.take() {
            match item {
                Item::Line(line) => batch.push(&line),
                Item::Flush(written) => flushed = Some(written),
            }
            if flushed.is_none() && batch.bytes.len() < BATCH_LEN {
                next = waiting.try_recv().ok();
            }
        }
        // There is nowhere to complain to but the count.
        let unwritten = batch.write(&mut out);
        LOST.fetch_add(unwritten, Ordering::Relaxed);
        if let Some(written) = flushed {
            // Whoever waited may have lost patience.
            let _ = written.send(());
        }
        let lost = lines_lost();
        // While the queue is full, or the disk, this line would be lost too.
        let has_room = waiting.len() < LINES_MAX / 2 && unwritten == 0;
        if lost > told && has_room && told_at.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            tracing::warn!(
                lines = lost - told,
                "lines of the log were lost: nobody read them in time, or they could not be written"
            );
            (told, told_at) = (lost, Some(Instant::now()));
        }
    }
}

/// A line as sd-daemon(3) has it: `<N>` with the syslog priority, then the text and its fields. A text of
/// several lines has it on each of them: journald takes them for entries of their own. The time is
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
        let mut text = String::new();
        context.field_format().format_fields(Writer::new(&mut text), event)?;
        text.trim_end_matches('\n').split('\n').try_for_each(|line| writeln!(writer, "<{priority}>{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
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

    /// Takes a few bytes, then none for now, then a few more; and nothing for ever after so many.
    struct Narrow {
        taken: Vec<u8>,
        is_full: bool,
        end: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.is_full = !self.is_full;
            match (self.is_full, self.end - self.taken.len()) {
                (true, _) => Err(io::ErrorKind::WouldBlock.into()),
                (false, 0) => Err(io::ErrorKind::BrokenPipe.into()),
                (false, left) => {
                    let len = bytes.len().min(left).min(7);
                    self.taken.extend_from_slice(&bytes[..len]);
                    Ok(len)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stderr_that_does_not_wait_tears_no_line_and_one_that_fails_has_them_counted() {
        let mut batch = Batch::default();
        (0..10).for_each(|line| batch.push(format!("line {line}\n").as_bytes()));
        let mut out = Narrow { taken: Vec::new(), is_full: false, end: 1_000 };
        assert_eq!(batch.write(&mut out), 0);
        assert_eq!(out.taken, batch.bytes, "it goes on where it stopped");
        let mut out = Narrow { taken: Vec::new(), is_full: false, end: "line 0\n".len() * 3 + 1 };
        assert_eq!(batch.write(&mut out), 7, "three are out, the fourth is torn");
    }

    #[test]
    fn the_last_lines_before_a_panic_are_written() {
        const CHILD: &str = "TURNPIKE_TEST_PANICS";
        const COUNT: usize = 5_000;
        if std::env::var_os(CHILD).is_some() {
            // To stderr it would wait for the reader, as the log does.
            std::panic::set_hook(Box::new(|_| {
                writeln!(io::stdout(), "\npanics now").expect("it is read");
            }));
            let end = start(Level::Info, Format::Text);
            let panics = || {
                (0..COUNT).for_each(|number| tracing::info!(number, "before the panic"));
                panic!("on purpose");
            };
            assert!(std::thread::spawn(panics).join().is_err());
            // As after a panic that aborts: nothing is dropped any more.
            std::mem::forget(end);
            std::process::exit(0);
        }
        let test = module_path!().split_once("::").expect("it is in a crate").1;
        let mut child = std::process::Command::new(std::env::current_exe().expect("it has a path"));
        child.args(["--exact", &format!("{test}::the_last_lines_before_a_panic_are_written"), "--nocapture"]);
        child.env(CHILD, "1").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().expect("it runs");
        // Nobody reads before the panic, and there are more lines than a pipe holds.
        let mut told = BufReader::new(child.stdout.take().expect("it is a pipe")).lines().map_while(Result::ok);
        assert!(told.any(|line| line == "panics now"));
        let said = child.wait_with_output().expect("it ends").stderr;
        let said = String::from_utf8_lossy(&said);
        assert_eq!(said.matches("before the panic").count(), COUNT);
    }

    /// What a format makes of one event.
    fn formatted(
        format: impl FormatEvent<Registry, tracing_subscriber::fmt::format::DefaultFields> + Send + Sync + 'static,
        event: impl FnOnce(),
    ) -> String {
        let (go, may) = bounded(0);
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let (queue, end) = Queue::start(Slow(written.clone(), may));
        drop(go);
        let lines = layer().with_writer(queue).with_ansi(false).event_format(format);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), event);
        drop(end);
        String::from_utf8_lossy(&written.lock()).into_owned()
    }

    #[test]
    fn journald_gets_a_priority_and_every_field() {
        let ended = || tracing::warn!(user = "alice", to_peer_bytes = 7, "ended");
        assert_eq!(formatted(Journald, ended), "<4>ended user=\"alice\" to_peer_bytes=7\n");
    }

    #[test]
    fn journald_gets_the_priority_on_every_line_of_a_message() {
        let refused = || tracing::error!("not reloaded: a fault\n 1 | x = 1\n   | ^\n");
        assert_eq!(formatted(Journald, refused), "<3>not reloaded: a fault\n<3> 1 | x = 1\n<3>   | ^\n");
    }
}
