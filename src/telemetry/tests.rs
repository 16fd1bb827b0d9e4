use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::DateTime;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::metrics::{Ended, families, text};
use super::*;
use crate::config::{Config, Overrides};
use crate::job::Stop;
use crate::progress::Progress;

/// One request as the server read it.
#[derive(Debug, Clone)]
struct Asked {
    line: String,
    head: String,
    body: String,
}

/// How the server behaves.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Answers,
    Fails,
    Hangs,
}

/// A server of a few lines that remembers what it was asked.
async fn server(manner: Manner) -> (String, Arc<Mutex<Vec<Asked>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let kept = asked.clone();
    tokio::spawn(async move {
        let mut open = Vec::new();
        'connections: loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            if manner == Manner::Hangs {
                open.push(socket);
                continue;
            }
            let mut bytes = Vec::new();
            let (head, body) = loop {
                let mut buffer = [0; 4096];
                let read = socket.read(&mut buffer).await.unwrap();
                // who asks was stopped before it had asked
                if read == 0 {
                    continue 'connections;
                }
                bytes.extend_from_slice(&buffer[..read]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length =
                    head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                if body.len() >= length.unwrap_or(0) {
                    break (head.to_string(), body.to_string());
                }
            };
            let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_string();
            kept.lock().unwrap().push(Asked { line, head: head.to_lowercase(), body });
            let answer = if manner == Manner::Fails { "500 Internal Server Error" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, asked)
}

fn job(more: &str) -> Job {
    let text = format!(
        "version: 1\nname: shop\noutput: memory://telemetry/out\nsources: {{impressions: {{path: 's3://logs/team/impressions', partition: dt, columns: {{user_id: bigint}}}}}}\nfeatures: {{user: {{u: {{kind: id}}}}, item: {{i: {{kind: id}}}}}}\n{more}"
    );
    let config = Config::parse(&text, "job.yaml", &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
    Job {
        output: crate::storage::open(&config.output).unwrap(),
        config: Arc::new(config),
        date: "2026-11-20".parse().unwrap(),
        progress: Progress::new(true),
        stop: Stop::default(),
    }
}

fn telling(job: &Job, variables: &[(&str, &str)], textfile: Option<std::path::PathBuf>) -> Telling {
    let variables: Vec<(String, String)> = variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let find = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let given = Given { textfile, pushgateway: find("TWOTOWER_PUSHGATEWAY") };
    let places = Places::new(&job.config, given, find);
    Telling::begin(job, "run", (job.date, job.date), places)
}

fn outcome(job: &Job) -> Outcome {
    let stages = vec![crate::pipeline::StageOutcome {
        stage: crate::pipeline::Stage::Embed,
        skipped: false,
        seconds: 1.5,
        peak_memory: 1 << 20,
        rows: (7, "items"),
    }];
    let mut facts = crate::artifacts::EvaluateFacts::default();
    facts.exact.at.insert(20, crate::artifacts::AtK { recall: 0.25, ..Default::default() });
    Outcome {
        date: job.date,
        run_id: None,
        stages,
        evaluation: Some(facts),
        release: None,
        status: "published".into(),
        report: None,
    }
}

#[tokio::test]
async fn a_success_replaces_what_the_gateway_had_and_a_failure_leaves_the_last_success() {
    let (url, asked) = server(Manner::Answers).await;
    let job = job("");
    telling(&job, &[("TWOTOWER_PUSHGATEWAY", &url)], None).end(&Ok(outcome(&job))).await;
    telling(&job, &[("TWOTOWER_PUSHGATEWAY", &url)], None).end(&Err(Error::config("broken"))).await;
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked[0].line, "PUT /metrics/job/twotower/name/shop/command/run");
    assert_eq!(asked[1].line, "POST /metrics/job/twotower/name/shop/command/run");
    let success = "twotower_last_success_timestamp_seconds{";
    assert!(asked[0].body.contains(success) && !asked[1].body.contains(success));
    assert!(
        asked[1].body.contains("twotower_last_run_exit_code{name=\"shop\",command=\"run\"} 78"),
        "{}",
        asked[1].body
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lineage_tells_begin_and_end_of_one_run_and_who_started_it() {
    let (url, asked) = server(Manner::Answers).await;
    let job = job("");
    let variables = [
        ("OPENLINEAGE_URL", url.as_str()),
        ("OPENLINEAGE_API_KEY", "key"),
        ("OPENLINEAGE_NAMESPACE", "shop-team"),
        ("OPENLINEAGE_PARENT_ID", "airflow/prod/daily.two_tower/01890000-0000-7000-8000-000000000000"),
    ];
    telling(&job, &variables, None).end(&Ok(outcome(&job))).await;
    telling(&job, &variables, None).end(&Err(Error::config("broken"))).await;
    drop(telling(&job, &variables, None));
    let asked = asked.lock().unwrap().clone();
    let events: Vec<Value> = asked.iter().map(|asked| serde_json::from_str(&asked.body).unwrap()).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["eventType"].as_str().unwrap()).collect();
    // the START of a run that was dropped at once may never leave, or arrive late
    assert_eq!(kinds[..4], ["START", "COMPLETE", "START", "FAIL"]);
    assert!(kinds[4..].contains(&"ABORT"), "{kinds:?}");
    assert!(asked.iter().all(|asked| asked.line == "POST /api/v1/lineage"), "{asked:?}");
    assert!(asked.iter().all(|asked| asked.head.contains("authorization: bearer key")), "{asked:?}");
    let (start, complete) = (&events[0], &events[1]);
    assert_eq!(start["run"]["runId"], complete["run"]["runId"]);
    assert_ne!(start["run"]["runId"], events[2]["run"]["runId"]);
    assert_eq!(start["job"]["namespace"], "shop-team");
    assert_eq!(start["job"]["name"], "shop.run");
    let parent = &start["run"]["facets"]["parent"];
    assert_eq!(parent["job"]["namespace"], "airflow/prod");
    assert_eq!(parent["job"]["name"], "daily.two_tower");
    assert_eq!(start["inputs"][0]["namespace"], "s3://logs");
    assert_eq!(start["inputs"][0]["name"], "team/impressions");
    assert_eq!(start["inputs"][0]["facets"]["schema"]["fields"][0]["type"], "bigint");
    assert_eq!(complete["outputs"][0]["name"], "out/releases");
    assert_eq!(events[3]["run"]["facets"]["errorMessage"]["message"], "broken");
    assert_eq!(start["run"]["facets"]["nominalTime"]["nominalEndTime"], "2026-11-21T00:00:00Z");
}

#[tokio::test]
async fn a_server_that_fails_hangs_or_is_not_there_costs_seconds_at_most() {
    let (fails, _) = server(Manner::Fails).await;
    let (hangs, _) = server(Manner::Hangs).await;
    let job = job("");
    assert_eq!(
        http::push(&fails, "", "shop", "run", true).await,
        Err("it answered 500 Internal Server Error hello".into())
    );
    let absent = http::push("http://127.0.0.1:9", "", "shop", "run", true).await.unwrap_err();
    assert!(absent.starts_with("cannot connect: "), "{absent}");
    let nonsense = http::push("gateway", "", "shop", "run", true).await.unwrap_err();
    assert!(nonsense.contains("not a URL"), "{nonsense}");
    let started = Instant::now();
    let places = [("TWOTOWER_PUSHGATEWAY", hangs.as_str()), ("OPENLINEAGE_URL", "http://127.0.0.1:9")];
    telling(&job, &places, None).end(&Ok(outcome(&job))).await;
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

#[test]
fn a_file_keeps_what_is_of_others_and_the_last_success() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("twotower.prom");
    let other = "# HELP twotower_recall By hand.\n# TYPE twotower_recall gauge\ntwotower_recall{name=\"other\",command=\"run\",k=\"20\"} 0.5\n# TYPE up gauge\nup 1\n";
    std::fs::write(&file, other).unwrap();
    let job = job("");
    let told = outcome(&job);
    let ended = |exit_code, outcome, at| Ended { name: "shop", command: "run", exit_code, seconds: 2.0, at, outcome };
    let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
    textfile::write(&file, &families(&ended(0, Some(&told), at(1000))), "shop", "run", true).unwrap();
    textfile::write(&file, &families(&ended(75, None, at(2000))), "shop", "run", false).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.contains("peak_memory") && !line.contains("build")).collect();
    insta::assert_snapshot!(lines.join("\n"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file is left");
}

#[test]
fn figures_are_in_the_text_format() {
    let job = job("");
    let told = outcome(&job);
    let at = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
    let ended = Ended { name: "a \"shop\"", command: "run", exit_code: 0, seconds: 2.0, at, outcome: Some(&told) };
    let text = text(&families(&ended));
    let text: Vec<&str> = text.lines().filter(|line| !line.contains("last_run_peak_memory_bytes{")).collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn a_password_in_the_config_is_refused() {
    let text = "version: 1\nname: a\noutput: out\nsources: {impressions: {path: logs}}\nfeatures: {user: {u: {kind: id}}, item: {i: {kind: id}}}\n";
    let refused = |more: &str| {
        Config::parse(&format!("{text}{more}"), "job.yaml", &Overrides::default()).unwrap_err().to_string()
    };
    let told = refused("metrics: {pushgateway: 'http://user:word@host'}\n");
    assert!(told.contains("metrics.pushgateway") && !told.contains("word@"), "{told}");
    assert!(refused("metrics: {textfile: 's3://bucket/file'}\n").contains("local file"));
    assert!(refused("lineage: {url: 'marquez:5000'}\n").contains("lineage.url"));
}
