//! Parameters of user functions by name, where their calling convention puts
//! them when the function is called.

use std::collections::{HashMap, HashSet};

use super::{Access, Argument, in_register};
use crate::host::Host;
use crate::host::arch::Arch;
use crate::host::dwarf::Function;
use crate::host::elf::Binary;
use crate::types::{Space, StructRef, Type};

/// Structs up to this size are passed in registers (in bytes).
const IN_REGISTERS: u32 = 16;

/// The functions of a binary that start at some addresses, as its debug
/// information describes them.
///
/// # Errors
/// It has none, as a phrase.
pub(super) fn described(
    host: &Host,
    binary: &Binary,
    addresses: &HashSet<u64>,
) -> Result<HashMap<u64, Function>, String> {
    let info = host.user_types().debug_info(binary)?;
    Ok(info.functions(addresses))
}

/// Parameters as a program finds them. What is not in a register of its own
/// cannot be read, and says so when it is used.
pub(super) fn arguments(function: &Function, host: &Host) -> Vec<Argument> {
    let arch = host.arch();
    let mut registers = arch.arguments.iter();
    if function.hidden_result && !arch.large_by_reference {
        registers.next();
    }
    let mut list = Vec::new();
    for (n, parameter) in function.parameters.iter().enumerate() {
        let place = match &parameter.ty {
            Type::Unsupported(_) => Err(parameter.text.clone()),
            Type::Struct(s) => {
                let words = general_registers(s, host, arch);
                if s.size > IN_REGISTERS && arch.large_by_reference {
                    registers.next();
                } else if words > 0 && registers.len() >= words {
                    registers.nth(words - 1);
                }
                Err(format!("{} by value", parameter.text))
            }
            _ => registers
                .next()
                .and_then(|register| arch.register(register))
                .ok_or_else(|| format!("{}, and on the stack", parameter.text)),
        };
        let ty = match &place {
            Ok(_) => in_register(parameter.ty.clone(), Space::User),
            Err(what) => Type::Unsupported(what.clone()),
        };
        let name = match parameter.name.as_str() {
            "" => format!("arg{n}"),
            name => name.to_owned(),
        };
        let access = Access::Context { offset: place.unwrap_or(0), size: 8 };
        list.push(Argument { name, ty, access });
    }
    list
}

/// How many registers for integers a struct takes; floating-point numbers have
/// registers of their own.
fn general_registers(s: &StructRef, host: &Host, arch: &Arch) -> usize {
    if s.size > IN_REGISTERS {
        return 0;
    }
    let members = host.user_types().members(s.id);
    let words = s.size.div_ceil(8);
    let float = |ty: &Type| matches!(ty, Type::Unsupported(_));
    if arch.large_by_reference {
        let all = !members.is_empty() && members.iter().all(|m| float(&m.ty));
        return if all { 0 } else { words as usize };
    }
    let general = |word: &u32| {
        let mut inside = members.iter().filter(|m| m.offset / 8 == *word).peekable();
        inside.peek().is_none() || inside.any(|m| !float(&m.ty))
    };
    (0..words).filter(general).count()
}
