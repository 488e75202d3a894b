//! A session of an editor with `rtrace lsp`, over its pipes: what is typed is complained about,
//! completed, explained, found and formatted.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod harness;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

const URI: &str = "file:///tmp/script.bt";

/// The editor's side.
struct Editor {
    server: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    requests: u64,
}

impl Editor {
    fn start() -> Editor {
        let mut command = Command::new(harness::rtrace());
        harness::live::clean_environment(&mut command);
        command.arg("lsp").arg("--host").arg(harness::root().join("tests/host/debian"));
        let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (server.stdin.take().unwrap(), server.stdout.take().unwrap());
        let mut editor = Editor { server, to, from: BufReader::new(from), requests: 0 };
        let said = editor.ask("initialize", json!({ "capabilities": {} }));
        assert_eq!(said["capabilities"]["hoverProvider"], true, "{said}");
        editor.tell("initialized", json!({}));
        editor
    }

    fn send(&mut self, message: &Value) {
        let text = message.to_string();
        write!(self.to, "Content-Length: {}\r\n\r\n{text}", text.len()).unwrap();
        self.to.flush().unwrap();
    }

    fn tell(&mut self, method: &str, params: Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    fn receive(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(self.from.read_line(&mut line).unwrap() > 0, "the server is gone");
            match line.trim().strip_prefix("Content-Length: ") {
                Some(number) => length = number.parse().unwrap(),
                None if line.trim().is_empty() => break,
                None => {}
            }
        }
        let mut bytes = vec![0; length];
        self.from.read_exact(&mut bytes).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.requests += 1;
        let id = self.requests;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = self.receive();
            if message["id"] == id {
                assert!(message["error"].is_null(), "{message}");
                return message["result"].clone();
            }
        }
    }

    /// Opens a text, or changes it; gives the messages about it.
    fn write(&mut self, text: &str) -> Vec<Value> {
        let document = json!({ "uri": URI, "languageId": "rtrace", "version": 1, "text": text });
        self.tell("textDocument/didOpen", json!({ "textDocument": document }));
        self.published()
    }

    fn published(&mut self) -> Vec<Value> {
        let message = self.receive();
        assert_eq!(message["method"], "textDocument/publishDiagnostics");
        assert_eq!(message["params"]["uri"], URI);
        message["params"]["diagnostics"].as_array().unwrap().clone()
    }

    /// The labels that are offered where `|` stands in a text.
    fn completed(&mut self, text: &str) -> Vec<String> {
        let (text, at) = cursor(text);
        self.write(&text);
        let params = json!({ "textDocument": { "uri": URI }, "position": at });
        let items = self.ask("textDocument/completion", params);
        let label = |item: &Value| item["label"].as_str().unwrap().to_owned();
        items.as_array().unwrap().iter().map(label).collect()
    }

    fn about(&mut self, method: &str, text: &str) -> Value {
        let (text, at) = cursor(text);
        self.write(&text);
        self.ask(method, json!({ "textDocument": { "uri": URI }, "position": at }))
    }
}

/// A text without its `|`, and where that stood.
fn cursor(text: &str) -> (String, Value) {
    let at = text.find('|').unwrap();
    let head = &text[..at];
    let line = head.matches('\n').count();
    let character = head.rsplit('\n').next().unwrap().encode_utf16().count();
    (text.replacen('|', "", 1), json!({ "line": line, "character": character }))
}

