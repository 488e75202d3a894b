//! Arguments that are kept from the call of a function until it returns.
//!
//! Each block has a map of its own, keyed by the frame of the call: the place on the stack
//! where the return address is, the function, and for user code the thread. What is not taken
//! (since a thread ended inside a function) gives way to what is newer.

use super::program::{finish, start, without_body};
use super::{Lower, Shared, index};
use crate::config::Config;
use crate::host::Host;
use crate::ir::{
    self, Arg, BinaryOp as B, Expr, ForeignId, Helper, MapId, MapKind, Place, ProgramKind, StmtKind,
};
use crate::plan;
use crate::probes::{self, Instance, Keeper, Keeping};
use crate::sema::{Options, tree};

/// Calls under way whose arguments are kept.
const CALLS: u32 = 1 << 14;

/// What a program in a session gives at the entry so as not to run at the return.
const NO_RETURN: i64 = 1;

/// Where a program at the return finds what was kept.
pub(super) struct Kept {
    /// Nothing if a word of the session suffices.
    map: Option<MapId>,
    session: Option<Session>,
    /// The program at the entry, if it is another one.
    pub(super) program: Option<(ir::Program, plan::Program)>,
}

/// What the kernel tells a program that runs at both ends of a call.
#[derive(Clone, Copy)]
struct Session {
    is_return: Told,
    /// A word for each call.
    cookie: Told,
}

/// A function of the kernel, and whether it takes the context (from Linux 7.0 on).
#[derive(Clone, Copy)]
struct Told {
    function: ForeignId,
    takes_context: bool,
}

impl Told {
    fn args(self) -> Vec<Expr> {
        let context = Expr::Address(Place::context(0));
        if self.takes_context { vec![context] } else { Vec::new() }
    }
}

/// Prepares what a probe's keeper keeps, if it has one.
pub(super) fn prepare(
    shared: &mut Shared,
    probe: &tree::Probe,
    host: &Host,
    options: &Options,
    config: &Config,
) -> Option<Kept> {
    let keeper = probe.instance.keeper.as_ref()?;
    let number = shared.kept_maps;
    let (section, attach) = match &keeper.way {
        Keeping::Session => {
            let session = Some(Session {
                is_return: shared.told(probes::IS_RETURN, host)?,
                cookie: shared.told(probes::COOKIE, host)?,
            });
            let map = (keeper.registers.len() > 1).then(|| shared.kept_map(probe, keeper));
            return Some(Kept { map, session, program: None });
        }
        Keeping::Program { section, attach } => (section.clone(), attach.clone()),
    };
    let map = shared.kept_map(probe, keeper);
    let instance = Instance { section, attach, keeper: None, ..probe.instance.clone() };
    let entry = tree::Probe { span: probe.span, ..without_body(instance) };
    let mut l = start(shared, &entry, host, options, config);
    let body = l.block(|l| {
        l.scope_filter();
        let sp = l.stack_pointer();
        l.keep(keeper, map, sp);
    });
    let mut stmts = std::mem::take(&mut l.prologue);
    stmts.extend(body);
    let program = finish(l, format!("{}{number}", plan::KEEPER), stmts, &entry);
    Some(Kept { map: Some(map), session: None, program: Some(program) })
}

impl Shared {
    /// A map for what a keeper keeps.
    fn kept_map(&mut self, probe: &tree::Probe, keeper: &Keeper) -> MapId {
        let name = plan::kept_map(self.kept_maps);
        self.kept_maps += 1;
        self.maps.push(ir::Map {
            name,
            kind: MapKind::LruHash,
            key_size: key_size(probe.instance.kind, keeper),
            value_size: words(keeper) * 8,
            max_entries: CALLS,
            flags: 0,
        });
        MapId(index(self.maps.len() - 1))
    }

    /// A function of the kernel by its name.
    fn told(&mut self, name: &str, host: &Host) -> Option<Told> {
        let prototype = host.btf().ok()?.prototype(name)?;
        let takes_context = !prototype.params.is_empty();
        let known = self.foreign.iter().position(|f| f.name == name);
        let at = known.unwrap_or_else(|| {
            let name = name.to_owned();
            self.foreign.push(ir::Foreign { name, origin: ir::Origin::Kernel, prototype });
            self.foreign.len() - 1
        });
        Some(Told { function: ForeignId(index(at)), takes_context })
    }
}

/// Words that a map keeps of a call.
fn words(keeper: &Keeper) -> u32 {
    index(keeper.registers.len().max(1))
}

fn key_size(kind: ProgramKind, keeper: &Keeper) -> u32 {
    8 + if keeper.func.is_some() { 8 } else { 0 } + if kind == ProgramKind::Uprobe { 8 } else { 0 }
}

