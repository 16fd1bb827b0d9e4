//! What lies in `jobs/`, and every `twotower …` command line that a person or a scheduler would copy from this repository: the
//! manifests are what Argo and Kubernetes take, the command lines what the program takes.

mod common;

#[path = "jobs/argo.rs"]
mod argo;
#[path = "jobs/commands.rs"]
mod commands;
#[path = "jobs/objects.rs"]
mod objects;
#[path = "jobs/places.rs"]
mod places;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use argo::Flow;
use clap::Parser;
use commands::{Line, assert_parses, command_lines, split, subcommands};
use objects::Objects;
use serde::Deserialize;
use serde_yaml::Value;
use twotower::cli::Cli;
use twotower::config::{Config, Overrides};
use twotower::error::Kind;

const STAGES: [&str; 6] = ["samples", "train", "embed", "index", "evaluate", "publish"];
const MANIFESTS: [&str; 8] = [
    "argo/workflow-template.yaml",
    "argo/cron-workflow.yaml",
    "argo/backfill-workflow.yaml",
    "argo/rbac.yaml",
    "kubernetes/namespace.yaml",
    "kubernetes/service-account.yaml",
    "kubernetes/config-map.yaml",
    "kubernetes/cron-job.yaml",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap()).collect()
}

fn job(path: &str) -> Value {
    documents(&read(&format!("jobs/{path}"))).remove(0)
}

#[test]
fn every_manifest_is_one_that_argo_and_kubernetes_take() {
    let known = Objects::known();
    let mut seen = 0;
    for path in MANIFESTS {
        for document in documents(&read(&format!("jobs/{path}"))) {
            assert_eq!(known.faults(&document), [""; 0], "{path}");
            seen += 1;
        }
    }
    assert_eq!(seen, MANIFESTS.len() + 1, "rbac.yaml holds two");
    let mut there = Vec::new();
    for folder in ["argo", "kubernetes"] {
        for entry in fs::read_dir(root().join("jobs").join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            there.extend(name.ends_with(".yaml").then(|| format!("{folder}/{name}")));
        }
    }
    there.sort();
    let mut listed = MANIFESTS.to_vec();
    listed.sort();
    assert_eq!(there, listed, "each manifest is checked");
}

#[test]
fn what_argo_refers_to_is_there() {
    let (template, cron, backfill) =
        (job("argo/workflow-template.yaml"), job("argo/cron-workflow.yaml"), job("argo/backfill-workflow.yaml"));
    let spec = &template["spec"];
    assert_eq!(Flow::new(spec, None).faults(), [""; 0]);
    for started in [&cron["spec"]["workflowSpec"], &backfill["spec"]] {
        assert_eq!(started["workflowTemplateRef"]["name"], template["metadata"]["name"]);
        assert_eq!(Flow::new(started, Some(spec)).faults(), [""; 0]);
    }
    for entrypoint in ["single", "range"] {
        let mut spec = spec.clone();
        spec["entrypoint"] = entrypoint.into();
        assert_eq!(Flow::new(&spec, None).faults(), [""; 0]);
    }
}