#[test]
fn an_editor_is_served() {
    let mut editor = Editor::start();

    // Messages as one types.
    let wrong = "// ä😀\ntracepoint:syscalls:sys_enter_openat { print(args.filenam); }\n";
    let messages = editor.write(wrong);
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(messages[0]["range"]["start"], json!({ "line": 1, "character": 50 }));
    assert_eq!(messages[0]["range"]["end"], json!({ "line": 1, "character": 57 }));
    assert!(messages[0]["message"].as_str().unwrap().contains("did you mean `filename`?"));
    let change = json!({ "text": wrong.replace("filenam", "filename") });
    let document = json!({ "uri": URI, "version": 2 });
    let params = json!({ "textDocument": document, "contentChanges": [change] });
    editor.tell("textDocument/didChange", params);
    assert_eq!(editor.published(), Vec::<Value>::new());
    let warned = editor.write("begin { 1 + pid; }");
    assert_eq!((&warned[0]["severity"], &warned[0]["code"]), (&json!(2), &json!("unused-value")));

    // Completion.
    let has = |list: &[String], name: &str| list.iter().any(|label| label == name);
    assert!(has(&editor.completed("|"), "kprobe"));
    assert!(has(&editor.completed("tracepoint:sched:sched_sw|"), "tracepoint:sched:sched_switch"));
    let open = "tracepoint:syscalls:sys_enter_openat { print(args.|); }";
    assert_eq!(editor.completed(open), ["__syscall_nr", "dfd", "filename", "flags", "mode"]);
    let unfinished = "tracepoint:syscalls:sys_enter_openat { print(args.f|";
    assert!(has(&editor.completed(unfinished), "filename"));
    assert!(has(&editor.completed("begin { print(curtask->|); }"), "pid"));
    let names = "begin { $size = 1; @count[pid] = 2; print($|); }";
    assert_eq!(editor.completed(names), ["$size"]);
    assert_eq!(editor.completed(&names.replace("$|", "@|")), ["@count"]);
    let words = editor.completed("macro twice(x) { x * 2 } begin { pr|; }");
    assert!(has(&words, "printf") && has(&words, "twice") && has(&words, "while"), "{words:?}");

    // Types and docs.
    let hovered = editor.about("textDocument/hover", "begin { $t = curtask; print($|t.pid); }");
    assert!(
        hovered["contents"]["value"].to_string().contains("$t : struct task_struct *"),
        "{hovered}"
    );
    let hovered = editor.about("textDocument/hover", "begin { @a[comm, 1] = coun|t(); }");
    assert!(hovered["contents"]["value"].to_string().contains("@m = count()"), "{hovered}");
    let hovered = editor.about("textDocument/hover", "begin { @|a[1] = count(); }");
    assert!(hovered["contents"]["value"].to_string().contains("@a : ["), "{hovered}");
    assert!(editor.about("textDocument/hover", "begin { | }").is_null());

    // Definitions.
    let start = |value: &Value| value["range"]["start"].clone();
    let found =
        editor.about("textDocument/definition", "macro m(x) { x }\nbegin { print(m|(1)); }");
    assert_eq!(start(&found), json!({ "line": 0, "character": 6 }), "{found}");
    let found =
        editor.about("textDocument/definition", "end { $x = 2; }\nbegin { $x = 1; print($|x); }");
    assert_eq!(start(&found), json!({ "line": 1, "character": 8 }), "{found}");

    // Formatting.
    editor.write("begin{exit()}");
    let params = json!({ "textDocument": { "uri": URI }, "options": { "tabSize": 2, "insertSpaces": true } });
    let edits = editor.ask("textDocument/formatting", params.clone());
    assert_eq!(edits[0]["newText"], "begin { exit() }\n");
    editor.write("begin {");
    assert!(editor.ask("textDocument/formatting", params).is_null());

    // The end.
    assert!(editor.ask("shutdown", Value::Null).is_null());
    editor.tell("exit", Value::Null);
    assert_eq!(editor.server.wait().unwrap().code(), Some(0));
}

#[test]
fn every_place_of_every_script_can_be_asked_about() {
    let mut editor = Editor::start();
    let goldens = harness::cases("golden").into_iter().step_by(9);
    for case in goldens {
        let Ok(text) = std::fs::read_to_string(&case.path) else { continue };
        editor.write(&text);
        for (line, content) in text.lines().enumerate().take(4) {
            for character in (0..content.len()).step_by(7) {
                let place = json!({ "line": line, "character": character });
                let params = json!({ "textDocument": { "uri": URI }, "position": place });
                editor.ask("textDocument/hover", params.clone());
                editor.ask("textDocument/definition", params.clone());
                editor.ask("textDocument/completion", params);
            }
        }
    }
}
