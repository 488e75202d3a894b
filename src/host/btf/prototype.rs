//! Functions as whoever links or loads a call of them compares them.

use super::raw::{Entry, Kind, Kinds};
use super::{Btf, DEPTH, Ref};
use crate::ir::{CType, Prototype};

/// `BTF_FUNC_GLOBAL` of linux/btf.h, where a function has its number of elements.
const GLOBAL: u32 = 1;

impl Btf {
    /// What a function takes and gives. Nothing if there is none, or if something
    /// of it does not fit a register.
    pub fn prototype(&self, name: &str) -> Option<Prototype> {
        let (_, function) = self.function_entry(name)?;
        let proto = self.reference(0, function.size_or_type);
        let entry = self.entry(proto).filter(|p| p.kind == Kind::FuncProto)?;
        let fits = |ty: &CType| ty.register().is_some();
        let result = self.c_type(self.reference(proto.module, entry.size_or_type), 0)?;
        let params = (0..entry.vlen as usize).map(|i| {
            let name = self.string(proto, self.word(proto, &entry, 2 * i)?);
            let ty = self.reference(proto.module, self.word(proto, &entry, 2 * i + 1)?);
            Some((name.to_owned(), self.c_type(ty, 0).filter(fits)?))
        });
        let params = params.collect::<Option<Vec<_>>>()?;
        (fits(&result) || result == CType::Void).then_some(Prototype { result, params })
    }

    /// Whether other objects may call a function.
    pub fn is_global(&self, name: &str) -> bool {
        self.function_entry(name).is_some_and(|(_, entry)| entry.vlen == GLOBAL)
    }

    /// The entry of a function of the first table.
    fn function_entry(&self, name: &str) -> Option<(Ref, Entry)> {
        let id = self.base.find(None, Kinds::of(Kind::Func), name)?;
        let at = Ref { module: 0, id };
        Some((at, self.entry(at)?))
    }

    fn c_type(&self, at: Ref, depth: u32) -> Option<CType> {
        if at.id == 0 {
            return Some(CType::Void);
        }
        let (at, entry) = self.resolve(at).filter(|_| depth < DEPTH)?;
        if at.id == 0 {
            return Some(CType::Void);
        }
        let name = self.string(at, entry.name).to_owned();
        let size = || u8::try_from(entry.size_or_type).ok().filter(|s| matches!(s, 1 | 2 | 4 | 8));
        Some(match entry.kind {
            Kind::Int => {
                let encoding = self.word(at, &entry, 0)? >> 24 & 0xf;
                CType::Int {
                    name,
                    size: size()?,
                    signed: encoding & 1 != 0,
                    bool: encoding & 4 != 0,
                }
            }
            Kind::Enum | Kind::Enum64 => {
                CType::Enum { name, size: size()?, signed: entry.kind_flag }
            }
            Kind::Ptr => {
                let to = self.reference(at.module, entry.size_or_type);
                let to = self.c_type(to, depth + 1);
                // What it points to in particular does not matter to the kernel.
                CType::Pointer(Box::new(to.unwrap_or(CType::Void)))
            }
            Kind::Struct | Kind::Union => {
                CType::Composite { union: entry.kind == Kind::Union, name }
            }
            Kind::Fwd => CType::Composite { union: entry.kind_flag, name },
            _ => return None,
        })
    }
}
