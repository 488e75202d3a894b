//! Losses and run-time warnings (output.md §10, §11).

use super::map_forms::named;
use super::*;

/// Notices of one place that failed so often, and what they show.
fn noticed(
    script: &str,
    at: &str,
    cause: Cause,
    tally: Tally,
    options: Options,
) -> (String, String) {
    let mut plan = plan(script);
    plan.losses = vec![Loss { span: span(script, at), cause, at: 0, quiet: false }];
    plan.maps = vec![named("@m", maps::map(Some(maps::U32), maps::aggregate(Aggregation::Count)))];
    let mut ledger = Ledger::of(&plan);
    streams(script, options, |o| {
        for notice in ledger.update(&[tally]).iter().chain(&ledger.finish()) {
            o.notice(notice)?;
        }
        Ok(())
    })
}

#[test]
fn lost_events() {
    let shown = |options| {
        let tally = Tally::new(3, 0);
        noticed("print(1)", "print(1)", Cause::RingBufferFull, tally, options)
    };
    let total = "WARNING: Total lost event count: 3\n";
    assert_eq!(shown(Options::default()), (String::new(), format!("Lost 3 events\n{total}")));
    assert_eq!(
        shown(JSON),
        (
            "{\"type\": \"lost_events\", \"count\": 3, \"data\": {\"events\": 3}}\n".into(),
            total.into()
        )
    );
}

#[test]
fn helpers_that_failed() {
    let script = "begin {\n  print(*$p);\n}";
    let shown = |options| {
        let cause = Cause::Helper { name: "probe_read_user".into() };
        noticed(script, "*$p", cause, Tally::new(1, -14), options)
    };
    assert_eq!(
        shown(Options::default()).1,
        "\
warning[runtime]: Bad address
  ┌─ stdin:2:9
  │
2 │   print(*$p);
  │         ^^^ once
  │
  = note: helper: probe_read_user, retcode: -14

"
    );
    assert_eq!(
        shown(JSON),
        (
            "{\"type\": \"helper_error\", \"msg\": \"Bad address\", \
             \"helper\": \"probe_read_user\", \"retcode\": -14, \"count\": 1, \
             \"filename\": \"stdin\", \"line\": 2, \"col\": 9}\n"
                .into(),
            String::new()
        )
    );
    assert_eq!(shown(Options { levels: Levels::SILENT, ..Options::default() }).1, "");
}

#[test]
fn full_maps() {
    let script = "begin { @m[$i] = count(); }";
    let cause = Cause::MapUpdate { map: 0 };
    let tally = Tally::new(904, -7);
    assert_eq!(
        noticed(script, "@m[$i] = count()", cause, tally, Options::default()).1,
        "\
warning[runtime]: map `@m` is full
  ┌─ stdin:1:9
  │
1 │ begin { @m[$i] = count(); }
  │         ^^^^^^^^^^^^^^^^ 904 times
  │
  = note: helper: map_update_elem, retcode: -7
  = note: it has room for 4096 keys; updates of other keys are dropped
  = help: raise `max_map_keys`, or declare the map: `let @m = percpuhash(8192);`

"
    );
}

#[test]
fn other_warnings() {
    let shown = |cause, error, options| {
        noticed("begin { 1 / @z }", "1 / @z", cause, Tally::new(2, error), options)
    };
    let place = "\"count\": 2, \"filename\": \"stdin\", \"line\": 1, \"col\": 9}\n";
    for (cause, error, kind, rest) in [
        (
            Cause::DivisionByZero,
            0,
            "runtime_error",
            "division by zero, 1 is used as the result\", ",
        ),
        (Cause::IndexOutOfBounds, 0, "runtime_error", "array index out of bounds\", "),
        (Cause::LoopLimit, 0, "runtime_error", "the loop ended after 8388608 rounds\", "),
        (Cause::Stack { user: false }, -14, "runtime_error", "Error reading kstack.\", "),
        (Cause::Stack { user: true }, -14, "runtime_error", "Error reading ustack.\", "),
        (
            Cause::DeleteMissing { map: 0 },
            -2,
            "helper_error",
            "Can't delete map element because it does not exist.\", \
             \"helper\": \"map_delete_elem\", \"retcode\": -2, ",
        ),
        (
            Cause::LookupMissing { map: 0 },
            0,
            "helper_error",
            "Can't lookup map element because it does not exist.\", \
             \"helper\": \"map_lookup_elem\", \"retcode\": 0, ",
        ),
        (Cause::NoChild, 0, "runtime_error", "`cpid` is 0: there is no child process\", "),
    ] {
        assert_eq!(
            shown(cause, error, JSON).0,
            format!("{{\"type\": \"{kind}\", \"msg\": \"{rest}{place}")
        );
    }
    assert_eq!(
        shown(Cause::DivisionByZero, 0, Options::default()).1,
        "\
warning[runtime]: division by zero, 1 is used as the result
  ┌─ stdin:1:9
  │
1 │ begin { 1 / @z }
  │         ^^^^^^ 2 times

"
    );
}

#[test]
fn warnings_without_their_script_are_one_line() {
    let mut plan = plan("x");
    plan.losses = vec![Loss {
        span: Span::new(3, 5, 900),
        cause: Cause::IndexOutOfBounds,
        at: 0,
        quiet: false,
    }];
    let mut ledger = Ledger::of(&plan);
    let notices = ledger.update(&[Tally::new(1, 0)]);
    let (_, errors) = streams("x", Options::default(), |o| o.notice(&notices[0]));
    assert_eq!(errors, "WARNING: array index out of bounds\n");
}
