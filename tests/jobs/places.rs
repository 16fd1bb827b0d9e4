//! What the program leaves where schedulers look, and what it does when one ends it.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::{FIRST, World};

#[test]
fn airflow_argo_and_kubernetes_find_result_progress_and_reason() {
    let world = World::local().with_logs(1, &[]);
    let (xcom, log, progress) = (
        world.folder.path().join("xcom"),
        world.folder.path().join("termination-log"),
        world.folder.path().join("progress"),
    );
    std::fs::create_dir(&xcom).unwrap();
    std::fs::write(&log, "").unwrap();
    let config = world.config();
    let run = |args: &[&str]| {
        let mut command = world.command(args);
        command.arg("-c").arg(&config);
        command.env("TWOTOWER_XCOM", &xcom).env("TWOTOWER_TERMINATION_LOG", &log).env("ARGO_PROGRESS_FILE", &progress);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), text.lines().last().unwrap_or_default().to_string())
    };
    let told = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();

    let (code, summary) = run(&["samples", "--date", FIRST]);
    assert_eq!(code, 0, "{summary}");
    assert_eq!(told(&xcom.join("return.json")), summary);
    assert_eq!(told(&progress), "100/100\n");
    assert_eq!(told(&log), "", "nothing failed");

    // the stage before it was not run
    let (code, summary) = run(&["embed", "--date", FIRST]);
    assert_eq!(code, 78, "{summary}");
    assert!(told(&log).starts_with("[permanent] train has not been run for 2026-11-14"), "{}", told(&log));
    assert_eq!(told(&xcom.join("return.json")), summary);
    assert_eq!(told(&progress), "0/100\n");

    // no logs on that day: the policy is to skip it
    let (code, summary) = run(&["run", "--date", "2027-01-01"]);
    assert_eq!(code, 99, "{summary}");
    assert!(summary.starts_with("{\"status\":\"no_data\""), "{summary}");
    std::fs::write(&log, "").unwrap();
    let (code, summary) = run(&["run", "--date", "2027-01-01", "--no-data-ok"]);
    assert_eq!((code, told(&log).as_str()), (0, ""));
    assert!(summary.starts_with("{\"status\":\"no_data\""), "{summary}");

    // called in a way it does not know
    let (code, _) = run(&["samples", "--dates", FIRST]);
    assert_eq!(code, 64);
    assert!(told(&log).starts_with("[permanent] ") && told(&log).contains("--dates"), "{}", told(&log));
}

#[test]
fn sigterm_reaches_the_program_behind_a_shell_that_hands_over_to_it() {
    let world = World::local().with_logs(2, &[]);
    let config = world.config();
    let log = world.folder.path().join("termination-log");
    std::fs::write(&log, "").unwrap();
    // a training that would take hours
    let line = format!(
        "exec {} run -c {} --date {FIRST} --set training.epochs=1000000 --set training.early_stopping.patience=0",
        env!("CARGO_BIN_EXE_twotower"),
        config.display()
    );
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &line]).env("TWOTOWER_TERMINATION_LOG", &log).env_remove("RUST_LOG");
    let mut shell = shell.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let logs = BufReader::new(shell.stderr.take().unwrap()).lines();
    let mut training = logs.map_while(Result::ok).skip_while(|line| !line.contains("\"stage\":\"train\""));
    assert!(training.next().is_some(), "the training never began");
    // read on, or the program stops at a full pipe
    std::thread::spawn(move || training.for_each(drop));

    let asked = Instant::now();
    // SAFETY: the process is our child and has not been waited for
    assert_eq!(unsafe { libc::kill(shell.id() as i32, libc::SIGTERM) }, 0);
    let code = shell.wait().unwrap().code();
    assert_eq!(code, Some(143), "the shell handed over, so its end is the program's");
    assert!(asked.elapsed() < Duration::from_secs(30), "Kubernetes would have killed it");
    let told = std::fs::read_to_string(&log).unwrap();
    assert!(told.starts_with("[transient] told to stop"), "{told}");
}
