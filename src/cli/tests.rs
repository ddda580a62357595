//! The command line, its help and its documentation say the same.

use clap::Command;

/// Each command that does something, with the words by which it is called.
fn leaves(command: &Command, words: &str, to: &mut Vec<(String, Command)>) {
    let below = command.get_subcommands().filter(|one| {
        let name = one.get_name();
        !one.is_hide_set() && name != "help"
    });
    let below: Vec<_> = below.collect();
    // `sekisho authority` does something by itself too.
    if below.is_empty() || !command.is_subcommand_required_set() && words != "sekisho" {
        to.push((words.to_owned(), command.clone()));
    }
    for one in below {
        leaves(one, &format!("{words} {}", one.get_name()), to);
    }
}

fn all() -> Vec<(String, Command)> {
    let mut found = Vec::new();
    leaves(&super::command(), "sekisho", &mut found);
    assert!(found.len() > 50, "{}", found.len());
    found
}

/// What stands once for all of them.
const COMMON: [&str; 5] = ["socket", "config", "json", "help", "version"];

#[test]
fn every_command_and_option_stands_in_the_documentation() {
    let text = include_str!("../../docs/commands.md");
    let mut missing = Vec::new();
    for (words, command) in all() {
        let head = format!("\n### {words}\n");
        let Some((_, section)) = text.split_once(&head) else {
            missing.push(words);
            continue;
        };
        let end = section.find("\n##").unwrap_or(section.len());
        let section = &section[..end];
        for option in command.get_arguments().filter(|one| !one.is_hide_set()) {
            let Some(long) = option.get_long().filter(|long| !COMMON.contains(long)) else {
                continue;
            };
            if !section.contains(&format!("--{long}")) {
                missing.push(format!("{words} --{long}"));
            }
        }
        if !section.contains("```") {
            missing.push(format!("{words}: an example"));
        }
    }
    assert!(missing.is_empty(), "not in docs/commands.md: {missing:#?}");
}

#[test]
fn nothing_is_documented_that_is_not_there() {
    let text = include_str!("../../docs/commands.md");
    let known: Vec<_> = all().into_iter().map(|(words, _)| words).collect();
    let heads = text.lines().filter_map(|line| line.strip_prefix("### "));
    let gone: Vec<_> = heads
        .filter(|head| head.starts_with("sekisho "))
        .filter(|head| !known.iter().any(|words| words == head))
        .collect();
    assert!(gone.is_empty(), "{gone:?}");
}

#[test]
fn every_help_has_an_example() {
    let without: Vec<_> = all()
        .into_iter()
        .filter(|(words, command)| {
            let help = command.get_after_help().map(ToString::to_string);
            // Options may stand between the words.
            let mut words = words.split(' ');
            !help.is_some_and(|help| {
                help.contains("Example") && words.all(|word| help.contains(word))
            })
        })
        .map(|(words, _)| words)
        .collect();
    assert!(without.is_empty(), "no example in --help: {without:?}");
}

#[test]
fn the_command_line_is_sound() {
    super::command().debug_assert();
}
