//! The operator's signals: TERM drains and ends, a second one or INT ends now, HUP reloads, USR1
//! drains. One more while the server ends, and it is gone at once.

use super::serve::{Draining, Wish};
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
            let mut terminating = false;
            for signal in signals.forever() {
                let wish = match signal {
                    SIGTERM if !terminating => {
                        terminating = true;
                        Wish::Terminate
                    }
                    SIGTERM | SIGINT => {
                        stopping.store(true, Ordering::SeqCst);
                        Wish::Stop(if signal == SIGTERM { "TERM twice" } else { "INT" })
                    }
                    SIGUSR1 => Wish::Drain(Some(Draining::default()), None),
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