impl Lower<'_> {
    /// In a program that runs at both ends of a call: keeps the arguments at the entry, and ends
    /// there.
    pub(super) fn begin_session(&mut self, kept: &Kept) {
        let instance = self.instance;
        let (Some(keeper), Some(session)) = (&instance.keeper, kept.session) else { return };
        let Told { function, .. } = session.is_return;
        let returns = Expr::CallForeign { function, args: session.is_return.args() };
        let entry = Expr::binary(B::Eq, returns, Expr::Const(0));
        self.when(entry, |l| {
            // Who does not care for the call does not care for its return.
            l.left = NO_RETURN;
            l.wait_until_ready();
            l.scope_filter();
            l.left = instance.context.result;
            let word = match kept.map {
                None => keeper.registers.first().map(|r| l.context_word(*r, 8, false)),
                Some(map) => {
                    let sp = l.stack_pointer();
                    l.keep(keeper, map, sp.clone());
                    Some(sp)
                }
            };
            if let Some(word) = word {
                l.cookie(session, |l, cookie| l.store(&cookie, 8, word));
            }
            l.leave(Expr::Const(1));
        });
    }

    /// Takes what was kept when the function was called; ends the program if nothing was.
    pub(super) fn take_kept(&mut self, kept: &Kept) {
        let instance = self.instance;
        let Some(keeper) = &instance.keeper else { return };
        let words = keeper.registers.iter().map(|_| self.local("argument"));
        self.kept = words.collect();
        let frame = match kept.session {
            Some(session) => {
                let word = self.local("cookie");
                self.cookie(session, |l, cookie| l.set(word, Expr::load(cookie, 8, false)));
                Expr::Local(word)
            }
            // The return has taken its address off the stack.
            None => match self.host.arch().stack_argument_offset {
                0 => self.stack_pointer(),
                popped => {
                    Expr::binary(B::Sub, self.stack_pointer(), Expr::Const(i64::from(popped)))
                }
            },
        };
        let Some(map) = kept.map else {
            if let Some(local) = self.kept.first().copied() {
                self.set(local, frame);
            }
            return;
        };
        let (key, value) = (self.frame(keeper, frame), self.ptr());
        let found = self.block(|l| {
            for (n, local) in l.kept.clone().into_iter().enumerate() {
                l.set(local, Expr::load(Place::ptr(value).at(8 * index(n)), 8, false));
            }
        });
        let missing = self.block(|l| {
            l.loss(plan::Cause::ArgumentsGone, None);
            l.leave(Expr::Const(1));
        });
        self.emit(StmtKind::Lookup { map, key: key.clone(), cpu: None, value, found, missing });
        let taken = self.call(Helper::MapDeleteElem, vec![Arg::Map(map), Arg::Address(key)]);
        self.emit(StmtKind::Eval(taken));
    }

    /// Keeps the arguments of the call whose frame is there.
    fn keep(&mut self, keeper: &Keeper, map: MapId, frame: Expr) {
        let key = self.frame(keeper, frame);
        let value = self.temp("arguments", words(keeper) * 8);
        for (n, register) in keeper.registers.iter().enumerate() {
            let word = self.context_word(*register, 8, false);
            self.store(&value.at(8 * index(n)), 8, word);
        }
        if keeper.registers.is_empty() {
            self.store(&value, 8, Expr::Const(0));
        }
        let place = |place: Place| Arg::Address(place);
        let args = vec![Arg::Map(map), place(key), place(value), Arg::Value(Expr::Const(0))];
        // If that fails, the return finds nothing, and counts it.
        let kept = self.call(Helper::MapUpdateElem, args);
        self.emit(StmtKind::Eval(kept));
    }

    /// The word that the kernel keeps for the call at hand.
    fn cookie(&mut self, session: Session, body: impl FnOnce(&mut Self, Place)) {
        let (Told { function, .. }, value) = (session.cookie, self.ptr());
        let body = self.block(|l| body(l, Place::ptr(value)));
        let args = session.cookie.args();
        self.emit(StmtKind::Borrow { function, args, size: 8, value, body });
    }

    fn stack_pointer(&mut self) -> Expr {
        let arch = self.host.arch();
        let register = arch.register(arch.stack_pointer).expect("bug: no stack pointer");
        self.context_word(register, 8, false)
    }

    /// The key of the call whose return address is there.
    fn frame(&mut self, keeper: &Keeper, frame: Expr) -> Place {
        let key = self.temp("frame", key_size(self.kind(), keeper));
        self.store(&key, 8, frame);
        let mut at = 8;
        if keeper.func.is_some() {
            let function = self.call(Helper::GetFuncIp, vec![Arg::Context]);
            self.store(&key.at(at), 8, function);
            at += 8;
        }
        if self.kind() == ProgramKind::Uprobe {
            let thread = self.call(Helper::GetCurrentPidTgid, Vec::new());
            self.store(&key.at(at), 8, thread);
        }
        key
    }
}
