//! `turnpike completions`: what a shell needs to complete turnpike's command line.

use super::{Arguments, Failure, print};
use clap::CommandFactory;
use clap_complete::Shell;

/// `turnpike completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
    turnpike completions bash > /usr/share/bash-completion/completions/turnpike\n  \
    turnpike completions zsh > /usr/share/zsh/vendor-completions/_turnpike\n  \
    turnpike completions fish > ~/.config/fish/completions/turnpike.fish\n  \
    source <(turnpike completions bash)     in this shell only")]
pub struct Options {
    /// Whose completions to print
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// Prints them; the same for each run of one version.
pub fn completions(options: &Options) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Arguments::command(), "turnpike", &mut script);
    print(&String::from_utf8_lossy(&script));
    Ok(())
}
