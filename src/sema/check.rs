//! The type checker: one walk per instance of a probe, repeated until the
//! types of variables and maps no longer change.
//!
//! Inference is whole-program and independent of order: the type of a variable
//! or map is the promotion of everything assigned to it. The tables of those
//! types live across rounds; trees and diagnostics are those of the last one.

use std::collections::{HashMap, HashSet};

use super::Options;
use super::cdefs::Definitions;
use super::expand::{Expansions, written};
use super::function::Signature;
use super::promote::Joined;
use super::tree::{self, Expr, MapId, VarId};
use crate::builtins::{self, Call};
use crate::config::Config;
use crate::diag::{Diagnostic, Diagnostics, Warning};
use crate::host::Host;
use crate::ir::Foreign;
use crate::parser::ast::{self, Item};
use crate::plan::portable::Lookup;
use crate::probes::Instance;
use crate::source::{Sources, Span};
use crate::types::{Aggregation, Type};

/// Rounds after which types that still change are given up (language.md §26).
const MAX_ROUNDS: usize = 50;

/// What is known of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct MapState {
    /// Without the `@`.
    pub name: String,
    /// Where it is first used.
    pub span: Span,
    /// Whether it has keys, and where that was seen first.
    pub keyed: Option<(bool, Span)>,
    pub key: Joined,
    pub key_span: Span,
    pub value: Joined,
    pub value_span: Span,
    /// The aggregation that it holds, and where that was assigned first.
    pub aggregation: Option<(Aggregation, Span)>,
    /// Something stores into it.
    pub assigned: bool,
    /// A single element is read.
    pub read: bool,
    pub declared: Option<Declared>,
}

/// `let @m = hash(N)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    pub lru: bool,
    pub per_cpu: bool,
    pub max_entries: u64,
    pub span: Span,
}

/// The checked script.
pub(super) struct CheckedTree {
    pub probes: Vec<tree::Probe>,
    /// Each after those that it calls.
    pub functions: Vec<(tree::FunctionId, tree::Function)>,
    pub foreign: Vec<Foreign>,
    pub maps: Vec<MapState>,
    pub time_formats: Vec<String>,
    pub cgroup_filters: Vec<String>,
    /// Parameters that the script takes.
    pub named: Vec<builtins::Named>,
    /// What is looked up where an object is loaded.
    pub lookups: Vec<Lookup>,
    /// Limits of the user stacks to be unwound by DWARF.
    pub unwinds: Vec<u32>,
}

/// Working state of the checker.
pub struct Checker<'a> {
    pub(crate) host: &'a Host,
    pub(crate) options: &'a Options,
    pub(crate) config: &'a Config,
    pub(super) cdefs: &'a Definitions,
    texts: &'a Sources,
    pub(super) expansions: &'a Expansions,
    /// Casts to the type that the value has already, by their places: what to say of
    /// them, unless another instance of the probe needs them.
    pub(super) casts: HashMap<Span, Option<Diagnostic>>,
    pub(crate) diags: Diagnostics,
    pub(super) maps: Vec<MapState>,
    map_index: HashMap<String, MapId>,
    /// Types of the variables of each instance.
    pub(super) variables: HashMap<VarKey, Joined>,
    /// Variables that are used outside of the block that assigns them, by
    /// probe and name: where.
    pub(super) hoisted: HashMap<(usize, String), Span>,
    pub(super) changed: bool,
    /// `strftime` formats and `cgroup_path` filters, by index.
    pub(crate) time_formats: Vec<String>,
    pub(crate) cgroup_filters: Vec<String>,
    pub(crate) unwinds: Vec<u32>,
    /// Named parameters that the script asks for.
    pub(crate) named: Vec<builtins::Named>,
    /// What is looked up where an object is loaded.
    pub(super) lookups: Vec<Lookup>,
    pub(super) functions: Vec<Signature>,
    /// Functions defined elsewhere that the script calls.
    pub(super) foreign: Vec<Foreign>,
    /// Calls in functions: caller, callee, place.
    pub(super) calls: Vec<(tree::FunctionId, tree::FunctionId, Span)>,
    // Of the probe or function at hand:
    /// The number of its variables in `variables`: probes, then functions.
    pub(super) probe: usize,
    pub(super) function: Option<tree::FunctionId>,
    pub(crate) instance: &'a Instance,
    pub(super) locals: Vec<tree::Var>,
    pub(super) scopes: Vec<HashMap<String, VarId>>,
    /// Names that were assigned to, also in blocks that are over.
    pub(super) assigned: HashSet<String>,
    /// Variables that nothing is assigned to.
    pub(super) unassigned: Vec<(String, Span)>,
    /// Variables to be set to zero first.
    pub(super) cleared: Vec<VarId>,
    /// Number of open loops.
    pub(super) loops: usize,
    /// C constants being expanded, against recursion.
    pub(super) expanding: Vec<String>,
}

