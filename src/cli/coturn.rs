//! `turnpike coturn`: coturn's own command line, so that a unit file changes in one word.

use super::{Configuration, Failure, print, run};
use crate::config::coturn::{Flags, flags};

/// `turnpike coturn`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  turnpike coturn -c /etc/turnserver.conf -v\n  \
                        turnpike coturn -n -a -f -L 192.0.2.7 -r example.org -u alice:wonderland")]
pub struct Options {
    /// The options of coturn's turnserver, short or long
    #[arg(value_name = "FLAGS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub flags: Vec<String>,
}

/// Serves as coturn would be asked to.
pub fn coturn(options: &Options) -> Result<(), Failure> {
    match flags(&options.flags) {
        Ok(Flags { version: true, .. }) => {
            print(&format!("turnpike {}\n", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
        Ok(Flags { help: true, .. }) => {
            print(
                "turnpike coturn takes the options of coturn's turnserver; `turnpike coturn --help` shows examples\n",
            );
            Ok(())
        }
        _ => {
            let coturn = Some(options.flags.clone());
            run::run(&run::Options { configuration: Configuration { coturn, ..Configuration::default() } })
        }
    }
}
