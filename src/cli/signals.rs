//! The operator's signals: TERM drains and ends, a second one or INT ends now, HUP reloads, USR1
//! drains. One more while the server ends, and it is gone at once.

use super::Failure;
use super::serve::{Draining, Wish};
use crossbeam_channel::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use signal_hook::iterator::Signals as Iterator;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that the first Ctrl-C raises, for a command that then ends by itself with what there is;
/// a second one ends the program.
pub fn stop_on_interrupt() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let heard = flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&stop))
        .and_then(|_| flag::register(SIGINT, Arc::clone(&stop)));
    heard.map_err(|error| Failure::Other(format!("Ctrl-C can not be heard: {error}")))?;
    Ok(stop)
}

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
