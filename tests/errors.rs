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

/// A service that gives one answer, in the form of S3, to whatever it is asked.
fn service(status: &'static str, head: &'static str, code: &str, message: &str) -> String {
    use std::io::{Read, Write};
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message><RequestId>1</RequestId></Error>"
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let _ = socket.read(&mut [0; 8192]);
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{head}\r\n{body}");
            let _ = socket.write_all(answer.as_bytes());
        }
    });
    url
}

/// What a run says whose store is at `endpoint`.
fn with_store(endpoint: &str) -> String {
    let world = World::local();
    let config = world.config_with(|text| text.replace(&format!("{}/", world.base), "s3://bucket/"));
    let mut command = world.command(&["run", "-c", config.to_str().unwrap(), "--date", DATE]);
    command.env("AWS_ENDPOINT_URL", endpoint).env("TWOTOWER_RETRY_SECONDS", "1").env("AWS_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "secret-of-the-key");
    let output = command.output().unwrap();
    let ran = Ran {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert!(!ran.stderr.contains("secret-of-the-key"), "{}", ran.stderr);
    told(&world, &ran).replace(endpoint, "ENDPOINT")
}

#[test]
fn what_the_store_answers_is_told_in_the_operators_words() {
    let cases = [
        ("403 Forbidden", "", "AccessDenied", "Access Denied"),
        (
            "403 Forbidden",
            "",
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
        ),
        ("403 Forbidden", "", "SignatureDoesNotMatch", "The request signature we calculated does not match."),
        (
            "403 Forbidden",
            "",
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        ),
        ("400 Bad Request", "", "ExpiredToken", "The provided token has expired."),
        ("404 Not Found", "", "NoSuchBucket", "The specified bucket does not exist"),
        ("301 Moved Permanently", "x-amz-bucket-region: eu-west-1\r\n", "PermanentRedirect", "Use the right endpoint."),
        (
            "400 Bad Request",
            "",
            "AuthorizationHeaderMalformed",
            "The region 'us-east-1' is wrong; expecting 'eu-west-1'</Message><Region>eu-west-1</Region><Message>",
        ),
    ];
    let texts = cases.map(|(status, head, code, message)| with_store(&service(status, head, code, message)));
    insta::assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn an_endpoint_where_nobody_is_is_named() {
    insta::assert_snapshot!(with_store("http://127.0.0.1:9"));
}

/// The first days of someone who has the logs and makes mistakes in the config or the SQL.
#[test]
fn mistakes_of_a_first_day_are_told_with_what_to_do() {
    let world = World::local().with_logs(1, &[]);
    let short = |text: String| text.replace("days: -6..0", "days: 0..0");
    let told_of = |edit: &dyn Fn(String) -> String| {
        world.config_with(|text| edit(short(text)));
        told(&world, &world.job(&["run"], &["--date", DATE]))
    };
    let sql = world.folder.path().join("sql");
    std::fs::create_dir(&sql).unwrap();
    let with_sql = |name: &str, text: &str| {
        for file in std::fs::read_dir(&sql).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        std::fs::write(sql.join(name), text).unwrap();
        told_of(&|text| text.replace("samples:\n", "samples:\n  sql: sql\n"))
    };
    let cases = [
        (
            "a column that is not there",
            told_of(&|text| text.replace("{user_id: bigint, item_id", "{userid: bigint, item_id")),
        ),
        ("a text id where an integer is declared", {
            let world = World::local().with_logs(1, &["--string-ids"]);
            world.config_with(short);
            told(&world, &world.job(&["run"], &["--date", DATE]))
        }),
        (
            "a feature without a column",
            told_of(&|text| text.replace("country: {kind: categorical", "county: {kind: categorical")),
        ),
        ("a folder that is not there", told_of(&|text| text.replace("/logs/items", "/logs/itemz"))),
        ("a folder of SQL that is not there", told_of(&|text| text.replace("samples:\n", "samples:\n  sql: sqll\n"))),
        (
            "a parameter without a value",
            with_sql("seen.sql", "select user_id, item_id from liked where item_id > $least"),
        ),
        ("a column that SQL gets wrong", with_sql("seen.sql", "select user_id, itm_id as item_id from liked")),
        ("a table that SQL gets wrong", with_sql("seen.sql", "select user_id, item_id from impresions")),
        ("an older config", told_of(&|text| text.replace("version: 1", "version: 0"))),
        ("a newer config", told_of(&|text| text.replace("version: 1", "version: 2"))),
        ("a key far from all", told_of(&|text| text.replace("\nfeatures:", "\nwarehouse: {}\nfeatures:"))),
        ("a date that is not ready", told_of(&|text| text.replace("ready: _SUCCESS", "ready: _DONE"))),
    ];
    let texts = cases.map(|(what, text)| format!("-- {what}\n{text}"));
    insta::assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn wrong_credentials_are_not_worth_another_try() {
    let world = World::s3();
    let config = world.config();
    let mut command = world.command(&["check", "-c", config.to_str().unwrap(), "--date", DATE]);
    let output = command.env("AWS_SECRET_ACCESS_KEY", "wrong").env("TWOTOWER_RETRY_SECONDS", "1").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{stderr}");
    assert!(stderr.contains("the secret does not belong to the access key test-key"), "{stderr}");
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
