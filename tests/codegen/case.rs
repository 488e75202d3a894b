//! Small IR modules, compiled, loaded into the running kernel and run there.

use libbpf_rs::{MapCore, MapFlags, MapHandle, ObjectBuilder, ProgramInput, RingBufferBuilder};
use rtrace::codegen::{self, Cpu, Options};
use rtrace::host::arch::Arch;
use rtrace::ir::*;
use rtrace::plan::{self, Plan};
use rtrace::source::{Source, Sources, Span};

/// A module in the making: one program on `raw_tp`, which finds its results in
/// the map `out` (bound to [`OUT`]) and its arguments in the context.
pub struct Case {
    pub module: Module,
    pub plan: Plan,
    pub out_size: u32,
}

/// The element of `out`.
pub const OUT: PtrId = PtrId(0);
const OUT_MAP: MapId = MapId(0);
const OUT_KEY: SlotId = SlotId(0);

/// What a run left behind.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub out: Vec<u8>,
    pub result: u32,
    pub events: Vec<Vec<u8>>,
}

impl Outcome {
    pub fn words(&self) -> Vec<i64> {
        self.out.chunks_exact(8).map(|w| i64::from_le_bytes(w.try_into().unwrap())).collect()
    }
}

pub fn stmt(kind: StmtKind) -> Stmt {
    Stmt { kind, span: Span::new(0, 10, 12) }
}

pub fn set(local: LocalId, value: Expr) -> Stmt {
    stmt(StmtKind::Set { local, value })
}

pub fn store(to: Place, size: u8, value: Expr) -> Stmt {
    stmt(StmtKind::Store { to, size, value })
}

/// Stores word `number` of the results.
pub fn give(number: u32, value: Expr) -> Stmt {
    store(Place::ptr(OUT).at(8 * number), 8, value)
}

pub fn when(cond: Expr, then: Vec<Stmt>, els: Vec<Stmt>) -> Stmt {
    stmt(StmtKind::If { cond, then, els })
}

pub fn local(id: LocalId) -> Expr {
    Expr::Local(id)
}

pub fn constant(value: i64) -> Expr {
    Expr::Const(value)
}

pub fn binary(op: BinaryOp, left: Expr, right: Expr) -> Expr {
    Expr::binary(op, left, right)
}

pub fn add(left: Expr, right: Expr) -> Expr {
    binary(BinaryOp::Add, left, right)
}

/// Argument `number` of the program.
pub fn argument(number: u32) -> Expr {
    Expr::load(Place::context(8 * number), 8, false)
}

pub fn empty_plan() -> Plan {
    let text = "BEGIN {\n  $x = 1;\n  @a = count();\n}\n".to_owned();
    Plan {
        version: plan::VERSION,
        arch: "x86_64".into(),
        sources: Sources { files: vec![Source { name: "stdin".into(), text }] },
        programs: Vec::new(),
        maps: Vec::new(),
        events: Vec::new(),
        losses: Vec::new(),
        params: Vec::new(),
        time_formats: Vec::new(),
        portable: None,
        cgroup_filters: Vec::new(),
        unwinds: false,
        config: plan::Config {
            max_cat_bytes: 0,
            max_probes: 0,
            each_place: false,
            missing_probes: plan::MissingProbes::Error,
            print_maps_on_exit: true,
            str_trunc_trailer: String::new(),
            perf_rb_pages: 0,
            log_size: 0,
            cpp_demangle: true,
            show_debug_info: false,
        },
    }
}