/// A mistake in the workflow template, and what must be said about it.
#[test]
fn a_mistake_in_a_manifest_is_found() {
    let mistakes = [
        (
            "    mutexes:\n      - name: twotower\n",
            "    mutex:\n      name: twotower\n",
            "mutex: Synchronization has no such key",
        ),
        ("  entrypoint: stages\n", "  entrypoint: stage\n", "there is no template `stage`"),
        ("          - {name: stage, value: train}", "          - {name: stages, value: train}", "takes no `stages`"),
        ("{name: stage, value: embed}\n", "{name: stage, value: [embed]}\n", "is not text"),
        ("depends: train.Succeeded", "depends: training.Succeeded", "depends on `training`, which is not there"),
        ("depends: train.Succeeded", "depends: train.Success", "`Success` is not a result"),
        (
            "depends: samples.Succeeded\n            when",
            "depends: publish.Succeeded\n            when",
            "depends on itself through",
        ),
        (
            "outputs.parameters.result, ",
            "outputs.parameters.results, ",
            "`tasks.samples.outputs.parameters.results` refers to nothing",
        ),
        ("            withParam: \"{{tasks.dates.outputs.result}}\"\n", "", "`item` refers to nothing"),
        (
            "{{tasks.dates.outputs.result}}\"\n            arg",
            "{{tasks.days.outputs.result}}\"\n            arg",
            "`tasks.days.outputs.result`",
        ),
        (
            "{{workflow.parameters.config}}",
            "{{workflow.parameters.conf}}",
            "`workflow.parameters.conf` refers to nothing",
        ),
        (
            "value: \"{{inputs.parameters.date}}\"",
            "value: \"{{inputs.parameters.day}}\"",
            "`inputs.parameters.day` refers to nothing",
        ),
        (
            "      container:\n        image",
            "      steps: []\n      container:\n        image",
            "exactly one of [\"dag\", \"steps\", \"container\"]",
        ),
        ("retryPolicy: Always", "retryPolicy: Allways", "is not =Always|OnFailure"),
        ("asInt(lastRetry.exitCode)", "asInt(lastRetry.code)", "`lastRetry.code` is not known there"),
        (
            "            depends: embed.Succeeded\n",
            "            depends: embed.Succeeded\n            dependencies: [embed]\n",
            "at most one of",
        ),
        ("      - name: to\n        value: \"\"\n", "", "no argument gives `to`"),
    ];
    let text = read("jobs/argo/workflow-template.yaml");
    let known = Objects::known();
    for (from, to, expected) in mistakes {
        assert!(text.contains(from), "the template holds no `{from}`");
        let document = documents(&text.replacen(from, to, 1)).remove(0);
        let mut faults = known.faults(&document);
        if faults.is_empty() {
            faults = Flow::new(&document["spec"], None).faults();
            let mut range = document["spec"].clone();
            range["entrypoint"] = "range".into();
            faults.extend(Flow::new(&range, None).faults());
        }
        assert!(faults.iter().any(|fault| fault.contains(expected)), "`{to}`: expected `{expected}`, found {faults:?}");
    }
    let cron = read("jobs/argo/cron-workflow.yaml").replace("schedules:\n    - ", "schedule: ");
    let faults = known.faults(&documents(&cron)[0]).join("\n");
    assert!(
        faults.contains("schedule: CronWorkflowSpec has no such key") && faults.contains("schedules: is missing"),
        "{faults}"
    );
}

#[test]
fn the_command_lines_of_argo_are_real() {
    let template = job("argo/workflow-template.yaml");
    let lines: Vec<Line> = Flow::new(&template["spec"], None)
        .command_lines()
        .into_iter()
        .map(|words| Line { place: "workflow-template.yaml".into(), words })
        .collect();
    lines.iter().for_each(assert_parses);
    let found: BTreeSet<&str> = subcommands(&lines).into_iter().collect();
    assert_eq!(found, BTreeSet::from_iter(STAGES.into_iter().chain(["run", "dates"])));
}

#[test]
fn the_command_lines_of_airflow_are_real() {
    let lines = command_lines(&root().join("jobs/airflow/twotower_daily.py"));
    assert_eq!(subcommands(&lines), [&STAGES[..], &["run"]].concat());
    lines.iter().for_each(assert_parses);
    let lines = command_lines(&root().join("jobs/airflow/twotower_daily_pods.py"));
    assert_eq!(subcommands(&lines), STAGES);
    lines.iter().for_each(assert_parses);
}

#[test]
fn the_command_line_of_the_cron_job_is_real() {
    let lines = command_lines(&root().join("jobs/kubernetes/cron-job.yaml"));
    assert_eq!(subcommands(&lines), ["run"]);
    lines.iter().for_each(assert_parses);
}

