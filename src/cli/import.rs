//! `turnpike import`: coturn's configuration as turnpike's, and what became of each line.

use super::{Failure, host, print};
use crate::config::coturn::{End, FILE_LEN_MAX, Note, Reader, Version};
use crate::config::{self, Fault};
use std::path::PathBuf;

/// `turnpike import`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  turnpike import /etc/turnserver.conf > turnpike.toml\n  \
                        turnpike import --from-version 4.6.1 /etc/turnserver.conf > turnpike.toml")]
pub struct Options {
    /// coturn's turnserver.conf
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The coturn it was written for: some defaults changed from one to the next
    #[arg(long, value_name = "VERSION")]
    pub from_version: Option<Version>,
}

/// Prints the TOML, and on stderr one line a key. Fails when the result would not start.
pub fn import(options: &Options) -> Result<(), Failure> {
    let reader = Reader { version: options.from_version, ..Reader::default() };
    let import = config::import(&options.file, &reader)?;
    print(&import.toml);
    for note in &import.notes {
        eprintln!("{}", line(note));
    }
    if import.toml.len() > FILE_LEN_MAX {
        let text = "the TOML is larger than the 1 MiB that is read of one file: cut [auth.users] into several, each with \
                    that header, and name them all with -c";
        eprintln!("{}", line(&Note::about("size", End::NeedsYou, text)));
    }
    let mut refusals = import.refusals;
    if let Some(last) = refusals.pop() {
        for refusal in &refusals {
            eprintln!("turnpike: {refusal}");
        }
        return Err(last.into());
    }
    let would_not_start = |fault: Fault| Failure::from(fault);
    import.loaded.map_err(would_not_start)?.plan(&host()?).map_err(would_not_start)?;
    Ok(())
}

/// `carried    turnserver.conf:3 realm: realm`.
fn line(note: &Note) -> String {
    let outcome = match note.end {
        End::Nothing | End::Dropped => "dropped",
        end => end.name(),
    };
    let place = if note.place.is_empty() { "(default)" } else { &note.place };
    match note.end {
        End::Nothing => format!("{outcome:<9} {place} {}: (nothing to do: {})", note.key, note.text),
        End::Dropped => format!("{outcome:<9} {place} {}: ({})", note.key, note.text),
        _ => format!("{outcome:<9} {place} {}: {}", note.key, note.text),
    }
}
