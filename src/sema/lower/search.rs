//! Strings at run time: how long they are, what is in them, one behind the
//! other. Loops here are as the verifier of every supported kernel can follow
//! them; see [`Lower::bounded`].

use super::Lower;
use crate::ir::{Arg, Base, BinaryOp as B, Expr, Helper, Place, Rounds, StmtKind};
use crate::sema::tree;

/// Rounds that one `bpf_loop` makes at most (`BPF_MAX_LOOPS`, kernel/bpf/verifier.c).
const MAX_ROUNDS: u32 = 1 << 23;

impl Lower<'_> {
    /// The bytes of a string, where the program may read them at any offset.
    fn scannable(&mut self, e: &tree::Expr) -> Place {
        let place = self.place(e);
        if place.index.is_some() || place.base == Base::Context {
            let size = e.ty.size();
            let copy = self.temp("text", size);
            self.emit(StmtKind::Copy { to: copy.clone(), from: place, size });
            return self.indexable(&copy);
        }
        self.indexable(&place)
    }

    /// Bytes of a string before its NUL.
    pub(crate) fn text_length(&mut self, e: &tree::Expr) -> Expr {
        let size = e.ty.size();
        let len = self.local("len");
        self.set(len, Expr::Const(0));
        if size == 0 {
            return Expr::Local(len);
        }
        let place = self.place(e);
        let copy = self.temp("copy", size);
        let args = vec![
            Arg::Address(copy),
            Arg::Value(Expr::Const(i64::from(size))),
            Arg::Value(Expr::Address(place.clone())),
        ];
        let read = self.call(Helper::ProbeReadKernelStr, args);
        let read = self.spill("read", read);
        let some = Expr::binary(B::SGt, read.clone(), Expr::Const(0));
        self.when(some, |l| {
            l.set(len, Expr::binary(B::Sub, read.clone(), Expr::Const(1)));
        });
        // The helper puts its NUL even where there is none.
        let whole = Expr::binary(B::Eq, read, Expr::Const(i64::from(size)));
        self.when(whole, |l| {
            let last = Expr::load(place.at(size - 1), 1, false);
            let full = Expr::binary(B::Ne, last, Expr::Const(0));
            l.when(full, |l| l.set(len, Expr::Const(i64::from(size))));
        });
        Expr::Local(len)
    }

    /// Where a string first occurs in another, or -1.
    pub(crate) fn find_text(&mut self, text: &tree::Expr, part: &tree::Expr) -> Expr {
        // In memory whose contents the verifier does not follow: it would go
        // on from here once for every place there may be.
        let found = self.temp("found", 8);
        let found = self.indexable(&found);
        let store = |l: &mut Lower<'_>, value: Expr| {
            l.emit(StmtKind::Store { to: found.clone(), size: 8, value });
        };
        store(self, Expr::Const(-1));
        self.search(text, part, &store);
        Expr::load(found.clone(), 8, false)
    }

    /// 1 if a string occurs in another.
    pub(crate) fn contains_text(&mut self, text: &tree::Expr, part: &tree::Expr) -> Expr {
        let found = self.local("contains");
        self.set(found, Expr::Const(0));
        self.search(text, part, &|l, _| l.set(found, Expr::Const(1)));
        Expr::Local(found)
    }

    /// Gives the place of the first occurrence, if there is one, to `found`.
    fn search(
        &mut self,
        text: &tree::Expr,
        part: &tree::Expr,
        found: &dyn Fn(&mut Lower<'_>, Expr),
    ) {
        if text.ty.size() == 0 {
            return;
        }
        match part.text() {
            Some(bytes) => self.search_literal(text, bytes, found),
            None => self.search_text(text, part, found),
        }
    }

    /// By an automaton: each byte of the text is looked at once.
    fn search_literal(
        &mut self,
        text: &tree::Expr,
        part: &[u8],
        found: &dyn Fn(&mut Lower<'_>, Expr),
    ) {
        let size = text.ty.size();
        let automaton = Automaton::of(part);
        let place = self.scannable(text);
        let classes = Place::rodata(self.shared.constant(automaton.classes.to_vec()));
        let width = automaton.width();
        let cells = super::index(automaton.next.len());
        let next = self
            .cells(automaton.next.iter().map(|n| u64::from(*n)), usize::from(automaton.width()));
        let next = Place::rodata(self.shared.constant(next));
        let wanted = Expr::Const(i64::try_from(part.len()).unwrap_or(i64::MAX));
        let state = self.local("state");
        self.set(state, Expr::Const(0));
        let i = self.local("i");
        let body = self.block(|l| {
            let byte = Expr::load(place.indexed(Expr::Local(i), 1, size), 1, false);
            let byte = l.spill("byte", byte);
            let end = Expr::binary(B::Eq, byte.clone(), Expr::Const(0));
            l.when(end, |l| l.emit(StmtKind::Break));
            let class = Expr::load(classes.indexed(byte, 1, 256), 1, false);
            let row = Expr::binary(B::Mul, Expr::Local(state), Expr::Const(automaton.row()));
            let cell = Expr::binary(B::Add, row, class);
            let cell = Expr::load(next.indexed(cell, u32::from(width), cells), width, false);
            l.set(state, cell);
            let matched = Expr::binary(B::Eq, Expr::Local(state), wanted.clone());
            l.when(matched, |l| {
                let behind = Expr::binary(B::Add, Expr::Local(i), Expr::Const(1));
                found(l, Expr::binary(B::Sub, behind, wanted.clone()));
                l.emit(StmtKind::Break);
            });
        });
        self.bounded(i, size, body);
    }

    /// Compares at every place; a loop whose rounds are not known.
    fn search_text(
        &mut self,
        text: &tree::Expr,
        part: &tree::Expr,
        found: &dyn Fn(&mut Lower<'_>, Expr),
    ) {
        let (m, n) = (text.ty.size(), part.ty.size());
        let (x, y) = (self.scannable(text), self.scannable(part));
        let (start, same, round) = (self.local("start"), self.local("same"), self.local("round"));
        self.set(start, Expr::Const(0));
        self.set(same, Expr::Const(0));
        // A byte, or zero behind the end.
        let byte = |l: &mut Lower<'_>, place: &Place, at: Expr, size: u32| {
            let at = l.spill("at", at);
            let inside = Expr::binary(B::ULt, at.clone(), Expr::Const(i64::from(size)));
            let byte = Expr::load(place.indexed(at, 1, size), 1, false);
            let (then, els) = (Box::new(byte), Box::new(Expr::Const(0)));
            l.spill("byte", Expr::Select { cond: Box::new(inside), then, els })
        };
        let body = self.callback(|l| {
            let wanted = byte(l, &y, Expr::Local(same), n);
            let done = Expr::binary(B::Eq, wanted.clone(), Expr::Const(0));
            l.when(done, |l| {
                found(l, Expr::Local(start));
                l.emit(StmtKind::Break);
            });
            let at = Expr::binary(B::Add, Expr::Local(start), Expr::Local(same));
            let there = byte(l, &x, at, m);
            let end = Expr::binary(B::Eq, there.clone(), Expr::Const(0));
            l.when(end, |l| l.emit(StmtKind::Break));
            l.either(
                Expr::binary(B::Eq, there, wanted),
                |l| l.set(same, Expr::binary(B::Add, Expr::Local(same), Expr::Const(1))),
                |l| {
                    l.set(same, Expr::Const(0));
                    l.set(start, Expr::binary(B::Add, Expr::Local(start), Expr::Const(1)));
                },
            );
        });
        let rounds = m.saturating_mul(n.saturating_add(1)).min(MAX_ROUNDS);
        self.emit(StmtKind::ForRange {
            index: round,
            from: Expr::Const(0),
            to: Expr::Const(i64::from(rounds)),
            how: Rounds::Callback,
            body,
        });
    }

    /// Writes two strings, one behind the other, cut to `size` bytes.
    pub(crate) fn concatenate(
        &mut self,
        a: &tree::Expr,
        b: &tree::Expr,
        to: &Place,
        size: u32,
        full: bool,
    ) {
        let (m, n) = (a.ty.size().max(1), b.ty.size().max(1));
        let room = self.temp("both", m + n);
        let room = self.indexable(&room);
        if full {
            self.emit(StmtKind::Zero { to: room.clone(), size: m + n });
        }
        let (first, second) = (self.place(a), self.place(b));
        let args = |to: Place, size: u32, from: Place| {
            vec![
                Arg::Address(to),
                Arg::Value(Expr::Const(i64::from(size))),
                Arg::Value(Expr::Address(from)),
            ]
        };
        // One byte of room more than the text: it may have no NUL of its own.
        let end = Expr::load(first.at(m - 1), 1, false);
        let end = self.spill("end", end);
        let read = self.call(Helper::ProbeReadKernelStr, args(room.clone(), m, first));
        let read = self.spill("read", read);
        let at = self.local("at");
        self.set(at, Expr::Const(0));
        let some = Expr::binary(B::SGt, read.clone(), Expr::Const(0));
        self.when(some, |l| {
            l.set(at, Expr::binary(B::Sub, read.clone(), Expr::Const(1)));
        });
        let whole = Expr::binary(B::Eq, read, Expr::Const(i64::from(m)));
        self.when(whole, |l| {
            let cut = Expr::binary(B::Ne, end.clone(), Expr::Const(0));
            l.when(cut, |l| {
                l.emit(StmtKind::Store { to: room.at(m - 1), size: 1, value: end });
                l.set(at, Expr::Const(i64::from(m)));
            });
        });
        let behind = room.indexed(Expr::Local(at), 1, m + 1);
        let end = Expr::load(second.at(n - 1), 1, false);
        let end = self.spill("end", end);
        let read = self.call(Helper::ProbeReadKernelStr, args(behind.clone(), n, second));
        let whole = Expr::binary(B::Eq, read, Expr::Const(i64::from(n)));
        self.when(whole, |l| {
            l.emit(StmtKind::Store { to: behind.at(n - 1), size: 1, value: end });
        });
        let size = size.min(m + n);
        self.emit(StmtKind::Copy { to: to.clone(), from: room, size });
    }

    /// Zeroes what lies behind the text that a helper wrote; `length` counts its
    /// NUL, or is an error.
    pub(crate) fn clear_behind(&mut self, place: &Place, length: Expr, size: u32) {
        let copy = self.temp("text", size);
        let failed = Expr::binary(B::SLt, length, Expr::Const(0));
        self.emit(StmtKind::Copy { to: copy.clone(), from: place.clone(), size });
        self.emit(StmtKind::Zero { to: place.clone(), size });
        let good = Expr::binary(B::Eq, failed, Expr::Const(0));
        self.when(good, |l| {
            let args = vec![
                Arg::Address(place.clone()),
                Arg::Value(Expr::Const(i64::from(size))),
                Arg::Value(Expr::Address(copy)),
            ];
            let call = l.call(Helper::ProbeReadKernelStr, args);
            l.emit(StmtKind::Eval(call));
        });
    }

    /// The difference of the first bytes that are not equal, of `n` (at most
    /// `size`) bytes; 0 if all are.
    pub(crate) fn difference(&mut self, x: &Place, y: &Place, size: u32, n: Expr) -> Expr {
        let (x, y) = (self.indexable(x), self.indexable(y));
        let result = self.local("difference");
        self.set(result, Expr::Const(0));
        let i = self.local("i");
        let body = self.block(|l| {
            let done = Expr::binary(B::UGe, Expr::Local(i), n);
            l.when(done, |l| l.emit(StmtKind::Break));
            let byte = |place: &Place| Expr::load(place.indexed(Expr::Local(i), 1, size), 1, false);
            l.set(result, Expr::binary(B::Sub, byte(&x), byte(&y)));
            let differ = Expr::binary(B::Ne, Expr::Local(result), Expr::Const(0));
            l.when(differ, |l| l.emit(StmtKind::Break));
        });
        self.bounded(i, size, body);
        Expr::Local(result)
    }
}

/// Finds a text by one step per byte: states are how much of it was just seen.
struct Automaton {
    /// Bytes of the text by their first place in it, from 1; 0 for all others.
    classes: [u8; 256],
    /// Number of classes.
    row: usize,
    /// The state after each state and class.
    next: Vec<u16>,
}

impl Automaton {
    fn of(part: &[u8]) -> Automaton {
        let mut classes = [0u8; 256];
        let mut row = 1usize;
        for byte in part {
            if let Some(class @ 0) = classes.get_mut(usize::from(*byte)) {
                // At most 255 bytes are not NUL.
                *class = u8::try_from(row).unwrap_or(u8::MAX);
                row += 1;
            }
        }
        let class = |byte: &u8| usize::from(classes.get(usize::from(*byte)).copied().unwrap_or(0));
        let mut next = vec![0u16; part.len() * row];
        // The state after the text without its first byte: where a mismatch leads.
        let mut fallback = 0usize;
        for (state, byte) in part.iter().enumerate() {
            for c in 0..row {
                let back = next.get(fallback * row + c).copied().unwrap_or(0);
                if let Some(cell) = next.get_mut(state * row + c) {
                    *cell = if state == 0 { 0 } else { back };
                }
            }
            let c = class(byte);
            let back = next.get(fallback * row + c).copied().unwrap_or(0);
            if let Some(cell) = next.get_mut(state * row + c) {
                *cell = u16::try_from(state + 1).unwrap_or(u16::MAX);
            }
            if state > 0 {
                fallback = usize::from(back);
            }
        }
        Automaton { classes, row, next }
    }

    fn row(&self) -> i64 {
        i64::try_from(self.row).unwrap_or(i64::MAX)
    }

    /// Bytes of a cell.
    fn width(&self) -> u8 {
        if self.next.iter().all(|n| *n < 256) { 1 } else { 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program does with the automaton.
    fn find(text: &[u8], part: &[u8]) -> Option<usize> {
        let a = Automaton::of(part);
        let mut state = 0usize;
        for (i, byte) in text.iter().enumerate() {
            state = usize::from(a.next[state * a.row + usize::from(a.classes[usize::from(*byte)])]);
            if state == part.len() {
                return Some(i + 1 - part.len());
            }
        }
        None
    }

    #[test]
    fn the_automaton_finds_what_a_plain_search_finds() {
        let texts: Vec<Vec<u8>> = (0..6u32)
            .flat_map(|len| (0..3u32.pow(len)).map(move |n| (len, n)))
            .map(|(len, n)| (0..len).map(|i| b"abc"[(n / 3u32.pow(i) % 3) as usize]).collect())
            .collect();
        for part in texts.iter().filter(|t| (1..=4).contains(&t.len())) {
            for text in &texts {
                let plain = text.windows(part.len()).position(|w| w == &part[..]);
                assert_eq!(find(text, part), plain, "{part:?} in {text:?}");
            }
        }
        let long = [b"ab".repeat(200), b"c".to_vec()].concat();
        let text = [b"abab".to_vec(), long.clone()].concat();
        assert_eq!(find(&text, &long), Some(4));
    }
}