#[test]
fn schedulers_retry_what_a_retry_can_help_and_nothing_else() {
    let kinds =
        [Kind::NoData, Kind::Usage, Kind::GateRefused, Kind::Internal, Kind::Transient, Kind::Config, Kind::Terminated];
    let codes = |retry: bool| -> Vec<u64> {
        let some = kinds.into_iter().filter(|kind| *kind != Kind::NoData && kind.retry_can_help() == retry);
        some.map(|kind| kind.exit_code().into()).collect()
    };
    let template = job("argo/workflow-template.yaml");
    let runner = template["spec"]["templates"].as_sequence().unwrap().iter().find(|t| t["name"] == "twotower").unwrap();
    let expression = runner["retryStrategy"]["expression"].as_str().unwrap();
    let listed: Vec<i64> = expression
        .split(['[', ']', ','])
        .filter_map(|word| word.trim().parse().ok())
        .filter(|code| *code > 0)
        .collect();
    assert_eq!(listed, codes(true).into_iter().map(|code| code as i64).collect::<Vec<_>>(), "{expression}");

    let cron = job("kubernetes/cron-job.yaml");
    let rules = &cron["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"];
    assert_eq!(rules[0]["action"], "FailJob");
    let listed: Vec<u64> =
        rules[0]["onExitCodes"]["values"].as_sequence().unwrap().iter().map(|v| v.as_u64().unwrap()).collect();
    assert_eq!(listed, codes(false));

    let python = read("jobs/airflow/twotower_airflow.py");
    let (_, after) = python.split_once("\nPERMANENT = {").unwrap();
    let listed: Vec<u64> = after
        .split('}')
        .next()
        .unwrap()
        .split(',')
        .filter_map(|part| part.split(':').next()?.trim().parse().ok())
        .collect();
    assert_eq!(listed, codes(false));
    assert!(python.contains(&format!("\nNO_DATA = {}\n", Kind::NoData.exit_code())));
}

