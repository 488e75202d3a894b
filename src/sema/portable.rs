//! What an object for several kernels says of its attach points, so that they are matched with the
//! machine that loads it ([`crate::probes::resolve`]).

use crate::host::features::Feature;
use crate::ir::{self, Expr, Helper, Module, Rounds, StmtKind};
use crate::parser::ast::{AttachPoint, Item};
use crate::plan::portable::{Point, PointArgument};
use crate::plan::{Attach, Plan};
use crate::probes::Needs;
use crate::source::Span;

use super::{Checked, Options, needs};

/// Adds attach points and what is required of a kernel to the plan of a lowered script.
pub(super) fn complete(checked: &mut Checked, items: &[Item], options: &Options) {
    let plan = &mut checked.plan;
    let mut points = Points { list: std::mem::take(&mut plan.open().points) };
    let shared = spans_of_several(plan);
    for program in &mut plan.programs {
        let mut own = Vec::new();
        for link in &program.attach {
            let found = items.iter().find_map(|item| match item {
                Item::Probe(probe) => {
                    let point = probe.attach_points.iter().find(|p| p.span == link.span)?;
                    Some((point, needs::of(probe)))
                }
                _ => None,
            });
            // What serves rtrace itself is in no script.
            let Some((point, needs)) = found else { continue };
            for (text, first) in texts(link, point, shared.contains(&link.span)) {
                let at = points.at(link.span, first, &text);
                let label = point.label.as_ref().map(|l| l.node.clone());
                points.fill(at, label, text, &needs);
                if !own.contains(&at) {
                    own.push(at);
                }
            }
        }
        program.points = own;
    }
    let requires = features(&checked.module).iter().map(|f| f.info().name.to_owned()).collect();
    let portable = plan.open();
    portable.points = points.list;
    portable.requires = requires;
    portable.params = options.params.clone();
    portable.unsafe_mode = options.unsafe_mode;
}

/// The attach points whose matches became several programs.
fn spans_of_several(plan: &Plan) -> Vec<Span> {
    let of = |p: &crate::plan::Program| {
        let mut spans: Vec<Span> = p.attach.iter().map(|a| a.span).collect();
        spans.dedup();
        spans
    };
    let mut all: Vec<Span> = plan.programs.iter().flat_map(of).collect();
    all.sort_unstable();
    let repeated = all.windows(2).filter_map(|pair| match pair {
        [a, b] if a == b => Some(*a),
        _ => None,
    });
    repeated.collect()
}

/// What is to be matched for a link, with the name of the match that stands for it here.
fn texts<'a>(link: &'a Attach, point: &AttachPoint, several: bool) -> Vec<(String, &'a str)> {
    let first = link.probes.first().unwrap_or("");
    match several && point.label.is_none() {
        true => link.probes.iter().map(|name| (name.to_owned(), name)).collect(),
        false => vec![(point.text.clone(), first)],
    }
}

struct Points {
    list: Vec<Point>,
}

impl Points {
    /// The index of a point. Those that programs ask about have one already, by the name of a match.
    fn at(&mut self, span: Span, first: &str, text: &str) -> u32 {
        let same = |p: &Point| p.span == span && (p.text == first || p.text == text);
        let at = self.list.iter().position(same).unwrap_or_else(|| {
            self.list.push(Point {
                label: None,
                text: first.to_owned(),
                span,
                needs: Needs::default(),
                arguments: Vec::new(),
            });
            self.list.len() - 1
        });
        super::lower::index(at)
    }

    fn fill(&mut self, at: u32, label: Option<String>, text: String, needs: &Needs) {
        if let Some(point) = self.list.get_mut(at as usize) {
            point.label = label;
            point.text = text;
            point.needs = needs.clone();
        }
    }
}

/// An argument that a program finds where the machine says.
pub(crate) fn asked(name: &str) -> PointArgument {
    PointArgument { name: name.to_owned(), place: String::new() }
}

/// Features that programs rely on.
fn features(module: &Module) -> Vec<Feature> {
    let mut found = Vec::new();
    let mut add = |feature| {
        if let Some(feature) = feature
            && !found.contains(&feature)
        {
            found.push(feature);
        }
    };
    // The walk over expressions may change them.
    let mut bodies: Vec<ir::Program> = module.bodies().cloned().collect();
    for stmt in bodies.iter_mut().flat_map(|p| &mut p.body) {
        stmt.each_expr(&mut |expr| {
            if let Expr::Call { helper, .. } = expr {
                add(of_helper(*helper));
            }
        });
        stmt.each_stmt(&mut |stmt| match stmt.kind {
            StmtKind::ForMap { .. } => add(Some(Feature::ForEachMapElem)),
            StmtKind::ForRange { how: Rounds::Callback, .. } => add(Some(Feature::Loop)),
            StmtKind::Lookup { cpu: Some(_), .. } => add(Some(Feature::LookupPercpu)),
            _ => {}
        });
    }
    found
}

/// The feature that a helper is, if older kernels lack it.
fn of_helper(helper: Helper) -> Option<Feature> {
    Some(match helper {
        Helper::KtimeGetTaiNs => Feature::KtimeTai,
        Helper::GetCurrentTaskBtf => Feature::CurrentTaskBtf,
        Helper::GetFuncIp => Feature::FuncIp,
        Helper::GetFuncRet => Feature::FuncArg,
        Helper::GetAttachCookie => Feature::AttachCookie,
        Helper::GetSocketCookie => Feature::SocketCookie,
        Helper::DPath => Feature::DPath,
        Helper::OverrideReturn => Feature::OverrideReturn,
        Helper::ProbeWriteUser => Feature::ProbeWriteUser,
        _ => return None,
    })
}