/// What a variable is known by from round to round: probe or function, place of
/// its declaration, and its name, since the copies of a macro share places.
pub(super) type VarKey = (usize, Span, String);

pub(super) fn var_key(probe: usize, var: &tree::Var) -> VarKey {
    (probe, var.span, var.name.clone())
}

/// Checks every probe and function; `outside` is what functions have of a probe.
pub(super) fn check<'a>(
    script: &ast::Script,
    (texts, expansions): (&'a Sources, &'a Expansions),
    (probes, outside): (&'a [(&ast::Probe, Instance)], &'a Instance),
    host: &'a Host,
    options: &'a Options,
    config: &'a Config,
    cdefs: &'a Definitions,
) -> (CheckedTree, Diagnostics) {
    let mut checker = Checker {
        host,
        options,
        config,
        cdefs,
        texts,
        expansions,
        casts: HashMap::new(),
        diags: Diagnostics::default(),
        maps: Vec::new(),
        map_index: HashMap::new(),
        variables: HashMap::new(),
        hoisted: HashMap::new(),
        changed: false,
        time_formats: Vec::new(),
        cgroup_filters: Vec::new(),
        unwinds: Vec::new(),
        named: Vec::new(),
        lookups: Vec::new(),
        functions: Vec::new(),
        foreign: Vec::new(),
        calls: Vec::new(),
        probe: 0,
        function: None,
        instance: outside,
        locals: Vec::new(),
        scopes: Vec::new(),
        assigned: HashSet::new(),
        unassigned: Vec::new(),
        cleared: Vec::new(),
        loops: 0,
        expanding: Vec::new(),
    };
    checker.declare_functions(script);
    let mut declarations = std::mem::take(&mut checker.diags);
    let mut bodies = Vec::new();
    for item in &script.items {
        match item {
            Item::MapDecl(decl) => checker.declare_map(decl, &mut declarations),
            Item::Function(f) => bodies.push(f),
            Item::Macro(_) | Item::Probe(_) => {}
        }
    }
    let mut trees: Vec<tree::Probe> = Vec::new();
    let mut functions: Vec<tree::Function> = Vec::new();
    for _ in 0..MAX_ROUNDS {
        checker.changed = false;
        checker.diags = declarations.clone();
        checker.calls.clear();
        checker.casts.clear();
        trees.clear();
        functions.clear();
        for (index, (probe, instance)) in probes.iter().enumerate() {
            checker.probe = index;
            checker.instance = instance;
            trees.push(checker.check_probe(probe));
        }
        checker.instance = outside;
        for (id, function) in bodies.iter().enumerate() {
            checker.probe = probes.len() + id;
            functions.push(checker.check_function(id, function));
        }
        let programs = trees.iter().chain(functions.iter().map(|f| &f.program));
        if !checker.changed && !checker.settle_unassigned(programs) {
            break;
        }
    }
    let order = checker.call_order();
    checker.warn_unassigned();
    for warning in std::mem::take(&mut checker.casts).into_values().flatten() {
        checker.diags.push(warning);
    }
    checker.check_maps();
    if !checker.diags.has_errors() {
        builtins::check_named(&checker.named, options, &mut checker.diags);
    }
    let functions = order.into_iter().filter_map(|id| Some((id, functions.get(id)?.clone())));
    let tree = CheckedTree {
        probes: trees,
        functions: functions.collect(),
        foreign: checker.foreign,
        maps: checker.maps,
        time_formats: checker.time_formats,
        cgroup_filters: checker.cgroup_filters,
        named: checker.named,
        lookups: checker.lookups,
        unwinds: checker.unwinds,
    };
    (tree, checker.diags)
}

