//! `turnpike man`: the manual pages, made from what the binary itself knows.
//!
//! A page a command comes from the command line's own description, turnpike.toml(5) from the
//! documented sample. The same version prints the same bytes: no date, no path, no host.

mod roff;
mod sample;

use super::{Arguments, Failure, print};
use clap::CommandFactory;
use clap_mangen::Man;
use roff::Page;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the sections of the whole manual are headed with.
const MANUAL: &str = "turnpike manual";
/// `turnpike 0.1.0`.
const SOURCE: &str = concat!("turnpike ", env!("CARGO_PKG_VERSION"));
/// The page of the configuration file.
const CONFIGURATION_PAGE: &str = "turnpike.toml.5";
/// What turnpike(1) says beyond its commands.
const NOTES: &str = include_str!("man/notes.man");
/// Every key of the configuration, documented.
const SAMPLE: &str = include_str!("../../etc/turnpike.toml");

/// `turnpike man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  turnpike man | man -l -\n  \
                        turnpike man /tmp/man && man -l /tmp/man/turnpike.toml.5")]
pub struct Options {
    /// Write turnpike.1, a page a command and turnpike.toml.5 into this directory; without it
    /// the main page goes to stdout
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Prints the main page, or writes all pages.
pub fn man(options: &Options) -> Result<(), Failure> {
    let pages = pages().map_err(|error| Failure::Other(format!("the manual can not be made: {error}")))?;
    match &options.dir {
        None => {
            let main = pages.iter().find(|(name, _)| name == "turnpike.1");
            print(main.map_or("", |(_, text)| text));
            Ok(())
        }
        Some(dir) => write(dir, &pages),
    }
}

fn write(dir: &Path, pages: &[(String, String)]) -> Result<(), Failure> {
    let failed = |path: &Path, error: io::Error| {
        Failure::Other(format!("{} can not be written: {error}; name a directory of yours", path.display()))
    };
    fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
    for (name, text) in pages {
        let path = dir.join(name);
        fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// Every page by the name of its file.
fn pages() -> io::Result<Vec<(String, String)>> {
    let mut root = Arguments::command().disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    command_pages(&root, &mut pages)?;
    pages.push((CONFIGURATION_PAGE.to_owned(), configuration_page()));
    Ok(pages)
}

fn command_pages(command: &clap::Command, pages: &mut Vec<(String, String)>) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    pages.push((format!("{name}.1"), command_page(command)?));
    command.get_subcommands().filter(|below| !below.is_hide_set()).try_for_each(|below| command_pages(below, pages))
}

fn command_page(command: &clap::Command) -> io::Result<String> {
    let man = Man::new(command.clone());
    let mut page = Page::default();
    let below = command.get_subcommands().any(|below| !below.is_hide_set());
    page.title(command.get_display_name().unwrap_or_else(|| command.get_name()), 1, SOURCE, MANUAL);
    page.take(|out| man.render_name_section(out))?;
    page.take(|out| man.render_synopsis_section(out))?;
    page.take(|out| man.render_description_section(out))?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        page.take(|out| man.render_options_section(out))?;
    }
    environment(command, &mut page);
    if below {
        page.take(|out| man.render_subcommands_section(out))?;
    }
    let help = command.get_after_long_help().or_else(|| command.get_after_help());
    page.examples(&help.map(ToString::to_string).unwrap_or_default());
    if command.get_name() == "turnpike" {
        page.raw(NOTES);
    } else {
        page.section("SEE ALSO");
        page.line("\\fBturnpike\\fR(1), \\fBturnpike.toml\\fR(5)");
    }
    Ok(page.text())
}

/// The variables that stand for options.
fn environment(command: &clap::Command, page: &mut Page) {
    let variables = command.get_arguments().filter_map(|argument| Some((argument.get_env()?, argument.get_long()?)));
    for (at, (variable, option)) in variables.enumerate() {
        if at == 0 {
            page.section("ENVIRONMENT");
        }
        page.entry(&[&variable.to_string_lossy()], &format!("Stands for --{option}, which wins over it."));
    }
}

fn configuration_page() -> String {
    let mut page = Page::default();
    page.title("turnpike.toml", 5, SOURCE, MANUAL);
    page.section("NAME");
    page.line("turnpike.toml \\- the configuration of the STUN/TURN relay turnpike");
    page.section("DESCRIPTION");
    page.paragraph(
        "What follows is the installed file. Each key is shown with its default, and has a # before it there.",
    );
    sample::write(SAMPLE, &mut page);
    page.section("SEE ALSO");
    page.line("\\fBturnpike\\fR(1), \\fBturnpike\\-check\\fR(1), \\fBturnpike\\-explain\\fR(1)");
    page.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_the_same_each_time_it_is_made() {
        assert_eq!(pages().expect("they are made"), pages().expect("they are made"));
    }

    #[test]
    fn no_line_of_a_page_is_a_request_by_mistake() {
        let known = [
            ".TH", ".SH", ".PP", ".TP", ".TQ", ".B", ".I", ".nf", ".fi", ".RS", ".RE", ".ie", ".el", ".br", ".sp",
            ".IP",
        ];
        for (name, text) in pages().expect("they are made") {
            for line in text.lines().filter(|line| line.starts_with(['.', '\''])) {
                let request = line.split([' ', '\\']).next().unwrap_or_default();
                assert!(known.contains(&request), "{name}: {line}");
            }
        }
    }
}
