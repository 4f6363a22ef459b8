//! `docs/conformance.md` against the tests: every row once, and no claim without a test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rows of the document.
const ROWS: u32 = 125;
/// Depth of directories below `tests/` and `src/` that hold Rust files.
const DEPTH: usize = 2;

/// One row of the document's tables.
#[derive(Debug)]
struct Row {
    number: u32,
    section: String,
    requirement: String,
    status: String,
    tests: Vec<String>,
    note: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows in the order they stand in.
fn rows() -> Vec<Row> {
    let text = fs::read_to_string(root().join("docs/conformance.md")).expect("docs/conformance.md is there");
    text.lines().filter(|line| line.starts_with("| CF-")).map(row).collect()
}

fn row(line: &str) -> Row {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [id, section, requirement, status, tests, note] = cells[..] else { panic!("six columns: {line}") };
    let number = id.trim_start_matches("CF-").parse().unwrap_or_else(|_| panic!("a number: {id}"));
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(String::from).collect();
    let [section, requirement, status, note] = [section, requirement, status, note].map(String::from);
    Row { number, section, requirement, status, tests: quoted(tests), note }
}

/// Every Rust file under `tests/` and `src/`.
fn sources() -> Vec<PathBuf> {
    fn walk(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("the directory can be read").flatten() {
            let path = entry.path();
            match path.extension() {
                Some(extension) if extension == "rs" => found.push(path),
                _ if path.is_dir() && depth > 0 => walk(&path, depth - 1, found),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["tests", "src"] {
        walk(&root().join(folder), DEPTH, &mut found);
    }
    found
}

/// The names of all test functions.
fn test_functions() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in sources() {
        let text = fs::read_to_string(&path).expect("the file can be read");
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[test]") {
            let name = pair[1].strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            names.extend(name.map(String::from));
        }
    }
    names
}

#[test]
fn every_row_stands_in_the_document_once_and_in_order() {
    let numbers: Vec<u32> = rows().iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=ROWS).collect::<Vec<_>>());
}

#[test]
fn every_row_says_what_is_asked_and_whether_it_is_met() {
    for row in rows() {
        assert!(!row.section.is_empty() && !row.requirement.is_empty(), "{row:?}");
        match row.status.as_str() {
            "yes" | "daemon" => assert!(!row.tests.is_empty(), "a yes names its test: {row:?}"),
            "no" | "on purpose" | "unshown" => assert!(!row.note.is_empty(), "a no has a reason: {row:?}"),
            other => panic!("one of the words the document explains, not {other:?}"),
        }
    }
}

#[test]
fn every_test_the_document_names_exists() {
    let functions = test_functions();
    assert!(functions.contains("every_test_the_document_names_exists"), "tests are found");
    for row in rows() {
        for test in &row.tests {
            assert!(functions.contains(test), "CF-{:02} names `{test}`, which does not exist", row.number);
        }
    }
}

#[test]
fn every_test_named_for_a_row_is_named_by_it() {
    let named: BTreeMap<u32, Vec<String>> = rows().into_iter().map(|row| (row.number, row.tests)).collect();
    for function in test_functions() {
        let Some(number) = function.strip_prefix("cf_").and_then(|rest| rest.split('_').next()?.parse().ok()) else {
            continue;
        };
        let tests = named.get(&number).unwrap_or_else(|| panic!("`{function}` is named for a row that is not there"));
        assert!(tests.contains(&function), "CF-{number:02} does not name `{function}`");
    }
}
