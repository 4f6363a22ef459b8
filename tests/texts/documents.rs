//! Documents that can not go stale unseen: tables that are those of the code, links that lead
//! somewhere, command lines that the binary takes.

use super::commands;
use clap::Parser;
use std::fs;
use std::path::{Path, PathBuf};
use turnpike::cli::Arguments;
use turnpike::turn::EndReason;
use turnpike::turn::policy::{DefaultRule, Firmness, REFLECTOR_PORTS, default_rules};

#[test]
fn the_document_denies_what_the_code_denies() {
    let text = document("docs/security.md");
    let shown: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("| block | denial |")).skip(2).collect();
    let shown = shown.split(|line| line.is_empty()).next().unwrap_or_default();
    let row = |rule: &DefaultRule| {
        let firmness = if rule.firmness == Firmness::Hard { "hard" } else { "soft" };
        format!("| `{}` | {firmness} | {} |", rule.block, rule.reason)
    };
    assert_eq!(shown, default_rules().iter().map(row).collect::<Vec<_>>());
    let ports: Vec<String> = REFLECTOR_PORTS.iter().map(u16::to_string).collect();
    let (last, others) = ports.split_last().expect("there are some");
    let sentence = format!("Peer ports {} and {last} are refused too", others.join(", "));
    assert!(text.contains(&sentence), "no `{sentence}`");
}

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_alert_and_every_end_of_an_allocation_is_explained() {
    let text = document("docs/operate.md");
    let rules = document("etc/prometheus-alerts.yml");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        assert!(text.contains(&format!("`{alert}`")), "no word about {alert}");
    }
    for reason in EndReason::ALL {
        assert!(text.contains(&format!("| `{}` | ", reason.name())), "no word about {}", reason.name());
    }
}

/// All that the sources say.
fn sources(folder: &Path) -> String {
    let entries = fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry").path());
    let text = |path: PathBuf| match path.is_dir() {
        true => sources(&path),
        false if path.extension().is_some_and(|ending| ending == "rs") => fs::read_to_string(path).expect("it is text"),
        false => String::new(),
    };
    entries.map(text).collect()
}

#[test]
fn the_lines_of_the_log_that_are_explained_are_those_that_are_written() {
    let (text, code) = (document("docs/operate.md"), sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")));
    let rows = text.lines().skip_while(|line| !line.starts_with("| line | fields |")).skip(2);
    let rows: Vec<&str> = rows.take_while(|line| !line.is_empty()).collect();
    assert!(rows.len() > 15, "{rows:?}");
    for row in rows {
        let mut cells = row.split('|').skip(1);
        for line in cells.next().expect("a first cell").split('`').skip(1).step_by(2) {
            let is_written = [format!("\"{line}\""), format!("\"{line}: {{")].iter().any(|text| code.contains(text));
            assert!(is_written, "nothing writes `{line}`");
        }
        for field in cells.next().expect("a second cell").split('`').skip(1).step_by(2) {
            let is_written = [format!(" {field} = "), format!("%{field}"), format!("{field},"), format!("({field},")];
            assert!(is_written.iter().any(|text| code.contains(text)), "nothing has the field `{field}`");
        }
    }
}

#[test]
fn every_command_is_in_the_documents() {
    let names = ["README.md", "docs/operate.md", "docs/migrate-from-coturn.md"];
    let text = names.map(document).concat();
    for (name, _) in commands() {
        assert!(["man", "completions"].contains(&&*name) || text.contains(&format!("turnpike {name}")), "{name}");
    }
}

/// The anchors of a document's headings, as they are linked to.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let slug = |heading: &str| {
        let kept =
            heading.to_lowercase().chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c)).collect::<String>();
        kept.replace(' ', "-")
    };
    headings.map(slug).collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut links = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).expect("it is text");
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            links += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let meant = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            assert!(meant.exists(), "{}: {target} is not there", path.display());
            if !anchor.is_empty() {
                let anchors = anchors(&fs::read_to_string(&meant).expect("it is text"));
                assert!(anchors.iter().any(|found| found == anchor), "{}: {target}: {anchors:?}", path.display());
            }
        }
    }
    assert!(links > 30, "{links} links");
}

/// Every document for users and contributors.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let in_folder = |folder: &str| {
        let entries = fs::read_dir(root.join(folder)).expect("the folder is there");
        entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.extension().is_some_and(|e| e == "md"))
    };
    in_folder("").chain(in_folder("docs")).collect()
}

/// The commands a document shows, with the lines they go on in: indented, or fenced as a shell's.
fn shown(text: &str) -> Vec<String> {
    let mut lines = text.lines().map(str::trim_end);
    let (mut found, mut fence) = (Vec::new(), None);
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            fence = if fence.is_none() { Some(language) } else { None };
        }
        let command = match fence {
            Some("sh" | "bash" | "console") => line,
            Some(_) => continue,
            None => line.strip_prefix("    ").unwrap_or_default(),
        };
        let mut command = command.trim_start_matches("$ ").trim_start_matches("sudo ").to_owned();
        while command.ends_with('\\') {
            command.pop();
            command.push_str(lines.next().unwrap_or_default().trim());
        }
        if command.starts_with("turnpike ") {
            found.push(command);
        }
    }
    found
}

/// The words of the first command of a line, as a shell takes them apart; what a command in it prints is a number.
fn words(line: &str) -> Vec<String> {
    let mut line = line.to_owned();
    while let Some(range) = line.find("$(").and_then(|start| Some(start..start + line[start..].find(')')? + 1)) {
        line.replace_range(range, "1");
    }
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '|' | '>' | '<' | '&' | ';') => break,
            (None, '#') if word.is_none() => break,
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn command_lines_in_documents_are_taken_by_the_binary() {
    let mut tried = 0;
    for path in documents() {
        for line in shown(&fs::read_to_string(&path).expect("it is text")) {
            tried += 1;
            if let Err(error) = Arguments::try_parse_from(words(&line)) {
                assert!(!error.use_stderr(), "{}: {line}\n{error}", path.display());
            }
        }
    }
    assert!(tried > 40, "{tried} command lines");
}

#[test]
fn both_languages_show_the_same_commands_and_the_same_configuration() {
    let commands = |name: &str| shown(&document(name)).iter().map(|line| words(line)).collect::<Vec<_>>();
    let in_chinese = |words: &[String]| words.iter().map(|word| word.replace("用户名", "NAME")).collect::<Vec<_>>();
    let settings = |name: &str| {
        let text = document(name);
        let fenced = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        fenced.map(|toml| toml.parse::<toml::Table>().expect("it is TOML")).collect::<Vec<_>>()
    };
    for (english, chinese) in
        [("README.md", "README.zh-CN.md"), ("docs/from-the-old-guides.md", "docs/from-the-old-guides.zh-CN.md")]
    {
        let translated: Vec<_> = commands(chinese).iter().map(|words| in_chinese(words)).collect();
        assert_eq!(commands(english), translated, "{english}, {chinese}");
        assert_eq!(settings(english), settings(chinese), "{english}, {chinese}");
    }
}

#[test]
fn a_line_is_taken_apart_as_a_shell_does() {
    assert_eq!(words("turnpike a 'b c' \"d\"e '' # f"), ["turnpike", "a", "b c", "de", ""]);
    assert_eq!(words("turnpike man --x $(pidof y) | man -l -"), ["turnpike", "man", "--x", "1"]);
    assert_eq!(
        shown("x\n    sudo turnpike a \\\n      b\n    turnpike c\nThe turnpike d\n"),
        ["turnpike a b", "turnpike c"]
    );
}
