//! The pages for those who come from elsewhere: what they show works.

use super::Scratch;
use super::host;
use clap::{CommandFactory, Parser};
use turnpike::cli::Arguments;
use turnpike::config::{self, Inputs};

const PAGES: [(&str, &str); 2] = [
    ("English", include_str!("../../docs/from-the-old-guides.md")),
    ("Chinese", include_str!("../../docs/from-the-old-guides.zh-CN.md")),
];

/// What stands between fences of a language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    page.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

fn without_comments(toml: &str) -> Vec<&str> {
    toml.lines().map(|line| line.split('#').next().unwrap_or_default().trim_end()).collect()
}

#[test]
fn the_configuration_of_the_page_starts_and_is_the_same_in_both_languages() {
    let [(_, english), (_, chinese)] = PAGES;
    let toml = blocks(english, "toml");
    assert_eq!((toml.len(), without_comments(toml[0])), (1, without_comments(blocks(chinese, "toml")[0])));
    assert_eq!(blocks(english, "json"), blocks(chinese, "json"));
    let scratch = Scratch::new();
    scratch.certificate();
    let place = "/etc/letsencrypt/live/call.example.org/";
    let toml = toml[0].replace(&format!("{place}fullchain.pem"), "cert.pem").replace(&format!("{place}privkey"), "key");
    let file = scratch.file("turnpike.toml", toml);
    let loaded = config::load(&Inputs { files: vec![file], ..Inputs::default() }).unwrap();
    let plan = loaded.plan(&host()).unwrap();
    assert_eq!((plan.engine.turn.auth.user_count(), plan.engine.turn.auth.secrets.len()), (1, 1));
}

/// Every command of turnpike's that a page shows is one: its words are taken apart as they would be.
#[test]
fn the_commands_of_the_page_are_commands() {
    for (language, page) in PAGES {
        let spans = page.split('`').skip(1).step_by(2).chain(page.lines().filter_map(|line| line.strip_prefix("    ")));
        let commands: Vec<&str> = spans.filter(|span| span.starts_with("turnpike ")).collect();
        for command in &commands {
            let words: Vec<&str> = command.split(" > ").next().unwrap_or(command).split_whitespace().collect();
            if words.len() == 2 && Arguments::command().find_subcommand(words[1]).is_some() {
                continue;
            }
            let taken = Arguments::try_parse_from(words);
            assert!(taken.is_ok(), "{language}: {command}: {}", taken.err().unwrap());
        }
        assert!(commands.len() >= 9, "{language}: {commands:?}");
    }
}

/// Every key that a page names is one.
#[test]
fn the_keys_of_the_page_are_keys() {
    let known = serde_json::to_value(config::file::File::default()).unwrap();
    for (language, page) in PAGES {
        let dotted = page.split('`').skip(1).step_by(2).filter(|span| {
            let is_word = |c: char| c.is_ascii_lowercase() || "._".contains(c);
            {
                let is_file = [".py", ".pem", ".conf", ".toml"].iter().any(|ending| span.ends_with(ending));
                span.split('.').count() == 2 && span.chars().all(is_word) && !is_file
            }
        });
        let mut count = 0;
        for key in dotted {
            let pointer = format!("/{}", key.replace('.', "/"));
            assert!(known.pointer(&pointer).is_some(), "{language}: {key}");
            count += 1;
        }
        assert!(count >= 5, "{language}: {count}");
    }
}
