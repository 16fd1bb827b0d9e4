//! Finds command lines in documentation, scripts and jobs, and splits them as a shell would.

use std::fs;
use std::path::Path;

use clap::Parser;
use twotower::cli::Cli;

/// One command line and where it stands.
pub struct Line {
    pub place: String,
    pub words: Vec<String>,
}

pub fn subcommands(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(|line| line.words[1].as_str()).collect()
}

pub fn assert_parses(line: &Line) {
    if let Err(error) = Cli::try_parse_from(&line.words) {
        assert!(!error.use_stderr(), "{}: `{}`\n{error}", line.place, line.words.join(" "));
    }
}

/// The command lines of a file: in its code blocks for Markdown, anywhere outside comments otherwise.
pub fn command_lines(file: &Path) -> Vec<Line> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let markdown = file.extension().is_some_and(|e| e == "md");
    let mut fenced = false;
    let mut found = Vec::new();
    for (number, line) in text.replace("\\\n", " ").lines().enumerate() {
        let indented = line.starts_with("    ");
        let line = line.trim();
        if line.starts_with("```") {
            fenced = !fenced;
        } else if (if markdown { fenced || indented } else { !line.starts_with('#') })
            && let Some(command) = command(line)
        {
            found.push(Line { place: format!("{}:{}", file.display(), number + 1), words: split(&command) });
        }
    }
    found
}

/// The command in a line: at its start, after a prompt or a YAML key, in quotes, or behind the scripts' names for the program.
fn command(line: &str) -> Option<String> {
    let line = line.trim_start_matches("$ ").trim_start_matches("- ");
    for name in ["exec \"$twotower\" ", "\"$twotower\" ", "step "] {
        if let Some(rest) = line.strip_prefix(name).filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase())) {
            return Some(format!("twotower {rest}"));
        }
    }
    let at = line.find("twotower ")?;
    let before = line[..at].strip_suffix("exec ").unwrap_or(&line[..at]);
    let quoted = before.ends_with('\'');
    let command = before.is_empty() || quoted || before.ends_with("value: ") || before.ends_with("./");
    let rest = if quoted { line[at..].split('\'').next()? } else { &line[at..] };
    command.then(|| rest.to_string())
}

/// Splits as a shell would, up to a pipe, a redirection or a comment, with sample values for templates and variables.
pub fn split(command: &str) -> Vec<String> {
    let mut text = command.replace("\"$@\"", "").replace("\"${sources[@]}\"", "");
    for (open, close) in [("{{", "}}"), ("$(", ")")] {
        while let Some(from) = text.find(open) {
            let to = from + text[from..].find(close).expect("a template ends") + close.len();
            text.replace_range(from..to, "2026-11-20");
        }
    }
    for (variable, value) in [("$CONFIG", "job.yaml"), ("$DATE", "2026-11-20"), ("$date", "2026-11-20")] {
        text = text.replace(variable, value);
    }
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '|' | '>' | '#' | ';' | '&') if word.is_none() => break,
            (None, ' ') => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
