//! Matches that look the same to a block share one program.

use super::{Argument, Needs};

/// A match of a pattern and its typed arguments.
pub(super) struct Match<T> {
    pub(super) target: T,
    pub(super) args: Result<Vec<Argument>, String>,
}

/// Splits matches into groups in which every argument that the block uses has
/// the same type and place. Order is kept; a group's arguments are those of
/// its first match.
pub(super) fn by_arguments<T>(matches: Vec<Match<T>>, needs: &Needs) -> Vec<Vec<Match<T>>> {
    let mut groups: Vec<(Shape, Vec<Match<T>>)> = Vec::new();
    for found in matches {
        let shape = shape(&found.args, needs);
        match groups.iter_mut().find(|(s, _)| *s == shape) {
            Some((_, group)) => group.push(found),
            None => groups.push((shape, vec![found])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// The arguments that a block sees.
pub(super) type Shape = Result<Vec<Option<Argument>>, String>;

pub(super) fn shape(args: &Result<Vec<Argument>, String>, needs: &Needs) -> Shape {
    if !needs.args() {
        return Ok(Vec::new());
    }
    let args = args.as_ref().map_err(Clone::clone)?;
    if needs.whole_args {
        return Ok(args.iter().cloned().map(Some).collect());
    }
    let find = |name: &String| args.iter().find(|a| a.name == *name).cloned();
    Ok(needs.args_fields.iter().map(find).collect())
}
