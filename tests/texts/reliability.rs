//! `docs/reliability.md` against the tests: every row once and in order, and no claim without a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Each kind of row, and how many there are.
const ROWS: [(&str, u32); 3] = [("IN", 130), ("FI", 32), ("LD", 12)];
/// Folders whose functions may be named.
const FOLDERS: [&str; 4] = ["tests", "src", "fuzz/fuzz_targets", "benches"];

/// One row of a table: its cells.
struct Row<'a> {
    id: &'a str,
    cells: Vec<&'a str>,
}

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reliability.md");
    fs::read_to_string(path).expect("docs/reliability.md is there")
}

/// The rows of a kind in the order they stand in.
fn rows<'a>(text: &'a str, kind: &str) -> Vec<Row<'a>> {
    let begin = format!("| {kind}-");
    let lines = text.lines().filter(|line| line.starts_with(&begin));
    lines
        .map(|line| {
            let line =
                line.strip_prefix('|').and_then(|line| line.strip_suffix('|')).expect("a row ends with its table");
            // A bar in a cell is written with a backslash before it.
            let mut cells: Vec<&str> = Vec::new();
            let mut from = 0;
            for (at, _) in line.match_indices('|').filter(|(at, _)| !line[..*at].ends_with('\\')) {
                cells.push(line[from..at].trim());
                from = at + 1;
            }
            cells.push(line[from..].trim());
            Row { id: cells[0], cells }
        })
        .collect()
}

fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Whether a quoted word is the name of a test: several words joined by `_`, and nothing else.
fn is_test(word: &str) -> bool {
    word.contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The names of all functions.
fn functions() -> BTreeSet<String> {
    fn walk(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).expect("the folder is there").flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("node_modules") {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).expect("it is text");
                let names =
                    text.lines().filter_map(|line| line.trim_start().split_once("fn ")).filter_map(|(_, rest)| {
                        rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().filter(|name| !name.is_empty())
                    });
                found.extend(names.map(str::to_owned));
            }
        }
    }
    let mut found = BTreeSet::new();
    for folder in FOLDERS {
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    }
    found
}

#[test]
fn every_row_of_reliability_stands_there_once_and_in_order() {
    let text = document();
    for (kind, count) in ROWS {
        let width = if kind == "IN" { 3 } else { 2 };
        let expected: Vec<String> = (1..=count).map(|number| format!("{kind}-{number:0width$}")).collect();
        let mut found: Vec<&str> = rows(&text, kind).iter().map(|row| row.id).collect();
        // A load may have two rows.
        found.dedup();
        assert_eq!(found, expected);
    }
}

#[test]
fn every_row_of_reliability_says_what_came_of_it_and_who_shows_it() {
    let (text, functions) = (document(), functions());
    assert!(functions.contains("every_row_of_reliability_says_what_came_of_it_and_who_shows_it"), "they are found");
    for kind in ["IN", "FI"] {
        for Row { id, cells } in rows(&text, kind) {
            let [_, what, must, met, shown, note] = cells[..] else { panic!("{id} has six cells: {cells:?}") };
            assert!(!what.is_empty() && !must.is_empty(), "{id} says what happens and what must come of it");
            match met {
                "yes" => assert!(quoted(shown).any(is_test), "{id} is a yes that names no test: {shown}"),
                "on purpose" | "no" => assert!(!note.is_empty(), "{id} is `{met}` and gives no reason"),
                other => panic!("{id} is `{other}`, which is none of the words"),
            }
            for test in quoted(shown).filter(|word| is_test(word)) {
                assert!(functions.contains(test), "{id} names `{test}`, which does not exist");
            }
        }
    }
}

#[test]
fn every_load_has_its_figure_and_its_word() {
    let text = document();
    let header = text.lines().find(|line| line.starts_with("| row | load |")).expect("the loads have a table");
    let at = header.split('|').skip(1).position(|cell| cell.trim() == "holds").expect("it says what holds");
    for Row { id, cells } in rows(&text, "LD") {
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{id}: {cells:?}");
        let holds = ["yes", "no", "on purpose", "not in yet"].iter().any(|word| cells[at].starts_with(word));
        assert!(holds, "{id} says whether it holds: {cells:?}");
    }
}

#[test]
fn what_keeps_the_faults_of_others_out_is_shown() {
    let (text, functions) = (document(), functions());
    let table = text.lines().skip_while(|line| !line.starts_with("| what went wrong |")).skip(2);
    let rows: Vec<&str> = table.take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 25, "{} rows", rows.len());
    for row in rows {
        let tests: Vec<&str> =
            quoted(row.rsplit('|').nth(1).expect("a last cell")).filter(|word| is_test(word)).collect();
        assert!(!tests.is_empty(), "{row}");
        for test in tests {
            assert!(functions.contains(test), "`{test}` does not exist: {row}");
        }
    }
}
