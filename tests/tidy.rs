//! The rules of the house that a machine can check: floors, sizes, words, `unsafe`, and
//! documents that name what exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What each floor may not mention: a fragment of code, and why.
const FLOORS: &[(&str, &[&str])] = &[
    (
        "src/wire",
        &[
            "crate::turn",
            "crate::engine",
            "crate::bus",
            "crate::stats",
            "crate::config",
            "crate::cli",
            "Instant",
            "SystemTime",
            "HashMap",
            "UdpSocket",
            "TcpStream",
            "tracing::",
            "mio",
            "libc::",
            "std::thread",
        ],
    ),
    (
        "src/turn",
        &[
            "crate::engine",
            "crate::bus",
            "crate::stats",
            "crate::config",
            "crate::cli",
            "Instant::now",
            "SystemTime",
            "UdpSocket",
            "TcpStream",
            "mio::",
            "tokio",
            "libc::",
            "std::thread",
            "async fn",
            "tracing::",
            "socket2",
            "getrandom",
        ],
    ),
    ("src/sys.rs", &["crate::"]),
    ("src/bus.rs", &["crate::engine", "crate::config", "crate::cli", "crate::http"]),
    ("src/stats.rs", &["crate::engine", "crate::config", "crate::cli", "crate::http"]),
    ("src/engine", &["crate::config", "crate::cli", "crate::http", "crate::rooms", "tokio"]),
    ("src/load", &["crate::engine", "crate::turn", "crate::http", "crate::config", "crate::cli", "crate::probe"]),
    ("src/probe", &["crate::engine", "crate::turn", "crate::http", "crate::config", "crate::cli"]),
    ("src/http", &["crate::engine", "crate::config", "crate::cli", "mio::"]),
    (
        "src/rooms",
        &[
            "crate::engine",
            "crate::http",
            "crate::bus",
            "crate::stats",
            "crate::config",
            "crate::cli",
            "Instant",
            "SystemTime",
            "tokio",
            "std::thread",
            "async fn",
            "tracing::",
            "axum",
            "getrandom",
        ],
    ),
];

/// Names that say nothing.
const EMPTY_WORDS: &[&str] = &["manager", "helper", "util", "common", "misc", "do_"];

/// Where a long run of the fuzz targets keeps what it finds; not there before one.
const MADE_BY_FUZZING: &str = "fuzz/found";

/// What stands in a document in place of what is to come.
const TO_BE_FILLED_IN: &[&str] = &["@@", "not in yet", "next change", "has not been run yet"];

/// Lines a source file may have before it has become two.
const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !["target", "node_modules", "corpus", "artifacts"].contains(&&*name) {
            found.extend(files_below(&path, ending));
        } else if path.is_file() && name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(String, String)> {
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    files_below(&root().join("src"), ".rs").into_iter().map(read).collect()
}

/// A line without its comment: prose may name what code must not.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

#[test]
fn floors_do_not_mention_what_is_above_or_beside_them() {
    let mut checked = 0;
    for (name, text) in sources() {
        for (_, banned) in FLOORS.iter().filter(|(floor, _)| name.starts_with(floor)) {
            checked += 1;
            for (number, line) in text.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]")) {
                for word in *banned {
                    assert!(!code(line).contains(word), "{name}:{}: this floor never mentions `{word}`", number + 1);
                }
            }
        }
    }
    assert!(checked > 20, "the floors were found");
}

#[test]
fn files_are_of_one_room() {
    let tests = files_below(&root().join("tests"), ".rs").into_iter().map(|path| {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        (name, fs::read_to_string(&path).unwrap())
    });
    for (name, text) in sources().into_iter().chain(tests) {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{name} has {lines} lines; past {LINES_MAX} it has become two rooms");
    }
}

#[test]
fn names_say_something() {
    for (name, text) in sources() {
        for word in EMPTY_WORDS {
            assert!(!name.contains(word), "{name}: a file named `{word}` says nothing");
        }
        for (number, line) in text.lines().enumerate() {
            let defined = ["fn ", "struct ", "enum ", "trait ", "mod "].iter().find_map(|kind| {
                let rest = code(line).trim_start().trim_start_matches("pub ").trim_start_matches("pub(super) ");
                rest.strip_prefix(kind).and_then(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
            });
            let Some(defined) = defined.map(str::to_lowercase) else { continue };
            for word in EMPTY_WORDS {
                let hit = if word.ends_with('_') { defined.starts_with(word) } else { defined.contains(word) };
                assert!(!hit, "{name}:{}: `{defined}` says nothing", number + 1);
            }
        }
    }
}

#[test]
fn unsafe_code_is_in_one_file_and_every_block_has_its_proof() {
    for (name, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            if !code(line).contains("unsafe {") {
                continue;
            }
            assert_eq!(name, "src/sys.rs", "{name}:{}: unsafe code lives in one file", number + 1);
            let proof = lines[..number].iter().rev().take_while(|line| {
                let line = line.trim_start();
                line.starts_with("//") || line.ends_with('=') || line.ends_with('(')
            });
            let proved = proof.into_iter().any(|line| line.trim_start().starts_with("// SAFETY:"));
            assert!(proved, "{name}:{}: an unsafe block says why it is safe", number + 1);
        }
    }
}

