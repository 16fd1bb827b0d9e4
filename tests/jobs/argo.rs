//! What Argo would find out when a workflow runs: that templates, parameters and outputs which are referred to are there.

use std::collections::{BTreeMap, BTreeSet};

use serde_yaml::Value;

const VARIABLES: [&str; 3] = ["workflow.name", "workflow.uid", "workflow.scheduledTime"];
const RETRY: [&str; 4] = ["lastRetry.exitCode", "lastRetry.status", "lastRetry.duration", "lastRetry.message"];
const RESULTS: [&str; 8] =
    ["Succeeded", "Failed", "Errored", "Skipped", "Omitted", "Daemoned", "AnySucceeded", "AllFailed"];

/// The templates and arguments that a workflow runs with.
pub struct Flow<'a> {
    templates: BTreeMap<&'a str, &'a Value>,
    arguments: BTreeSet<&'a str>,
    entrypoint: &'a str,
}

/// A task of a DAG or a step: who calls which template with what.
struct Call<'a> {
    name: &'a str,
    value: &'a Value,
    /// Tasks that are over when it begins.
    before: BTreeSet<&'a str>,
}

impl<'a> Flow<'a> {
    /// `spec` of a Workflow; `template` is the spec of the WorkflowTemplate that it refers to, if it does.
    pub fn new(spec: &'a Value, template: Option<&'a Value>) -> Flow<'a> {
        let owner = template.unwrap_or(spec);
        let arguments =
            [Some(spec), template].into_iter().flatten().flat_map(|spec| names(&spec["arguments"]["parameters"]));
        let templates = list(&owner["templates"]).iter().map(|template| (text(&template["name"]), template));
        Flow { templates: templates.collect(), arguments: arguments.collect(), entrypoint: text(&spec["entrypoint"]) }
    }

    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        match self.templates.get(self.entrypoint) {
            None => faults.push(format!("entrypoint: there is no template `{}`", self.entrypoint)),
            // a workflow's arguments are the inputs of its entrypoint
            Some(template) => {
                for input in names(&template["inputs"]["parameters"]).filter(|input| !self.arguments.contains(input)) {
                    faults.push(format!("entrypoint `{}`: no argument gives `{input}`", self.entrypoint));
                }
            }
        }
        for (name, template) in &self.templates {
            self.check_template(name, template, &mut faults);
        }
        faults
    }

    fn check_template(&self, name: &str, template: &Value, faults: &mut Vec<String>) {
        let calls = calls(template);
        let known: BTreeSet<&str> = calls.iter().map(|call| call.name).collect();
        if known.len() != calls.len() {
            faults.push(format!("{name}: two tasks have one name"));
        }
        for call in &calls {
            let at = format!("{name}.{}", call.name);
            for before in depends(call.value) {
                match before.split_once('.').unwrap_or((before, "Succeeded")) {
                    (task, _) if !known.contains(task) => {
                        faults.push(format!("{at}: depends on `{task}`, which is not there"))
                    }
                    (task, _) if task == call.name => faults.push(format!("{at}: depends on itself")),
                    (_, result) if !RESULTS.contains(&result) => {
                        faults.push(format!("{at}: `{result}` is not a result of a task"));
                    }
                    _ => {}
                }
            }
            if call.before.contains(call.name) {
                faults.push(format!("{at}: depends on itself through others"));
            }
            match self.templates.get(text(&call.value["template"])) {
                None => faults.push(format!("{at}: there is no template `{}`", text(&call.value["template"]))),
                Some(called) => check_arguments(&at, call.value, called, faults),
            }
            self.check_references(&at, call.value, template, &calls, Some(call), faults);
        }
        let mut rest = template.clone();
        for key in ["dag", "steps"] {
            rest.as_mapping_mut().unwrap().remove(key);
        }
        self.check_references(name, &rest, template, &calls, None, faults);
        if let Some(expression) = template["retryStrategy"]["expression"].as_str() {
            for reference in references_of_expression(expression) {
                if !RETRY.contains(&reference.as_str()) {
                    faults.push(format!("{name}.retryStrategy: `{reference}` is not known there"));
                }
            }
        }
    }

    /// Every `{{…}}` in `value`, which is in `template`, and in `call` of it.
    fn check_references(
        &self,
        at: &str,
        value: &Value,
        template: &Value,
        calls: &[Call],
        call: Option<&Call>,
        faults: &mut Vec<String>,
    ) {
        let inputs: BTreeSet<&str> = names(&template["inputs"]["parameters"]).collect();
        for reference in texts(value).iter().flat_map(|text| references(text)) {
            let parts: Vec<&str> = reference.split('.').collect();
            let fine = match parts.as_slice() {
                ["inputs", "parameters", input] => inputs.contains(input),
                ["workflow", "parameters", argument] => self.arguments.contains(argument),
                ["item"] => {
                    call.is_some_and(|call| !call.value["withParam"].is_null() || !call.value["withItems"].is_null())
                }
                ["tasks" | "steps", task, "outputs", output @ ..] => {
                    let over = call.is_none_or(|call| call.before.contains(task));
                    let found = calls.iter().find(|call| call.name == *task && over);
                    found.and_then(|call| self.templates.get(text(&call.value["template"]))).is_some_and(|called| {
                        match output {
                            ["result"] => !called["container"].is_null(),
                            ["parameters", name] => {
                                names(&called["outputs"]["parameters"]).any(|output| output == *name)
                            }
                            _ => false,
                        }
                    })
                }
                _ => VARIABLES.contains(&reference.as_str()),
            };
            if !fine {
                faults.push(format!("{at}: `{reference}` refers to nothing that is there"));
            }
        }
    }

    /// Each way in which a container of the program is started, with sample values for what is known at run time only.
    pub fn command_lines(&self) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        for template in self.templates.values() {
            for call in calls(template) {
                let called = self.templates[text(&call.value["template"])];
                if called["container"].is_null() {
                    continue;
                }
                let given: BTreeMap<&str, &str> = list(&call.value["arguments"]["parameters"])
                    .iter()
                    .map(|parameter| (text(&parameter["name"]), text(&parameter["value"])))
                    .collect();
                let words = list(&called["container"]["command"]).iter().chain(list(&called["container"]["args"]));
                found.push(words.map(|word| fill(text(word), &given)).collect());
            }
        }
        found
    }
}

