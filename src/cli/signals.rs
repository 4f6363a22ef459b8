//! Waiting for the operator: TERM and INT stop, a second one exits at once, HUP is answered.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The signals a server listens to from the moment this exists.
pub struct StopSignals {
    signals: Signals,
    stopping: Arc<AtomicBool>,
}

impl StopSignals {
    /// Takes over the signals. Call it before anything is started that a signal must not kill.
    pub fn register() -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // Stopping has begun and does not end: the operator's patience decides.
            flag::register_conditional_shutdown(signal, 1, Arc::clone(&stopping))?;
        }
        Ok(StopSignals { signals: Signals::new([SIGTERM, SIGINT, SIGHUP])?, stopping })
    }

    /// Waits for the signal to stop, and returns its name.
    pub fn wait(&mut self) -> &'static str {
        for signal in self.signals.forever() {
            match signal {
                SIGTERM | SIGINT => {
                    self.stopping.store(true, Ordering::SeqCst);
                    return if signal == SIGTERM { "TERM" } else { "INT" };
                }
                _ => tracing::warn!("HUP: reload is not available yet; restart to apply a new configuration"),
            }
        }
        // Only a closed handle ends the iterator, and nobody has one.
        "none"
    }
}