/// The function each unsafe block of a file is in, with the type it belongs to.
fn unsafe_blocks(text: &str) -> Vec<String> {
    let (mut owner, mut function, mut blocks) = (String::new(), String::new(), Vec::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("impl ") {
            owner = rest.split([' ', '<']).next().unwrap().to_owned() + "::";
        } else if line.starts_with('}') {
            owner.clear();
        }
        if let Some((_, rest)) = code(line).split_once("fn ") {
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            function = format!("{owner}{name}");
        }
        blocks.extend(code(line).matches("unsafe {").map(|_| function.clone()));
    }
    blocks
}

#[test]
fn the_list_of_unsafe_blocks_is_that_of_the_code() {
    let code = fs::read_to_string(root().join("src/sys.rs")).unwrap();
    let document = fs::read_to_string(root().join("docs/unsafe.md")).unwrap();
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|row| row.split('`').next());
    let blocks = unsafe_blocks(&code);
    assert!(blocks.len() > 10, "the blocks were found");
    assert_eq!(rows.collect::<Vec<_>>(), blocks);
}

#[test]
fn nothing_that_must_not_be_guessed_comes_from_a_quick_generator() {
    for (name, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            for word in ["fastrand", "SmallRng", "thread_rng", "use rand::", " rand::"] {
                let hit = code(line).contains(word);
                assert!(!hit, "{name}:{}: `{word}`: random numbers come from the kernel", number + 1);
            }
        }
    }
}

#[test]
fn every_module_opens_with_its_promise() {
    for (name, text) in sources() {
        assert!(text.starts_with("//!"), "{name} begins with what it promises");
    }
}

#[test]
fn documents_name_files_that_exist() {
    let mut named = 0;
    let documents = files_below(&root(), ".md").into_iter().filter(|path| !path.starts_with(root().join("target")));
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for word in text.split(|c: char| c.is_whitespace() || "`()[],;:|\"#".contains(c)) {
            let word = word.trim_end_matches('.');
            let is_path = ["src/", "tests/", "benches/", "docs/", "etc/", "fuzz/", "systemd/"]
                .iter()
                .any(|folder| word.starts_with(folder));
            let literal = !word.contains(['*', '<', '{', '$', '…']) && !word.starts_with(MADE_BY_FUZZING);
            if is_path && literal {
                named += 1;
                assert!(root().join(word).exists(), "{} names {word}, which is not there", document.display());
            }
        }
    }
    assert!(named > 5, "the documents were found");
}

#[test]
fn documents_are_filled_in() {
    let documents = files_below(&root(), ".md").into_iter().filter(|path| !path.starts_with(root().join("target")));
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for (number, line) in text.lines().enumerate() {
            let missing = TO_BE_FILLED_IN.iter().find(|words| line.contains(**words));
            assert_eq!(missing, None, "{}:{}: something is missing: {line}", document.display(), number + 1);
        }
    }
}

#[test]
fn overflow_ends_the_process_in_release_builds_too() {
    for name in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let manifest: toml::Table = fs::read_to_string(root().join(name)).unwrap().parse().unwrap();
        assert_eq!(manifest["profile"]["release"]["overflow-checks"].as_bool(), Some(true), "{name}");
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let reasons = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let section = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let names: BTreeSet<&str> = section
        .lines()
        .filter_map(|line| line.split_once('=').map(|(name, _)| name.trim()))
        .filter(|name| !name.starts_with('#'))
        .collect();
    assert!(names.len() > 10);
    for name in names {
        assert!(reasons.contains(&format!("`{name}`")), "docs/dependencies.md gives no reason for {name}");
    }
}

#[test]
fn the_number_of_packages_is_the_one_that_is_written_down() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let packages = lock.lines().filter(|line| *line == "[[package]]").count();
    let sentence = format!("It names {packages} packages,");
    let document = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    assert!(document.contains(&sentence), "docs/dependencies.md does not say `{sentence}`");
}

#[test]
fn a_domain_word_for_every_drop() {
    let names: BTreeSet<&str> = turnpike::turn::DropReason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), turnpike::turn::DropReason::ALL.len(), "two reasons share a name");
    for name in names {
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name} is no metric label");
    }
}
