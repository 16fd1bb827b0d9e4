//! What people are told when something is wrong: the text, the exit code, and never a panic.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use common::{Ran, World};

const DATE: &str = "2026-11-14";

/// What a person reads, with this test's own paths taken out.
fn told(world: &World, ran: &Ran) -> String {
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    let line = ran
        .stderr
        .lines()
        .rev()
        .find(|line| line.contains("\"ERROR\""))
        .unwrap_or_else(|| panic!("no error line in: {}", ran.stderr));
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let text = line["message"].as_str().unwrap();
    let folder = world.folder.path().to_string_lossy();
    format!("exit {}: {}", ran.code, text.replace(&*folder, "FOLDER"))
}

fn config_mistake(edit: impl Fn(String) -> String) -> String {
    let world = World::local();
    world.config_with(edit);
    told(&world, &world.job(&["run"], &["--date", DATE]))
}

#[test]
fn an_unknown_key_is_named_with_its_place() {
    insta::assert_snapshot!(config_mistake(|text| text.replace("\nfeatures:", "\ntrainig: {}\nfeatures:")));
}

#[test]
fn a_wrong_type_is_named_with_its_place() {
    insta::assert_snapshot!(config_mistake(|text| text.replace("\nname: ", "\nname: [a list, not a text] # ")));
}

#[test]
fn a_config_of_another_version_says_so() {
    insta::assert_snapshot!(config_mistake(|text| text.replace("version: 1", "version: 7")));
}

#[test]
fn a_config_that_is_not_there_is_a_usage_error() {
    let world = World::local();
    let ran = world.run(&["run", "-c", "nowhere.yaml", "--date", DATE]);
    insta::assert_snapshot!(told(&world, &ran));
}

#[test]
fn a_command_line_that_does_not_exist_leaves_with_64() {
    let world = World::local();
    let ran = world.run(&["rum", "--date", DATE]).expect(64);
    assert!(ran.stderr.contains("run"), "{}", ran.stderr);
    world.run(&["run", "-c", "x.yaml", "--date", "yesterday"]).expect(64);
    world.run(&["--help"]).expect(0);
}

#[test]
fn a_missing_partition_is_named() {
    let world = World::local().with_logs(1, &[]);
    let ran = world.job(&["run"], &["--date", "2026-11-20"]);
    insta::assert_snapshot!(told(&world, &ran));
}

#[test]
fn a_store_that_does_not_answer_is_worth_another_try() {
    let world = World::local();
    let config = world.config_with(|text| text.replace(&format!("{}/", world.base), "s3://bucket/"));
    let args = ["run", "-c", config.to_str().unwrap(), "--date", DATE];
    // port 9 is discard: nothing listens there
    let mut command = world.command(&args);
    command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:9").env("TWOTOWER_RETRY_SECONDS", "1");
    command.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b").env("AWS_REGION", "us-east-1");
    let output = command.output().unwrap();
    let ran = Ran {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    let text = told(&world, &ran);
    assert!(text.contains("s3://bucket/logs") && text.contains("try again"), "{text}");
    // a scheduler finds the failure where it looks for results
    assert_eq!(ran.summary()["kind"], "transient");
}

#[test]
fn wrong_credentials_are_not_worth_another_try() {
    let world = World::s3();
    let config = world.config();
    let mut command = world.command(&["check", "-c", config.to_str().unwrap(), "--date", DATE]);
    let output = command.env("AWS_SECRET_ACCESS_KEY", "wrong").env("TWOTOWER_RETRY_SECONDS", "1").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{stderr}");
    assert!(stderr.contains("does not accept the credentials") || stderr.contains("permission was denied"), "{stderr}");
}

#[test]
fn an_output_that_may_not_be_written_is_named() {
    let world = World::local().with_logs(1, &[]);
    let config = world.config_with(|text| text.replace("days: -6..0", "days: 0..0"));
    let out = world.folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o555)).unwrap();
    std::fs::set_permissions(world.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // root may write anywhere, so that root's tests step down first, with a copy of the program that nobody may read
    let program = world.folder.path().join("twotower");
    std::fs::copy(env!("CARGO_BIN_EXE_twotower"), &program).unwrap();
    let mut command = std::process::Command::new(&program);
    command.args(["run", "-c", config.to_str().unwrap(), "--date", DATE]).current_dir("/");
    // SAFETY: geteuid only reads
    if unsafe { libc::geteuid() } == 0 {
        command.uid(65534).gid(65534);
    }
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let ran = Ran { code: output.status.code().unwrap(), stdout: String::new(), stderr };
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    let text = told(&world, &ran);
    assert!(text.contains("FOLDER/out") && text.contains("permission was denied"), "{text}");
    assert!(Path::new(&out).read_dir().unwrap().next().is_none());
}

#[test]
fn an_unknown_user_is_named() {
    let world = World::local().with_logs(7, &[]);
    world.job(&["run"], &["--date", "2026-11-20"]).expect(0);
    let ran = world.job(&["recommend"], &["--user", "987654321"]);
    insta::assert_snapshot!(told(&world, &ran));
    let ran = world.job(&["recommend"], &["--user", "someone"]);
    insta::assert_snapshot!("an_id_of_the_wrong_type", told(&world, &ran));
}

#[test]
fn asking_before_anything_is_published_says_what_to_do() {
    let world = World::local();
    let ran = world.job(&["recommend"], &["--user", "1001"]);
    insta::assert_snapshot!(told(&world, &ran));
}

#[test]
fn cases_that_do_not_hold_are_told_with_the_rows_that_differ() {
    let world = World::local();
    let cases = world.folder.path().join("cases");
    std::fs::create_dir(&cases).unwrap();
    let given = "given:\n    impressions: [[1, 10, \"2026-11-20 08:00:00\", true], [1, 11, \"2026-11-20 09:00:00\", false]]\n    items: [{item_id: 10}, {item_id: 11}]\n    users: [[1, 30, de, true]]\n  expect:\n    positives:";
    let holds = format!(
        "- name: a click is a positive\n  set: [samples.holdout_share=0]\n  {given} {{columns: [item_id, country], rows: [[10, de]]}}\n"
    );
    std::fs::write(cases.join("a.yaml"), &holds).unwrap();
    let check = || world.job(&["check"], &["--cases", cases.to_str().unwrap()]);
    assert!(check().expect(0).stdout.contains("cases     1 of 1 hold"));
    let fails = holds.replace("a click is", "what was shown is").replace("[[10, de]]", "[[10, de], [11, de]]");
    let broken = holds.replace("a click is", "a word is").replace("[1, 10,", "[one, 10,");
    std::fs::write(cases.join("b.yaml"), fails + &broken).unwrap();
    insta::assert_snapshot!(told(&world, &check()));
}
