//! All system calls at once: time until attached, time from `exit()` to the
//! end of the process.

use crate::Result;
use crate::child::Tracer;
use crate::numbers::{Samples, table};
use crate::startup::milliseconds;

const SCRIPT: &str = "tracepoint:syscalls:sys_enter_* { @[probe] = count(); } \
                      interval:ms:300 { printf(\"leaving\\n\"); exit(); }";

/// The reference gets fewer of them: it takes 80 ms for each to detach.
const FEW: &str = "tracepoint:syscalls:sys_enter_re* { @[probe] = count(); } \
                   interval:ms:300 { printf(\"leaving\\n\"); exit(); }";

/// Measures, prints the table.
pub(crate) fn run(rtrace: &Tracer, bpftrace: Option<&Tracer>, rounds: usize) -> Result<()> {
    println!("\nMany probes ({rounds} rounds; milliseconds, min / median)\n");
    let mut rows =
        vec![["probes", "", "exec to attached", "exit() to end"].map(str::to_owned).to_vec()];
    let mut add = |tracer: &Tracer, script: &str, name: &str, rounds: usize| -> Result<()> {
        let (mut attached, mut ended) = (Samples::default(), Samples::default());
        for _ in 0..rounds {
            let mut tracing = tracer.start(script)?;
            attached.add(milliseconds(tracing.wait_attached()?));
            let leaving = tracing.wait_for("leaving")?;
            ended.add(milliseconds(tracing.wait()? - leaving));
        }
        let times = |s: &Samples| format!("{:.1} / {:.1}", s.min(), s.median());
        rows.push(vec![name.to_owned(), tracer.name.to_owned(), times(&attached), times(&ended)]);
        Ok(())
    };
    add(rtrace, SCRIPT, "tracepoint:syscalls:sys_enter_*", rounds)?;
    add(rtrace, FEW, "tracepoint:syscalls:sys_enter_re*", rounds)?;
    if let Some(bpftrace) = bpftrace {
        add(bpftrace, FEW, "tracepoint:syscalls:sys_enter_re*", 1)?;
    }
    table(&rows);
    Ok(())
}
