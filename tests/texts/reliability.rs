//! `docs/reliability.md` against the tests: every row once and in order, no claim without a test, and the numbers of its
//! first page those of its tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Each kind of row, and how many there are.
const ROWS: [(&str, usize); 3] = [("IN", 130), ("FI", 32), ("LD", 12)];
/// Folders whose tests may be named.
const FOLDERS: [&str; 2] = ["tests", "src"];
/// Heads of columns that name the tests of their row.
const SHOWN_BY: [&str; 2] = ["shown by", "test"];
/// What came of a row, the worst first.
const WORDS: [&str; 3] = ["no", "on purpose", "yes"];
/// Joints of a name that is long enough to be no key of the configuration.
const JOINTS_OF_A_TEST: usize = 4;

/// A table: its heads, and the cells of its rows.
struct Table<'a> {
    heads: Vec<&'a str>,
    rows: Vec<Vec<&'a str>>,
}

impl<'a> Table<'a> {
    fn cell(&self, row: &[&'a str], head: &str) -> &'a str {
        row[self.heads.iter().position(|found| *found == head).unwrap_or_else(|| panic!("a column `{head}`: {row:?}"))]
    }
}

/// One row that has a number, and its cells.
struct Row<'a> {
    id: &'a str,
    cells: Vec<&'a str>,
    word: &'a str,
}

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reliability.md");
    fs::read_to_string(path).expect("docs/reliability.md is there")
}

fn tables<'a>(text: &'a str) -> Vec<Table<'a>> {
    let lines: Vec<&str> = text.lines().collect();
    let blocks = lines.split(|line| !line.starts_with('|')).filter(|block| block.len() > 2);
    let table = |block: &[&'a str]| {
        let rows: Vec<Vec<&str>> = block[2..].iter().map(|line| cells(line)).collect();
        let heads = cells(block[0]);
        assert!(rows.iter().all(|row| row.len() == heads.len()), "as many cells as heads: {heads:?}");
        Table { heads, rows }
    };
    blocks.map(table).collect()
}

/// The cells of a line; a bar in one of them is written with a backslash before it.
fn cells(line: &str) -> Vec<&str> {
    let line = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')).expect("a row ends with its table");
    let (mut cells, mut from) = (Vec::new(), 0);
    for (at, _) in line.match_indices('|').filter(|(at, _)| !line[..*at].ends_with('\\')) {
        cells.push(line[from..at].trim());
        from = at + 1;
    }
    cells.push(line[from..].trim());
    cells
}

/// The rows of a kind in the order they stand in.
fn rows<'a>(text: &'a str, kind: &str) -> Vec<Row<'a>> {
    let mut found = Vec::new();
    for table in tables(text) {
        let word = if kind == "LD" { "holds" } else { "met" };
        for row in table.rows.iter().filter(|row| row[0].strip_prefix(kind).is_some_and(|rest| rest.starts_with('-'))) {
            found.push(Row { id: row[0], cells: row.clone(), word: table.cell(row, word) });
        }
    }
    found
}

/// The place among [`WORDS`] of what a cell begins with, up to where it explains itself.
fn rank(cell: &str) -> Option<usize> {
    let word = cell.split([',', ':']).next().unwrap_or_default();
    WORDS.iter().position(|known| *known == word)
}

fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Whether a quoted word is the name of a test: several words joined by `_`, and nothing else.
fn is_test(word: &str) -> bool {
    word.contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The names of all tests of a text: the functions that an attribute says are one, other attributes between or not.
fn tests_of(text: &str) -> BTreeSet<String> {
    let (mut names, mut is_next) = (BTreeSet::new(), false);
    for line in text.lines().map(str::trim_start) {
        match line {
            "#[test]" | "#[tokio::test]" => is_next = true,
            _ if line.starts_with("#[") || line.starts_with("//") => {}
            _ => {
                let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ").filter(|_| is_next);
                names.extend(rest.and_then(|rest| rest.split('(').next()).map(str::to_owned));
                is_next = false;
            }
        }
    }
    names
}

/// The names of all tests.
fn tests() -> BTreeSet<String> {
    fn walk(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).expect("the folder is there").flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("node_modules") {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.extend(tests_of(&fs::read_to_string(path).expect("it is text")));
            }
        }
    }
    let mut found = BTreeSet::new();
    for folder in FOLDERS {
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    }
    assert!(found.len() > 1_000 && found.contains("a_test_is_what_an_attribute_says_is_one"), "tests are found");
    found
}

