//! Every `twotower …` command line that a person or a scheduler would copy from this repository is one that the program takes.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use twotower::cli::Cli;

#[test]
fn the_command_lines_of_the_airflow_dag_are_real() {
    let lines = command_lines(&root().join("jobs/airflow/twotower_daily.py"));
    assert_eq!(subcommands(&lines), ["samples", "train", "embed", "index", "evaluate", "publish", "run"]);
    lines.iter().for_each(assert_parses);
}

#[test]
fn the_command_lines_of_the_argo_workflow_are_real() {
    let lines = command_lines(&root().join("jobs/argo/workflow-template.yaml"));
    assert_eq!(subcommands(&lines), ["samples", "train", "embed", "index", "evaluate", "publish", "run"]);
    lines.iter().for_each(assert_parses);
}

#[test]
fn the_argo_files_are_yaml_and_the_cron_workflow_starts_the_template() {
    let read = |name: &str| -> serde_yaml::Value {
        serde_yaml::from_str(&fs::read_to_string(root().join("jobs/argo").join(name)).unwrap()).unwrap()
    };
    let (template, cron) = (read("workflow-template.yaml"), read("cron-workflow.yaml"));
    assert_eq!(template["kind"], "WorkflowTemplate");
    assert_eq!(cron["kind"], "CronWorkflow");
    assert_eq!(cron["spec"]["workflowSpec"]["workflowTemplateRef"]["name"], template["metadata"]["name"]);
}

#[test]
fn the_command_lines_of_the_documentation_and_the_scripts_are_real() {
    let mut files = vec![root().join("README.md"), root().join("scripts/demo.sh"), root().join("scripts/bench.sh")];
    for example in fs::read_dir(root().join("examples")).unwrap() {
        files.extend(fs::read_dir(example.unwrap().path()).unwrap().map(|entry| entry.unwrap().path()));
    }
    files.retain(|file| file.extension().is_some_and(|e| e == "md" || e == "sh"));
    let lines: Vec<Line> = files.iter().flat_map(|file| command_lines(file)).collect();
    assert!(lines.len() >= 5, "only {} command lines found in {files:?}", lines.len());
    lines.iter().for_each(assert_parses);
}

#[test]
fn a_command_line_that_the_program_does_not_take_is_found() {
    let line = Line { place: "here".into(), words: split("twotower run -c job.yaml --day 2026-11-20") };
    assert!(Cli::try_parse_from(&line.words).is_err());
    let words = split(r#"twotower run -c "$CONFIG" --date "{{ ds }}" --set a="b c" | tee log"#);
    assert_eq!(words, ["twotower", "run", "-c", "job.yaml", "--date", "2026-11-20", "--set", "a=b c"]);
}

/// One command line and where it stands.
struct Line {
    place: String,
    words: Vec<String>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn subcommands(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(|line| line.words[1].as_str()).collect()
}

fn assert_parses(line: &Line) {
    if let Err(error) = Cli::try_parse_from(&line.words) {
        assert!(!error.use_stderr(), "{}: `{}`\n{error}", line.place, line.words.join(" "));
    }
}

/// The command lines of a file: in its code blocks for Markdown, anywhere outside comments otherwise.
fn command_lines(file: &Path) -> Vec<Line> {
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
    let line = line.trim_start_matches("$ ");
    for name in ["exec \"$twotower\" ", "\"$twotower\" ", "step "] {
        if let Some(rest) = line.strip_prefix(name).filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase())) {
            return Some(format!("twotower {rest}"));
        }
    }
    let at = line.find("twotower ")?;
    let before = &line[..at];
    let quoted = before.ends_with('\'');
    let command = before.is_empty() || quoted || before.ends_with("value: ") || before.ends_with("./");
    let rest = if quoted { line[at..].split('\'').next()? } else { &line[at..] };
    command.then(|| rest.to_string())
}

/// Splits as a shell would, up to a pipe, a redirection or a comment, with sample values for templates and variables.
fn split(command: &str) -> Vec<String> {
    let mut text = command
        .replace("$CONFIG", "job.yaml")
        .replace("$date", "2026-11-20")
        .replace("\"$@\"", "")
        .replace("\"${sources[@]}\"", "");
    while let (Some(from), Some(to)) = (text.find("{{"), text.find("}}")) {
        text.replace_range(from..to + 2, "2026-11-20");
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
