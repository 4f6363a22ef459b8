//! What the binary prints about itself, and what documents say of it: manual pages that are complete
//! and well formed, completions that real shells take, denials that are those of the code.

#[path = "texts/documents.rs"]
mod documents;
#[path = "texts/reliability.rs"]
mod reliability;

use clap::CommandFactory;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use turnpike::cli::Arguments;
use turnpike::config::file::File;

fn turnpike(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_turnpike")).args(arguments).stdin(Stdio::null()).output();
    output.expect("the binary runs")
}

/// What a command prints that must succeed and complain of nothing.
fn says(arguments: &[&str]) -> String {
    let output = turnpike(arguments);
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("it prints text")
}

/// A directory of one test, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("texts-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("the scratch directory is made");
        Scratch(path)
    }

    /// Where every manual page was written.
    fn manual(name: &str) -> Self {
        let scratch = Scratch::new(name);
        // Of the environment nothing may be in them.
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
        let output = command.arg("man").arg(scratch.0.join("man")).env("TURNPIKE_ADMIN", name).output();
        let output = output.expect("the binary runs");
        assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
        scratch
    }

    fn page(&self, name: &str) -> String {
        fs::read_to_string(self.0.join("man").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn pages(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.0.join("man")).expect("the pages are there");
        let mut pages: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        pages.sort();
        pages
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Names and first examples of every command.
fn commands() -> Vec<(String, String)> {
    let commands = Arguments::command();
    let example = |command: &clap::Command| {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        help.lines().nth(1).map(|line| line.trim().to_owned()).expect("an example stands below its title")
    };
    commands.get_subcommands().map(|command| (command.get_name().to_owned(), example(command))).collect()
}

/// Text of a page as a reader sees it, as far as examples and keys need it.
fn plain(page: &str) -> String {
    let marks = [("\\-", "-"), ("\\(aq", "'"), ("\\(ga", "`"), ("\\(ha", "^"), ("\\(ti", "~"), ("\\[u2026]", "…")];
    marks.iter().fold(page.replace("\\fB", "").replace("\\fR", ""), |page, (mark, sign)| page.replace(mark, sign))
}

#[test]
fn every_command_has_a_page_with_its_example() {
    let scratch = Scratch::manual("pages");
    let commands = commands();
    assert!(commands.len() > 12, "{commands:?}");
    for (name, example) in &commands {
        let page = plain(&scratch.page(&format!("turnpike-{name}.1")));
        assert!(page.contains(example), "turnpike-{name}.1 shows no `{example}`:\n{page}");
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "\"EXAMPLES\"", "\"SEE ALSO\""] {
            assert!(page.contains(&format!(".SH {section}\n")), "turnpike-{name}.1 has no {section}");
        }
    }
    let main = plain(&scratch.page("turnpike.1"));
    for (name, _) in &commands {
        assert!(main.contains(&format!("turnpike-{name}(1)")), "turnpike.1 does not name {name}");
    }
    assert_eq!(says(&["man"]), scratch.page("turnpike.1"), "without a directory the main page is printed");
}

#[test]
fn the_page_of_the_configuration_has_every_key_with_its_default() {
    let scratch = Scratch::manual("keys");
    let page = plain(&scratch.page("turnpike.toml.5"));
    let defaults = serde_json::to_value(File::default()).expect("the defaults are values");
    let mut keys = 0;
    for (name, value) in defaults.as_object().expect("the configuration is a table") {
        let in_table = |key: &str| {
            let shown = page.lines().any(|line| line.starts_with(&format!("{key} = ")));
            assert!(shown, "`{key}` of {name} is not shown");
        };
        match value {
            Value::Object(table) if name != "users" => {
                assert!(page.contains(&format!(".SH \"[{name}]\"\n")), "[{name}] has no section");
                table.keys().for_each(|key| in_table(key));
                keys += table.len();
            }
            _ => in_table(name),
        }
    }
    assert!(keys > 50, "{keys} keys");
    for passage in ["ports = \"49152-65535\"\n", "nonce_lifetime = \"10m\"\nHow long a challenge is good"] {
        assert!(page.contains(passage), "no `{passage}`:\n{page}");
    }
}

#[test]
fn pages_are_the_same_whoever_makes_them() {
    let (one, other) = (Scratch::manual("one"), Scratch::manual("other"));
    assert_eq!(one.pages().len(), other.pages().len());
    for (a, b) in one.pages().iter().zip(other.pages()) {
        assert_eq!(a.file_name(), b.file_name());
        assert_eq!(fs::read(a).expect("it is there"), fs::read(&b).expect("it is there"), "{}", b.display());
    }
}

#[test]
fn a_directory_that_can_not_be_written_is_named() {
    let scratch = Scratch::new("unwritable");
    let file = scratch.0.join("file");
    fs::write(&file, "").expect("the scratch directory takes files");
    let output = turnpike(&["man", file.to_str().expect("a path of text")]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint.starts_with("turnpike: ") && complaint.contains("file can not be written"), "{complaint}");
}

/// Runs a formatter of manual pages over all of them; what it says must be nothing.
fn formats(tool: &str, arguments: &[&str], is_meant: impl Fn(&str) -> bool) {
    require(tool);
    let scratch = Scratch::manual(tool);
    for page in scratch.pages() {
        let output = Command::new(tool).args(arguments).arg(&page).output().expect("the formatter runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let complaint = said.lines().find(|line| !is_meant(line));
        assert_eq!(complaint, None, "{}", page.display());
    }
}

/// Fails the test, naming the command that installs the tools, where the program is missing.
fn require(program: &str) {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    assert!(found, "{program} is not installed: tests/run.sh --install installs what the tests need");
}

#[test]
fn groff_has_nothing_to_complain_of() {
    formats("groff", &["-man", "-Tutf8", "-ww", "-z"], |_| false);
}

#[test]
fn mandoc_has_nothing_to_complain_of() {
    // A date would be that of the build.
    formats("mandoc", &["-Tlint", "-Wwarning"], |line| line.contains("WARNING: missing date"));
}

/// Runs a shell with a script of completions at `$0`.
fn shell(shell: &str, arguments: &[&str], script: &str) -> String {
    let scratch = Scratch::new(&format!("completions-{shell}"));
    let completions = scratch.0.join("completions");
    fs::write(&completions, says(&["completions", shell])).expect("the scratch directory takes files");
    require(shell);
    let mut command = Command::new(shell);
    command.args(arguments).args(["-c", script]).arg(&completions).env("COMPLETIONS", &completions);
    let output = command.env("HOME", &scratch.0).stdin(Stdio::null()).output().expect("the shell runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{shell}: {stderr}");
    String::from_utf8(output.stdout).expect("it prints text")
}

/// What bash offers behind these words.
fn bash_offers(words: &[&str]) -> Vec<String> {
    let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let script = format!(
        "bash -n \"$0\" && source \"$0\" && COMP_WORDS=({}) && COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)) && \
         complete -p turnpike >/dev/null && _turnpike turnpike \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\" && \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.join(" ")
    );
    shell("bash", &["--norc"], &script).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_every_command_and_its_options() {
    let offered = bash_offers(&["turnpike", ""]);
    for (name, _) in commands() {
        assert!(offered.contains(&name), "{name} is not offered: {offered:?}");
    }
    assert_eq!(bash_offers(&["turnpike", "cred"]), ["credentials"]);
    let options = bash_offers(&["turnpike", "top", "--"]);
    for option in ["--once", "--interval", "--admin", "--help"] {
        assert!(options.iter().any(|offered| offered == option), "{option}: {options:?}");
    }
    assert_eq!(bash_offers(&["turnpike", "status", "--format", ""]), ["text", "json"]);
}

#[test]
fn zsh_takes_its_completions() {
    let script = "autoload -Uz compinit && compinit -u -D && source \"$0\" && print -l ${(k)functions[(I)_turnpike*]}";
    let functions = shell("zsh", &["-f"], script);
    for (name, _) in commands() {
        let function = format!("_turnpike__subcmd__{name}_commands");
        assert!(functions.lines().any(|line| line == function), "zsh knows no {function}:\n{functions}");
    }
}

#[test]
fn fish_completes_every_command() {
    let offered = shell("fish", &["--no-config"], "source $COMPLETIONS; complete -C 'turnpike '");
    for (name, _) in commands() {
        assert!(offered.lines().any(|line| line.split('\t').next() == Some(&name)), "{name}:\n{offered}");
    }
}

#[test]
fn an_unknown_shell_is_told_which_there_are() {
    let output = turnpike(&["completions", "tcsh"]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(complaint.contains("bash") && complaint.contains("zsh") && complaint.contains("fish"), "{complaint}");
}