/// Puts arguments and sample values in.
fn fill(word: &str, given: &BTreeMap<&str, &str>) -> String {
    let mut word = word.to_string();
    for (name, value) in given {
        word = word.replace(&format!("{{{{inputs.parameters.{name}}}}}"), value);
    }
    word = word.replace("{{workflow.parameters.config}}", "job.yaml");
    if word.contains("{{") { "2026-11-20".into() } else { word }
}

fn check_arguments(at: &str, call: &Value, called: &Value, faults: &mut Vec<String>) {
    let given: BTreeSet<&str> = names(&call["arguments"]["parameters"]).collect();
    let inputs = list(&called["inputs"]["parameters"]);
    for name in &given {
        if !inputs.iter().any(|input| text(&input["name"]) == *name) {
            faults.push(format!("{at}: `{}` takes no `{name}`", text(&called["name"])));
        }
    }
    for input in inputs.iter().filter(|input| input["default"].is_null() && input["value"].is_null()) {
        if !given.contains(text(&input["name"])) {
            faults.push(format!("{at}: `{}` needs `{}`", text(&called["name"]), text(&input["name"])));
        }
    }
}

/// The tasks of a DAG, or the steps, of a template.
fn calls(template: &Value) -> Vec<Call<'_>> {
    let tasks = list(&template["dag"]["tasks"]);
    let direct: BTreeMap<&str, Vec<&str>> = tasks
        .iter()
        .map(|task| (text(&task["name"]), depends(task).map(|word| word.split('.').next().unwrap()).collect()))
        .collect();
    let mut found: Vec<Call> = tasks
        .iter()
        .map(|value| {
            let mut before = BTreeSet::new();
            let mut next: Vec<&str> = direct[text(&value["name"])].clone();
            while let Some(task) = next.pop() {
                if before.insert(task) {
                    next.extend(direct.get(task).into_iter().flatten());
                }
            }
            Call { name: text(&value["name"]), value, before }
        })
        .collect();
    let mut before = BTreeSet::new();
    for group in list(&template["steps"]) {
        for value in list(group) {
            found.push(Call { name: text(&value["name"]), value, before: before.clone() });
        }
        before.extend(list(group).iter().map(|step| text(&step["name"])));
    }
    found
}

/// The operands of a task's `depends`: names with or without a result.
fn depends(task: &Value) -> impl Iterator<Item = &str> {
    let expression = task["depends"].as_str().unwrap_or_default();
    expression.split(|c: char| "()!&| ".contains(c)).filter(|word| !word.is_empty())
}

/// What the tags of a text refer to.
fn references(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("{{") {
        let (tag, next) = after.split_once("}}").unwrap_or((after, ""));
        match tag.strip_prefix('=') {
            Some(expression) => found.extend(references_of_expression(expression)),
            None => found.push(tag.to_string()),
        }
        rest = next;
    }
    found
}

/// The dotted names of an expression, without its texts and functions.
fn references_of_expression(expression: &str) -> Vec<String> {
    let outside: String = expression.split(['\'', '"']).step_by(2).collect::<Vec<_>>().join(" ");
    let words = outside.split(|c: char| !c.is_alphanumeric() && c != '.' && c != '_');
    let names = words.filter(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_alphabetic()));
    names.filter(|word| !word.starts_with("sprig.")).map(str::to_string).collect()
}

/// Every text below a value.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Sequence(items) => items.iter().flat_map(texts).collect(),
        Value::Mapping(map) => map.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_sequence().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn names(parameters: &Value) -> impl Iterator<Item = &str> {
    list(parameters).iter().map(|parameter| text(&parameter["name"]))
}
