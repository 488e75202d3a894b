//! Functions in debug information.

use std::collections::{HashMap, HashSet};

use super::{Entry, Session, Unit, UserBinary};
use crate::types::{Space, Type};

/// What is known of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    pub parameters: Vec<Parameter>,
    /// The caller says in a hidden parameter, before all others, where the
    /// result goes: it is too large for registers.
    pub hidden_result: bool,
}

/// A parameter of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Empty if nothing is said.
    pub name: String,
    pub ty: Type,
    /// The type in the words of C.
    pub text: String,
}

/// Results larger than this are not in registers (in bytes).
const IN_REGISTERS: u32 = 16;

impl UserBinary<'_> {
    /// The functions that start at some addresses.
    pub fn functions(&self, addresses: &HashSet<u64>) -> HashMap<u64, Function> {
        let session = self.info.session();
        let mut found = HashMap::new();
        for start in session.starts.iter().filter(|start| session.covers(**start, addresses)) {
            let Some(unit) = session.unit(*start) else { continue };
            let mut cursor = unit.entries();
            while let Ok(Some(entry)) = cursor.next_dfs() {
                if entry.tag() != gimli::DW_TAG_subprogram {
                    continue;
                }
                let low = entry.attr_value(gimli::DW_AT_low_pc);
                let low = low.and_then(|v| session.dwarf.attr_address(&unit, v).ok().flatten());
                if let Some(address) = low.filter(|a| addresses.contains(a))
                    && let Some(function) = self.function(&session, &unit, entry)
                {
                    found.insert(address, function);
                }
            }
        }
        found
    }

    fn function(
        &self,
        session: &Session<'_>,
        unit: &Unit<'_>,
        entry: &Entry<'_>,
    ) -> Option<Function> {
        let result = session.type_of(unit, entry).map(|at| self.describe(session, at, 0).ty);
        let hidden_result = match &result {
            Some(Type::Struct(s)) => s.size > IN_REGISTERS || session.by_reference(unit, entry),
            _ => false,
        };
        let children = session.children(Session::offset(unit, entry)?).into_iter();
        let parameters = children
            .filter(|(_, child)| child.tag() == gimli::DW_TAG_formal_parameter)
            .map(|(unit, child)| {
                let described = match session.type_of(&unit, &child) {
                    Some(at) => self.describe(session, at, 0),
                    None => self.void(),
                };
                let ty = match session.by_reference(&unit, &child) {
                    true => Type::ptr(described.ty, Space::User),
                    false => described.ty,
                };
                let name = session.name(&unit, &child).unwrap_or_default();
                Parameter { name, ty, text: described.text }
            })
            .collect();
        Some(Function { parameters, hidden_result })
    }

    /// In how many places a function of that name has been put in place of
    /// calls; `None` if there is no such function at all.
    pub fn inlined(&self, name: &str) -> Option<usize> {
        let session = self.info.session();
        let mut origins = Vec::new();
        session.each(&mut |unit, entry| {
            let inlined = entry.attr_value(gimli::DW_AT_inline).is_some();
            if entry.tag() == gimli::DW_TAG_subprogram
                && inlined
                && session.name(unit, entry).as_deref() == Some(name)
            {
                origins.extend(Session::offset(unit, entry));
            }
        });
        if origins.is_empty() {
            return None;
        }
        let mut count = 0;
        session.each(&mut |unit, entry| {
            if entry.tag() == gimli::DW_TAG_inlined_subroutine {
                let origin = Session::refers(unit, entry, gimli::DW_AT_abstract_origin);
                count += usize::from(origin.is_some_and(|at| origins.contains(&at)));
            }
        });
        Some(count)
    }
}

impl<'a> Session<'a> {
    /// Whether a unit may have code at one of some addresses.
    fn covers(&self, start: usize, addresses: &HashSet<u64>) -> bool {
        let Some(unit) = self.unit(start) else { return false };
        let Ok(mut ranges) = self.dwarf.unit_ranges(&unit) else { return true };
        let mut some = false;
        while let Ok(Some(range)) = ranges.next() {
            some = true;
            if addresses.iter().any(|a| (range.begin..range.end).contains(a)) {
                return true;
            }
        }
        !some
    }

    /// Shows every entry.
    fn each(&self, show: &mut dyn FnMut(&Unit<'a>, &Entry<'a>)) {
        for start in self.starts {
            let Some(unit) = self.unit(*start) else { continue };
            let mut cursor = unit.entries();
            while let Ok(Some(entry)) = cursor.next_dfs() {
                show(&unit, entry);
            }
        }
    }

    /// Whether values of the type of an entry are passed by their addresses.
    pub(super) fn by_reference(&self, unit: &Unit<'_>, entry: &Entry<'_>) -> bool {
        let Some((_, ty)) = self.type_of(unit, entry).and_then(|at| self.entry(at)) else {
            return false;
        };
        let convention = ty.attr_value(gimli::DW_AT_calling_convention);
        // DW_CC_pass_by_reference of DWARF 5.
        convention.and_then(|v| v.udata_value()) == Some(4)
    }
}