impl<'a> Checker<'a> {
    fn check_probe(&mut self, probe: &ast::Probe) -> tree::Probe {
        self.locals = Vec::new();
        self.scopes = vec![HashMap::new()];
        self.assigned.clear();
        self.loops = 0;
        let predicate = probe.predicate.as_ref().map(|p| self.condition(p));
        let body = self.body(&probe.block);
        let vars = self.settled_variables();
        tree::Probe { instance: self.instance.clone(), vars, predicate, body, span: probe.span }
    }

    /// The variables of the probe or function at hand, with their types so far.
    pub(super) fn settled_variables(&mut self) -> Vec<tree::Var> {
        let mut vars = std::mem::take(&mut self.locals);
        for var in &mut vars {
            if let Some(joined) = self.variables.get(&var_key(self.probe, var)) {
                var.ty = joined.ty.clone();
            }
            if var.ty == Type::Unknown {
                var.ty = Type::INT64;
            }
        }
        vars
    }

    fn declare_map(&mut self, decl: &ast::MapDecl, diags: &mut Diagnostics) {
        let (lru, per_cpu) = match decl.kind.node.as_str() {
            "hash" => (false, false),
            "lruhash" => (true, false),
            "percpuhash" => (false, true),
            "percpulruhash" => (true, true),
            other => {
                diags.push(
                    Diagnostic::error(decl.kind.span, format!("unknown kind of map `{other}`"))
                        .or_nearest(
                            decl.kind.span,
                            other,
                            ["hash", "lruhash", "percpuhash", "percpulruhash"],
                        )
                        .help("write `hash`, `lruhash`, `percpuhash` or `percpulruhash`"),
                );
                return;
            }
        };
        if decl.max_entries.node == 0 || decl.max_entries.node > 1 << 31 {
            diags.push(
                Diagnostic::error(decl.max_entries.span, "a map has from 1 to 2147483648 entries")
                    .help("a map that is full drops updates; a `lruhash` drops what was not used for long"),
            );
            return;
        }
        let id = self.map_id(&decl.name.node, decl.span);
        let declared =
            Declared { lru, per_cpu, max_entries: decl.max_entries.node, span: decl.span };
        if let Some(map) = self.maps.get_mut(id) {
            if let Some(first) = &map.declared {
                diags.push(
                    Diagnostic::error(decl.span, format!("`@{}` is declared twice", map.name))
                        .label(first.span, "first here")
                        .help("take one of the declarations out"),
                );
                return;
            }
            map.declared = Some(declared);
        }
    }