/// Version of the running kernel.
pub fn kernel() -> (u32, u32) {
    let name = nix::sys::utsname::uname().unwrap();
    let release = name.release().to_str().unwrap().to_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Whether the kernel runs loops through callbacks (`bpf_loop`, 5.17).
pub fn has_callbacks() -> bool {
    kernel() >= (5, 17)
}

/// Offset of `tgid` in this kernel's `struct task_struct`.
pub fn tgid_offset() -> u32 {
    use libbpf_rs::btf::types::{MemberAttr, Struct};
    let btf = libbpf_rs::btf::Btf::from_vmlinux().unwrap();
    let task = btf.type_by_name::<Struct<'_>>("task_struct").unwrap();
    let tgid = task.iter().find(|m| m.name.is_some_and(|n| n == "tgid")).unwrap();
    match tgid.attr {
        MemberAttr::Normal { offset } => offset / 8,
        MemberAttr::BitField { .. } => panic!("tgid is no bit field"),
    }
}

impl Case {
    /// A program with `words` words of results.
    pub fn new(words: u32) -> Case {
        Case::with_bytes(8 * words)
    }

    pub fn with_bytes(out_size: u32) -> Case {
        let out = Map {
            name: "out".into(),
            kind: MapKind::Array,
            key_size: 4,
            value_size: out_size,
            max_entries: 1,
            flags: 0,
        };
        let program = Program {
            name: "main".into(),
            kind: ProgramKind::Special,
            section: "raw_tp".into(),
            locals: Vec::new(),
            slots: vec![Slot { name: "zero".into(), size: 4, align: 4, home: Home::Stack }],
            ptrs: 1,
            lent: vec![],
            body: Vec::new(),
            result: 0,
            span: Span::new(0, 0, 5),
        };
        let module = Module {
            programs: vec![program],
            functions: vec![],
            foreign: vec![],
            maps: vec![out],
            losses: 0,
            rodata: Vec::new(),
            params: Vec::new(),
            relocations: Vec::new(),
            license: "GPL".into(),
            arch: Arch::find("x86_64").unwrap(),
        };
        Case { module, plan: empty_plan(), out_size }
    }

    pub fn local(&mut self, name: &str) -> LocalId {
        self.module.programs[0].locals.push(Local { name: name.into(), number: false });
        LocalId(self.module.programs[0].locals.len() as u32 - 1)
    }

    pub fn slot(&mut self, size: u32, align: u32, home: Home) -> SlotId {
        let slots = &mut self.module.programs[0].slots;
        slots.push(Slot { name: format!("slot{}", slots.len()), size, align, home });
        SlotId(slots.len() as u32 - 1)
    }

    pub fn ptr(&mut self) -> PtrId {
        self.module.programs[0].ptrs += 1;
        PtrId(self.module.programs[0].ptrs - 1)
    }

    pub fn map(&mut self, name: &str, kind: MapKind, sizes: [u32; 3]) -> MapId {
        let [key_size, value_size, max_entries] = sizes;
        let name = name.into();
        self.module.maps.push(Map { name, kind, key_size, value_size, max_entries, flags: 0 });
        MapId(self.module.maps.len() as u32 - 1)
    }

    pub fn rodata(&mut self, bytes: &[u8]) -> RodataId {
        let name = format!("bytes{}", self.module.rodata.len());
        self.module.rodata.push(Rodata { name, bytes: bytes.to_vec(), align: 8 });
        RodataId(self.module.rodata.len() as u32 - 1)
    }

    /// Sets the body; it finds [`OUT`] bound.
    pub fn body(&mut self, body: Vec<Stmt>) {
        self.module.programs[0].body = vec![
            store(Place::slot(OUT_KEY), 4, constant(0)),
            stmt(StmtKind::Lookup {
                map: OUT_MAP,
                key: Place::slot(OUT_KEY),
                cpu: None,
                value: OUT,
                found: body,
                missing: vec![],
            }),
        ];
    }

    /// Compiles for each cpu version that the kernel knows, runs each, and
    /// checks that they agree.
    pub fn run(&self, arguments: &[u64]) -> Outcome {
        self.run_all(&[arguments]).remove(0)
    }

    /// The same for many sets of arguments.
    pub fn run_all(&self, arguments: &[&[u64]]) -> Vec<Outcome> {
        let mut cpus = vec![Cpu::V2, Cpu::V3];
        if kernel() >= (6, 6) {
            cpus.push(Cpu::V4);
        }
        let mut outcomes = cpus.into_iter().map(|cpu| self.run_on(cpu, arguments));
        let first = outcomes.next().unwrap();
        for other in outcomes {
            assert_eq!(first, other, "cpu versions disagree");
        }
        first
    }

    pub fn compile(&self, cpu: Cpu) -> Vec<u8> {
        if let Err(e) = verify::verify(&self.module) {
            panic!("{e}\n{}", rtrace::ir::print(&self.module));
        }
        codegen::compile(&self.module, &self.plan, &Options { cpu, ..Options::default() })
            .expect("it compiles")
            .elf
    }

    pub fn asm(&self, cpu: Cpu) -> String {
        let text = codegen::asm(&self.module, &self.plan, &Options { cpu, ..Options::default() })
            .expect("it compiles");
        let end = text.rfind(".Lfunc_end").unwrap_or(text.len());
        let code = text[..end].lines().filter(|l| !l.starts_with("\t.") && !l.starts_with(".L"));
        code.collect::<Vec<_>>().join("\n")
    }

    pub fn load(&self, cpu: Cpu) -> libbpf_rs::Object {
        assert!(nix::unistd::geteuid().is_root(), "these tests load programs and need root");
        libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Warn, |_, text| print!("{text}"))));
        let elf = self.compile(cpu);
        let open = ObjectBuilder::default().open_memory(&elf).expect("libbpf reads the object");
        open.load().unwrap_or_else(|e| {
            panic!("the kernel refuses the object for {cpu:?}: {e}\n{}", self.asm(cpu))
        })
    }

    fn run_on(&self, cpu: Cpu, arguments: &[&[u64]]) -> Vec<Outcome> {
        let object = self.load(cpu);
        let out = object.maps().find(|m| m.name() == "out").unwrap();
        let program = object.progs_mut().find(|p| p.name() == "main").unwrap();
        let ring = self.module.maps.iter().find(|m| m.kind == MapKind::RingBuffer);
        let ring = ring.map(|r| {
            let map = object.maps().find(|m| m.name() == r.name.as_str()).unwrap();
            MapHandle::try_from(&map).unwrap()
        });
        arguments
            .iter()
            .map(|arguments| {
                out.update(&[0; 4], &vec![0xaa; self.out_size as usize], MapFlags::ANY).unwrap();
                let mut context = [0u8; 96];
                for (to, from) in context.chunks_exact_mut(8).zip(arguments.iter()) {
                    to.copy_from_slice(&from.to_le_bytes());
                }
                let input =
                    ProgramInput { context_in: Some(&mut context), ..ProgramInput::default() };
                let result = program.test_run(input).expect("it runs").return_value;
                let mut events = Vec::new();
                if let Some(ring) = &ring {
                    let mut buffers = RingBufferBuilder::new();
                    buffers
                        .add(ring, |bytes| {
                            events.push(bytes.to_vec());
                            0
                        })
                        .unwrap();
                    buffers.build().unwrap().consume().unwrap();
                }
                let out = out.lookup(&[0; 4], MapFlags::ANY).unwrap().unwrap();
                Outcome { out, result, events }
            })
            .collect()
    }
}