#[test]
fn a_test_is_what_an_attribute_says_is_one() {
    let text = "#[test]\nfn a() {}\nfn b() {}\n// fn c() {}\n    #[test]\n    #[ignore = \"long\"]\n    // why\n    fn d() {\n        fn e() {}\n\
                #[tokio::test]\nasync fn f() {}\n#[cfg(test)]\nfn g() {}\n";
    assert_eq!(tests_of(text).iter().collect::<Vec<_>>(), ["a", "d", "f"]);
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
    let text = document();
    for kind in ["IN", "FI"] {
        for Row { id, cells, .. } in rows(&text, kind) {
            let [_, what, must, met, shown, note] = cells[..] else { panic!("{id} has six cells: {cells:?}") };
            assert!(!what.is_empty() && !must.is_empty(), "{id} says what happens and what must come of it");
            match met {
                "yes" => {
                    assert!(quoted(shown).any(is_test), "{id} is a yes that names no test: {shown}");
                    assert!(!note.to_lowercase().contains("on purpose"), "{id} is a yes, and on purpose: {note}");
                }
                "on purpose" | "no" => assert!(!note.is_empty(), "{id} is `{met}` and gives no reason"),
                other => panic!("{id} is `{other}`, which is none of the words"),
            }
        }
    }
}

#[test]
fn every_load_has_its_figure_and_its_word() {
    let text = document();
    for Row { id, cells, word } in rows(&text, "LD") {
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{id}: {cells:?}");
        assert!(rank(word).is_some(), "{id} says whether it holds: {cells:?}");
    }
}

#[test]
fn the_numbers_of_the_first_page_are_those_of_the_tables() {
    let text = document();
    let tables = tables(&text);
    let heads = ["", "rows", "yes", "on purpose", "no"];
    let summary = tables.iter().find(|table| table.heads == heads).expect("a table of numbers");
    assert_eq!(summary.rows.len(), ROWS.len());
    for ((kind, count), row) in ROWS.into_iter().zip(&summary.rows) {
        // Of two rows of one load the worse counts.
        let mut words: BTreeMap<&str, usize> = BTreeMap::new();
        for Row { id, word, .. } in rows(&text, kind) {
            let rank = rank(word).unwrap_or_else(|| panic!("{id} is `{word}`, which is none of the words"));
            let worst = words.entry(id).or_insert(rank);
            *worst = rank.min(*worst);
        }
        assert_eq!(row[1], count.to_string(), "rows: {row:?}");
        for head in &heads[2..] {
            let counted = words.values().filter(|rank| WORDS[**rank] == *head).count();
            assert_eq!(summary.cell(row, head), counted.to_string(), "`{head}` of {row:?}");
        }
    }
}

#[test]
fn every_test_that_is_named_exists() {
    let (text, tests) = (document(), tests());
    let mut columns = 0;
    for table in tables(&text) {
        let Some(at) = table.heads.iter().position(|head| SHOWN_BY.contains(head)) else { continue };
        columns += 1;
        let has_words = table.heads.contains(&"met");
        for row in &table.rows {
            // What has a space in it is a command.
            let names: Vec<&str> = quoted(row[at]).filter(|word| !word.contains(' ')).collect();
            assert!(has_words || !names.is_empty() || row[at].starts_with("the same"), "nothing shows {row:?}");
            for name in names {
                assert!(tests.contains(name), "`{name}` is no test: {row:?}");
            }
        }
    }
    assert!(columns > 15, "{columns} columns");
    let is_long = |word: &&str| is_test(word) && word.matches('_').count() >= JOINTS_OF_A_TEST;
    for name in quoted(&text).filter(is_long).filter(|word| !word.starts_with("turnpike_")) {
        assert!(tests.contains(name), "`{name}` is no test");
    }
}
