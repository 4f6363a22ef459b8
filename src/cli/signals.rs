//! The operator's signals: TERM and INT stop, a second one exits at once, HUP reloads, USR1
//! drains.

use super::serve::Wish;
use crossbeam_channel::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use signal_hook::iterator::Signals as Iterator;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The signals a server listens to.
pub struct Signals;

impl Signals {
    /// Takes over the signals and turns each into a wish. Call it before anything is started
    /// that a signal must not kill.
    pub fn hear(wishes: Sender<Wish>) -> io::Result<()> {
        let stopping = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // Stopping has begun and does not end: the operator's patience decides.
            flag::register_conditional_shutdown(signal, 1, Arc::clone(&stopping))?;
        }
        let mut signals = Iterator::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
        let hear = move || {
            for signal in signals.forever() {
                let wish = match signal {
                    SIGTERM | SIGINT => {
                        stopping.store(true, Ordering::SeqCst);
                        Wish::Stop(if signal == SIGTERM { "TERM" } else { "INT" })
                    }
                    SIGUSR1 => Wish::Drain(true, None),
                    _ => Wish::Reload(None),
                };
                if wishes.send(wish).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(hear)?;
        Ok(())
    }
}
