//! Messages for tools: `--message-format json` is read as JSON, and what it suggests is written
//! into the script, which must then be free of that mistake.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod harness;

use std::io::Write;
use std::process::{Command, Stdio};

use harness::Case;
use serde_json::Value;

/// Checks a script for the recorded machine and gives its messages.
fn check(case: &Case, text: &str) -> Vec<Value> {
    let mut command = Command::new(harness::rtrace());
    harness::live::clean_environment(&mut command);
    let (mut host, mut flags, mut parameters) = ("debian".to_owned(), vec![], vec![]);
    for header in case.headers().unwrap() {
        match header.key.as_str() {
            "host" => host = header.value,
            "flags" => flags.extend(header.value.split_whitespace().map(str::to_owned)),
            _ => parameters.extend(header.value.split_whitespace().map(str::to_owned)),
        }
    }
    command.arg("--host").arg(harness::root().join("tests/host").join(host));
    command.args(["--emit=plan", "--message-format=json"]).args(flags).arg("-").args(parameters);
    command.current_dir(case.folder());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    let parse = |line: &str| {
        serde_json::from_str(line).unwrap_or_else(|why| panic!("{}: {why}: {line}", case.name))
    };
    said.lines().map(parse).collect()
}

/// A place, checked against the text.
fn range(place: &Value, text: &str) -> std::ops::Range<usize> {
    let offset = |end: &str| usize::try_from(place[end]["byte"].as_u64().unwrap()).unwrap();
    for end in ["start", "end"] {
        let before = text.get(..offset(end)).unwrap();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
        assert_eq!(place[end]["line"], line, "{place}");
        assert_eq!(place[end]["column"], column, "{place}");
    }
    offset("start")..offset("end")
}

#[test]
fn every_message_is_an_object_whose_places_are_in_the_text() {
    let mut seen = 0;
    for case in harness::cases("golden").into_iter().filter(|c| c.beside("stderr").exists()) {
        let Ok(text) = std::fs::read_to_string(&case.path) else { continue };
        let messages = check(&case, &text);
        let expected = std::fs::read_to_string(case.beside("stderr")).unwrap();
        let is_head = |line: &&str| line.starts_with("error") || line.starts_with("warning");
        // Of very many, text has the first only, and says how many more there are.
        let more = expected.lines().find_map(|l| l.split_once(" more errors are not"));
        let more: usize = more.map_or(0, |(count, _)| count.parse().unwrap());
        let shown = expected.lines().filter(is_head).count();
        assert_eq!(messages.len(), shown + more, "{}", case.name);
        for message in messages {
            seen += 1;
            let severity = message["severity"].as_str().unwrap();
            assert!(["error", "warning"].contains(&severity), "{}: {message}", case.name);
            assert!(!message["message"].as_str().unwrap().is_empty());
            assert!(severity == "error" || message["name"].is_string(), "{message}");
            for list in ["notes", "helps", "labels"] {
                assert!(message[list].is_array(), "{}: {message}", case.name);
            }
            for label in message["labels"].as_array().unwrap() {
                if label["span"]["file"] == "stdin" {
                    range(&label["span"], &text);
                }
            }
        }
    }
    assert!(seen > 250, "{seen}");
}

#[test]
fn a_suggestion_mends_the_script() {
    let mut mended = 0;
    for case in harness::cases("golden").into_iter().filter(|c| c.beside("stderr").exists()) {
        let Ok(text) = std::fs::read_to_string(&case.path) else { continue };
        for message in check(&case, &text) {
            let suggestion = &message["suggestion"];
            if suggestion.is_null() || suggestion["span"]["file"] != "stdin" {
                continue;
            }
            let mut better = text.clone();
            let replacement = suggestion["replacement"].as_str().unwrap();
            better.replace_range(range(&suggestion["span"], &text), replacement);
            let start = |m: &Value| m["span"]["start"]["byte"].clone();
            let left = check(&case, &better);
            let same =
                |m: &&Value| m["message"] == message["message"] && start(m) == start(&message);
            assert!(!left.iter().any(|m| same(&m)), "{}: {replacement} in\n{better}", case.name);
            mended += 1;
        }
    }
    assert!(mended > 40, "{mended}");
}

#[test]
fn wrong_arguments_are_objects_too() {
    let said = |args: &[&str]| {
        let output = Command::new(harness::rtrace()).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        let messages: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(messages.len(), 1, "{text}");
        messages.into_iter().next().unwrap()
    };
    let json = "--message-format=json";
    let message = said(&[json, "no-such-file.bt"]);
    assert!(message["message"].as_str().unwrap().contains("no-such-file.bt"));
    assert!(message["span"].is_null());
    let message = said(&["--message-format", "json", "--verbos3"]);
    assert!(message["message"].as_str().unwrap().contains("--verbos3"), "{message}");
    let message = said(&[json, "--emit=plna", "-e", "begin { }"]);
    assert!(message["helps"].to_string().contains("plan"), "{message}");
}

#[test]
fn a_program_that_several_folders_have_is_told() {
    let root = std::env::temp_dir().join(format!("rtrace-messages-{}", std::process::id()));
    let recorded = harness::root().join("tests/host/debian");
    for folder in ["usr/bin", "usr/local/bin"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
        std::fs::copy(recorded.join("usr/bin/shop"), root.join(folder).join("shop")).unwrap();
    }
    std::fs::copy(recorded.join("features.json"), root.join("features.json")).unwrap();
    let output = Command::new(harness::rtrace())
        .env("PATH", "/usr/local/bin:/usr/bin")
        .arg("--host")
        .arg(&root)
        .args(["--emit=plan", "-e", "uprobe:shop:shop_open { @++; }"])
        .output()
        .unwrap();
    std::fs::remove_dir_all(&root).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("warning[ambiguous]: there are several programs `shop`"), "{said}");
    assert!(said.contains("`/usr/local/bin/shop`, `/usr/bin/shop`"), "{said}");
    assert_eq!(output.status.code(), Some(0), "{said}");
}
