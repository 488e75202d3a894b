//! Plans by hand.

use rtrace::plan::{
    Action, Attach, Cause, Config, Event, Field, Layout, Loss, Map, MapValue, Mechanism,
    MissingProbes, Param, Plan, Program, VERSION,
};
use rtrace::source::{Source, Sources, Span};

/// The script that these objects pretend to be made from: one probe a line.
pub const SCRIPT: &str = "probe one\nprobe two\nprobe three\n";

/// A plan whose programs are attached as given; each is named like its
/// function without the `p_`.
pub fn plan(programs: Vec<(&str, Vec<Attach>)>) -> Plan {
    let word = |size| Layout::Int { size, signed: false };
    let number = Field { name: String::new(), offset: 8, layout: word(8), bits: None };
    let programs = programs.into_iter().enumerate().map(|(i, (name, attach))| Program {
        name: format!("p_{name}"),
        span: line(i),
        attach: attach.into_iter().map(|a| Attach { span: line(i), ..a }).collect(),
        points: vec![],
    });
    let event = |action| Event {
        span: line(0),
        action,
        fields: vec![number.clone()],
        size: 16,
        stamp: None,
        run: false,
    };
    Plan {
        version: VERSION,
        arch: std::env::consts::ARCH.into(),
        sources: Sources { files: vec![Source { name: "test.bt".into(), text: SCRIPT.into() }] },
        programs: programs.collect(),
        maps: vec![Map {
            name: "@".into(),
            bpf_name: "hits".into(),
            key: Some(word(4)),
            key_size: 4,
            value: MapValue::Plain(word(8)),
            value_size: 8,
            per_cpu: false,
            max_entries: 16,
        }],
        events: vec![event(Action::Print), event(Action::Exit)],
        losses: vec![Loss { span: line(0), cause: Cause::RingBufferFull, at: 0, quiet: false }],
        params: vec![Param::ChildPid, Param::StartTime],
        time_formats: vec![],
        portable: None,
        cgroup_filters: vec![],
        unwinds: false,
        config: Config {
            max_cat_bytes: 10240,
            max_probes: 1024,
            each_place: false,
            missing_probes: MissingProbes::Error,
            print_maps_on_exit: true,
            str_trunc_trailer: "..".into(),
            perf_rb_pages: 0,
            log_size: 1_000_000,
            cpp_demangle: true,
            show_debug_info: false,
        },
    }
}

/// A line of [`SCRIPT`], the first for what is beyond its end.
fn line(index: usize) -> Span {
    let start: usize = SCRIPT.lines().take(index % 3).map(|l| l.len() + 1).sum();
    Span::new(0, start, start + SCRIPT.lines().nth(index % 3).unwrap().len())
}

/// One link for one probe.
pub fn attach(probe: &str, mechanism: Mechanism) -> Attach {
    many(&[probe], mechanism, vec![])
}

/// One link for several probes.
pub fn many(probes: &[&str], mechanism: Mechanism, cookies: Vec<u64>) -> Attach {
    let probes = probes.iter().map(|&p| p.to_owned()).collect();
    Attach { probes, span: Span::default(), mechanism, cookies }
}
