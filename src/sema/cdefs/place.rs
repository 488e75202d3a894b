//! Where the members of a struct lie: the rules of the System V ABI and of gcc,
//! in bits and without a word about types.

/// A member to be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// Of its type, in bytes.
    pub(super) size: u64,
    pub(super) align: u64,
    /// Width of a bit field; 0 ends the unit before it.
    pub(super) bits: Option<u32>,
    /// It or its struct is packed.
    pub(super) packed: bool,
    /// Asked for by an attribute, in bytes.
    pub(super) aligned: Option<u64>,
    pub(super) named: bool,
}

/// What holds for the whole struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) union: bool,
    pub(super) aligned: Option<u64>,
    /// `#pragma pack`
    pub(super) pack: Option<u64>,
    /// Bit fields without a name align the struct too (AAPCS64 §8.1.8).
    pub(super) nameless_align: bool,
}

/// A struct with its members placed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// Where each member starts, in bits.
    pub(super) starts: Vec<u64>,
    pub(super) size: u64,
    pub(super) align: u64,
}

/// Largest struct, in bytes; what is larger is a mistake.
const MAX_SIZE: u64 = 1 << 30;

/// Places members in their order; `None` if the struct gets too large.
pub(super) fn place(fields: &[Field], rules: Rules) -> Option<Placed> {
    let (mut next, mut end, mut align) = (0_u64, 0_u64, 1_u64);
    let mut starts = Vec::with_capacity(fields.len());
    for field in fields {
        if rules.union {
            next = 0;
        }
        // `#pragma pack` limits whatever else was asked for, and for bit fields
        // it takes the place of `packed`.
        let limit = rules.pack.unwrap_or(u64::MAX);
        let packed = field.packed && (field.bits.is_none() || rules.pack.is_none());
        let natural = if packed { 1 } else { field.align };
        let aligned = field.aligned.unwrap_or(1).min(limit);
        let wanted = natural.min(limit).max(aligned);
        match field.bits {
            None => {
                next = next.next_multiple_of(wanted * 8);
                starts.push(next);
                next = next.checked_add(field.size.checked_mul(8)?)?;
                align = align.max(wanted);
            }
            Some(0) => {
                // No packing has an influence on these.
                next = next.next_multiple_of(field.align.max(field.aligned.unwrap_or(1)) * 8);
                starts.push(next);
                if rules.nameless_align {
                    align = align.max(wanted);
                }
            }
            Some(width) => {
                if field.aligned.is_some() {
                    next = next.next_multiple_of(aligned * 8);
                }
                let unit = field.align * 8;
                // It must not touch more units than its type has.
                let units = (next % unit + u64::from(width)).div_ceil(unit);
                let loose = field.packed || rules.pack.is_some();
                if !loose && units > field.size * 8 / unit {
                    next = next.next_multiple_of(unit);
                }
                starts.push(next);
                next += u64::from(width);
                if field.named || rules.nameless_align {
                    align = align.max(wanted);
                }
            }
        }
        end = end.max(next);
        if end > MAX_SIZE * 8 {
            return None;
        }
    }
    let align = align.max(rules.aligned.unwrap_or(1));
    let size = end.div_ceil(8).next_multiple_of(align);
    (size <= MAX_SIZE).then_some(Placed { starts, size, align })
}