    /// Makes maps and variables that are never assigned integers, whose reads give zero; says
    /// whether there were any, for then what reads them has a type only now.
    fn settle_unassigned<'t>(&mut self, programs: impl Iterator<Item = &'t tree::Probe>) -> bool {
        // What they would have been assigned is wrong; more errors would only follow from that.
        if self.diags.has_errors() {
            return false;
        }
        let mut settled = false;
        for (probe, tree) in programs.enumerate() {
            for var in &tree.vars {
                let key = var_key(probe, var);
                let joined = self.variables.entry(key).or_insert(Joined::UNKNOWN);
                if joined.ty == Type::Unknown {
                    joined.ty = Type::INT64;
                    self.unassigned.push((var.name.clone(), var.span));
                    settled = true;
                }
            }
        }
        for map in &mut self.maps {
            for ty in [&mut map.value.ty, &mut map.key.ty] {
                if *ty == Type::Unknown {
                    *ty = Type::INT64;
                    settled = true;
                }
            }
        }
        settled
    }

    fn warn_unassigned(&mut self) {
        if self.diags.has_errors() {
            return;
        }
        for (name, span) in std::mem::take(&mut self.unassigned) {
            let d = Diagnostic::warning(
                Warning::NeverAssigned,
                span,
                format!("nothing is assigned to `${}`", written(&name)),
            )
            .at("it is 0");
            self.diags.push(d);
        }
    }

    /// What can only be said when all uses of a map are known.
    fn check_maps(&mut self) {
        for map in self.maps.clone() {
            let name = format!("@{}", map.name);
            if map.keyed.is_none() && map.declared.is_none()
                || map.declared.is_none() && !map.assigned && !map.read
            {
                let mut d = Diagnostic::error(map.span, format!("undefined map `{name}`"))
                    .at("nothing is ever stored in it");
                let others: Vec<String> = self
                    .maps
                    .iter()
                    .filter(|m| m.assigned)
                    .map(|m| format!("@{}", m.name))
                    .collect();
                let start = map.span.start as usize;
                let written = Span::new(map.span.file, start, start + name.len());
                d = d.or_nearest(written, &name, others.iter().map(String::as_str));
                self.diags.push(d);
                continue;
            }
            let Some(declared) = &map.declared else { continue };
            if map.keyed.is_none() {
                self.diags.push(
                    Diagnostic::warning(
                        Warning::UnusedMap,
                        declared.span,
                        format!("`{name}` is declared and never used"),
                    )
                    .help("take the declaration out, or store something in the map"),
                );
            } else if map.assigned && declared.per_cpu != map.aggregation.is_some() {
                let (has, wants) = if declared.per_cpu {
                    ("plain values", "`hash` or `lruhash`")
                } else {
                    ("an aggregation", "`percpuhash` or `percpulruhash`")
                };
                self.diags.push(
                    Diagnostic::error(declared.span, format!("`{name}` is of the wrong kind"))
                        .label(map.value_span, format!("it holds {has}"))
                        .help(format!("declare it as {wants}")),
                );
            }
        }
    }

    /// The id of a map, made at its first use.
    pub(super) fn map_id(&mut self, name: &str, span: Span) -> MapId {
        if let Some(id) = self.map_index.get(name) {
            return *id;
        }
        let id = self.maps.len();
        self.maps.push(MapState {
            name: name.to_string(),
            span,
            keyed: None,
            key: Joined::UNKNOWN,
            key_span: span,
            value: Joined::UNKNOWN,
            value_span: span,
            aggregation: None,
            assigned: false,
            read: false,
            declared: None,
        });
        self.map_index.insert(name.to_string(), id);
        self.changed = true;
        id
    }

    /// A map by its id.
    pub(crate) fn map(&self, id: MapId) -> &MapState {
        self.maps.get(id).expect("bug: map ids come from the table")
    }

    pub(super) fn map_mut(&mut self, id: MapId) -> &mut MapState {
        self.maps.get_mut(id).expect("bug: map ids come from the table")
    }

    /// Index of a text in a list, added if it is new.
    pub(crate) fn intern(list: &mut Vec<String>, text: &str) -> i64 {
        let index = list.iter().position(|t| t == text).unwrap_or_else(|| {
            list.push(text.to_string());
            list.len() - 1
        });
        i64::try_from(index).unwrap_or(i64::MAX)
    }

    /// Reports an error and gives the node that stands for it.
    pub(crate) fn fail(&mut self, diagnostic: Diagnostic) -> Expr {
        let span = diagnostic.primary.as_ref().map_or(Span::default(), |p| p.0);
        self.diags.push(diagnostic);
        Expr::error(span)
    }

    /// The characters of a place.
    pub(crate) fn text_at(&self, span: Span) -> &'a str {
        self.texts.slice(span)
    }

    /// Whether the statement at hand is in a loop.
    pub(crate) fn in_loop(&self) -> bool {
        self.loops > 0
    }

    /// A row of the builtin table without a checker.
    pub(crate) fn bug(&mut self, call: &Call<'_>) -> Expr {
        unreachable!("bug: builtin `{}` has no checker", call.builtin.name)
    }
}