#[test]
fn names_that_stand_in_several_files_are_the_same() {
    let image = format!("registry.example.org/twotower:{}", env!("CARGO_PKG_VERSION"));
    let mut images = 0;
    for path in ["argo/workflow-template.yaml", "kubernetes/cron-job.yaml", "airflow/twotower_daily_pods.py"] {
        for line in read(&format!("jobs/{path}")).lines().filter(|line| line.contains("registry.example.org/")) {
            assert!(line.contains(&image), "{path}: {line}");
            images += 1;
        }
    }
    assert_eq!(images, 4);
    let (template, cron) = (job("argo/workflow-template.yaml"), job("kubernetes/cron-job.yaml"));
    let pod = &cron["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let account = job("kubernetes/service-account.yaml");
    let rbac = documents(&read("jobs/argo/rbac.yaml"));
    for name in [&template["spec"]["serviceAccountName"], &pod["serviceAccountName"], &rbac[1]["subjects"][0]["name"]] {
        assert_eq!(*name, account["metadata"]["name"]);
    }
    assert_eq!(rbac[1]["roleRef"]["name"], rbac[0]["metadata"]["name"]);
    let config = job("kubernetes/config-map.yaml");
    for volumes in [&template["spec"]["volumes"], &pod["volumes"]] {
        assert_eq!(volumes[0]["configMap"]["name"], config["metadata"]["name"]);
    }
    let namespace = job("kubernetes/namespace.yaml");
    for path in MANIFESTS.into_iter().filter(|path| *path != "kubernetes/namespace.yaml") {
        for document in documents(&read(&format!("jobs/{path}"))) {
            assert_eq!(document["metadata"]["namespace"], namespace["metadata"]["name"], "{path}");
        }
    }
}

#[test]
fn pods_have_no_rights_they_do_not_need_and_time_to_end() {
    let (template, cron) = (job("argo/workflow-template.yaml"), job("kubernetes/cron-job.yaml"));
    let pod = &cron["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let patch: serde_json::Value = serde_json::from_str(template["spec"]["podSpecPatch"].as_str().unwrap()).unwrap();
    for seconds in [pod["terminationGracePeriodSeconds"].as_u64(), patch["terminationGracePeriodSeconds"].as_u64()] {
        assert!(seconds.unwrap() >= 30, "the program may take 25 seconds to end");
    }
    let templates = template["spec"]["templates"].as_sequence().unwrap();
    let of_argo = templates.iter().filter(|t| !t["container"].is_null()).map(|t| &t["container"]);
    let containers: Vec<&Value> = of_argo.chain(pod["containers"].as_sequence().unwrap()).collect();
    assert_eq!(containers.len(), 3);
    for container in containers {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"]["drop"][0], "ALL");
        let resources = &container["resources"];
        assert_eq!(resources["requests"]["memory"], resources["limits"]["memory"], "memory cannot be taken back");
    }
    let dockerfile = read("Dockerfile");
    for security in [&template["spec"]["securityContext"], &pod["securityContext"]] {
        assert_eq!(security["runAsNonRoot"], true);
        let user = security["runAsUser"].as_u64().unwrap();
        assert!(dockerfile.contains(&format!("\nUSER {user}:{user}\n")), "{user} is the image's user");
    }
}

#[test]
fn the_config_map_holds_a_config_and_the_s3_policy_allows_what_it_needs_and_nothing_more() {
    let map = job("kubernetes/config-map.yaml");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job.yaml");
    fs::write(&path, map["data"]["job.yaml"].as_str().unwrap()).unwrap();
    let config = Config::load(&path, &Overrides(Vec::new())).unwrap();

    let policy: serde_json::Value = serde_json::from_str(&read("jobs/kubernetes/s3-policy.json")).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let strings = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_string()).collect()
    };
    let matches = |pattern: &str, text: &str| match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => pattern == text,
    };
    let allows = |action: &str, url: &str| {
        let (bucket, key) = url.strip_prefix("s3://").unwrap().split_once('/').unwrap();
        let lists = action == "s3:ListBucket";
        let resource = if lists { format!("arn:aws:s3:::{bucket}") } else { format!("arn:aws:s3:::{bucket}/{key}") };
        statements.iter().any(|statement| {
            // without IfExists, S3 answers 403 and not 404 for an object that is not there, and the job asks for such ones
            let prefixes = statement["Condition"]["StringLikeIfExists"]["s3:prefix"].as_array();
            let within = prefixes.is_none_or(|all| all.iter().any(|prefix| matches(prefix.as_str().unwrap(), key)));
            statement["Effect"] == "Allow"
                && strings(&statement["Action"]).iter().any(|allowed| allowed == action)
                && strings(&statement["Resource"]).iter().any(|allowed| matches(allowed, &resource))
                && (!lists || within)
        })
    };
    const WRITES: [&str; 3] = ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"];
    let mut sources = 0;
    for (name, source) in config.sources.iter() {
        let file = format!("{}/dt=2026-11-20/part-0.parquet", source.path);
        assert!(allows("s3:ListBucket", &file) && allows("s3:GetObject", &file), "{name}");
        assert!(!WRITES.iter().any(|action| allows(action, &file)), "{name} is only read");
        sources += 1;
    }
    assert_eq!(sources, 3);
    let release = format!("{}/releases/00000001.json", config.output);
    for action in WRITES.into_iter().chain(["s3:ListBucket", "s3:GetObject"]) {
        assert!(allows(action, &release), "{action}");
    }
    for elsewhere in ["s3://my-bucket/other/x", "s3://other-bucket/two-tower/x"] {
        for action in WRITES.into_iter().chain(["s3:ListBucket", "s3:GetObject"]) {
            assert!(!allows(action, elsewhere), "{action} on {elsewhere}");
        }
    }
    let actions = statements.iter().flat_map(|statement| strings(&statement["Action"]));
    assert!(actions.into_iter().all(|action| !action.contains('*')));
}

#[test]
fn the_command_lines_of_the_documentation_and_the_scripts_are_real() {
    let mut files = ["README.md", "jobs/README.md", "scripts/demo.sh", "scripts/bench.sh", "scripts/test-airflow.sh"]
        .map(|file| root().join(file))
        .to_vec();
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
    let words = split(r#"twotower run --date "$(date -u -d yesterday +%F)" --publish"#);
    assert_eq!(words, ["twotower", "run", "--date", "2026-11-20", "--publish"]);
}
