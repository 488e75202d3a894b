//! Events: records in the ring buffer, filled in place.

use super::{Lower, Val};
use crate::ir::{self, Arg, BinaryOp, Expr, Helper, LocalId, Place, StmtKind};
use crate::plan::{self, Action, Cause, EVENT_HEADER};
use crate::sema::layout;
use crate::sema::tree::{self, ExprKind};
use crate::source::Span;
use crate::types::{Space, Type};

/// `BPF_F_CURRENT_CPU` of linux/bpf.h: the buffer of this CPU.
const CURRENT_CPU: i64 = 0xffff_ffff;

/// A value to put into an event.
enum Part {
    /// Written into the record directly.
    Direct(tree::Expr),
    /// Computed before the record is reserved.
    Word(Expr, Type),
    Memory(Place, Type),
    /// The string at an address.
    Text(LocalId, Space, Type),
}

impl Part {
    fn ty(&self) -> &Type {
        match self {
            Part::Direct(e) => &e.ty,
            Part::Word(_, ty) | Part::Memory(_, ty) | Part::Text(_, _, ty) => ty,
        }
    }
}

impl Lower<'_> {
    /// Sends an event with these values.
    pub(crate) fn event(&mut self, action: Action, args: &[tree::Expr]) {
        if let (Action::Printf(format), true) = (&action, self.pinned()) {
            return self.write_text(format, args);
        }
        let parts: Vec<Part> = args.iter().map(|a| self.part(a)).collect();
        self.send(action, &parts);
    }

    /// Sends an event with one word.
    pub(crate) fn event_word(&mut self, action: Action, word: Expr, ty: &Type) {
        self.send(action, &[Part::Word(word, ty.clone())]);
    }

    /// Sends an event with a value that is in memory already.
    pub(crate) fn event_memory(&mut self, action: Action, place: Place, ty: &Type) {
        self.send(action, &[Part::Memory(place, ty.clone())]);
    }

    /// Sends an event with the strings that some addresses point to; null
    /// gives an empty one.
    pub(crate) fn event_strings(
        &mut self,
        action: Action,
        pointers: &[LocalId],
        length: u32,
        space: Space,
    ) {
        let parts: Vec<Part> =
            pointers.iter().map(|p| Part::Text(*p, space, Type::Str(length))).collect();
        self.send(action, &parts);
    }

    /// Sends a packet: `length` bytes of a socket buffer, of which the first
    /// `offset` are to be left out. Gives what the helper returned.
    pub(crate) fn packet(&mut self, file: &str, skb: Expr, length: Expr, offset: Expr) -> Expr {
        let event = plan::Event {
            span: self.span,
            action: Action::Packet { file: file.to_owned() },
            fields: Vec::new(),
            size: plan::PACKET_HEADER,
            stamp: None,
            run: false,
        };
        let id = self.event_id(event);
        let known = self.shared.maps.iter().position(|m| m.name == plan::PACKETS_MAP);
        let map = ir::MapId(super::index(known.unwrap_or_else(|| {
            self.shared.maps.push(ir::Map {
                name: plan::PACKETS_MAP.into(),
                kind: ir::MapKind::PerfEventArray,
                key_size: 4,
                value_size: 4,
                max_entries: 0,
                flags: 0,
            });
            self.shared.maps.len() - 1
        })));
        let header = self.temp("packet", plan::PACKET_HEADER);
        let now = self.call(Helper::KtimeGetBootNs, vec![]);
        for (at, size, value) in [
            (0, 4, Expr::Const(i64::from(id))),
            (4, 4, length.clone()),
            (8, 8, now),
            (16, 4, offset),
            (20, 4, Expr::Const(0)),
        ] {
            self.store(&header.at(at), size, value);
        }
        // The helper takes 20 bits of length.
        let length = Expr::binary(BinaryOp::And, length, Expr::Const(0xf_ffff));
        let length = Expr::binary(BinaryOp::Shl, length, Expr::Const(32));
        let flags = Expr::binary(BinaryOp::Or, length, Expr::Const(CURRENT_CPU));
        let args = vec![
            Arg::Value(skb),
            Arg::Map(map),
            Arg::Value(flags),
            Arg::Address(header),
            Arg::Value(Expr::Const(i64::from(plan::PACKET_HEADER))),
        ];
        let result = self.call(Helper::SkbOutput, args);
        self.spill("sent", result)
    }

    /// Sends an event that only wakes the run side; `lost` runs if there is no room for it.
    pub(crate) fn wake(&mut self, action: Action, lost: impl FnOnce(&mut Self)) {
        if self.shared.pinned {
            return;
        }
        let (span, size) = (Span::default(), EVENT_HEADER);
        let event = plan::Event { span, action, fields: vec![], size, stamp: None, run: false };
        let id = self.event_id(event);
        let record = self.ptr();
        let body = self.block(|l| {
            let value = Expr::Const(i64::from(id));
            l.emit(StmtKind::Store { to: Place::ptr(record), size: 8, value });
        });
        let lost = self.block(lost);
        self.emit(StmtKind::Event { map: super::map::EVENTS, size, record, body, lost });
    }

    fn send(&mut self, action: Action, parts: &[Part]) {
        if self.unread() {
            return self.refuse_event();
        }
        let mut offset = EVENT_HEADER;
        let mut fields = Vec::new();
        for part in parts {
            let ty = part.ty();
            let align = if ty.size() >= 8 { 8 } else { ty.size().max(1).next_power_of_two() };
            offset = offset.next_multiple_of(align);
            fields.push(layout::field("", offset, layout::of(ty, self.host, &self.shared.cdefs)));
            offset += ty.size();
        }
        let mut size = offset.next_multiple_of(8);
        let is_exit = matches!(action, Action::Exit);
        let stamp = (self.options.stamped && !is_exit).then_some(size);
        if stamp.is_some() {
            size += plan::STAMP;
        }
        let links = &self.instance.attach;
        let run = !links.is_empty() && links.iter().all(|a| a.mechanism.is_run());
        let event = plan::Event { span: self.span, action, fields, size, stamp, run };
        let offsets: Vec<u32> = event.fields.iter().map(|f| f.offset).collect();
        let id = self.event_id(event);
        let record = self.ptr();
        let place = Place::ptr(record);
        let body = self.block(|l| {
            let value = Expr::Const(i64::from(id));
            l.emit(StmtKind::Store { to: place.clone(), size: 8, value });
            if let Some(stamp) = stamp {
                l.stamp(&place.at(stamp));
            }
            for (part, offset) in parts.iter().zip(offsets) {
                let to = place.at(offset);
                match part {
                    Part::Direct(e) => l.into(e, &e.ty, &to, false),
                    Part::Word(word, ty) => {
                        l.copy_into(Val::Word(word.clone()), ty, ty, &to, false);
                    }
                    Part::Text(pointer, space, ty) => {
                        l.emit(StmtKind::Store { to: to.clone(), size: 1, value: Expr::Const(0) });
                        let there =
                            Expr::binary(BinaryOp::Ne, Expr::Local(*pointer), Expr::Const(0));
                        l.when(there, |l| {
                            l.read_text(*space, Expr::Local(*pointer), &to, ty.size(), false);
                        });
                    }
                    Part::Memory(from, ty) => {
                        l.copy_into(Val::Memory(from.clone()), ty, ty, &to, false);
                    }
                }
            }
        });
        let lost = self.block(|l| match parts {
            // An end that was asked for must come.
            [Part::Word(status, _)] if is_exit => l.lost_exit(status.clone()),
            _ => l.loss(Cause::RingBufferFull, None),
        });
        self.emit(StmtKind::Event { map: super::map::EVENTS, size, record, body, lost });
    }

    /// Writes when it is, and which thread runs ([`plan::STAMP`]).
    fn stamp(&mut self, to: &Place) {
        for (at, helper) in [(0, Helper::KtimeGetBootNs), (8, Helper::GetCurrentPidTgid)] {
            let value = self.call(helper, vec![]);
            self.emit(StmtKind::Store { to: to.at(at), size: 8, value });
        }
        let size = plan::STAMP - 16;
        self.emit(StmtKind::Zero { to: to.at(16), size });
        let args = vec![Arg::Address(to.at(16)), Arg::Value(Expr::Const(i64::from(size)))];
        self.checked_call(Helper::GetCurrentComm, args);
    }

    /// The number of an event; copies of a block for several attach points
    /// share it.
    fn event_id(&mut self, event: plan::Event) -> u32 {
        let known = self.shared.events.iter().position(|e| *e == event);
        super::index(known.unwrap_or_else(|| {
            self.shared.events.push(event);
            self.shared.events.len() - 1
        }))
    }

    /// Decides when a value is computed: what has effects, or may be lost
    /// together with the record, comes first.
    fn part(&mut self, e: &tree::Expr) -> Part {
        let direct = match &e.kind {
            ExprKind::Int(_) | ExprKind::Str(_) | ExprKind::Var(_) | ExprKind::Argument(_) => true,
            ExprKind::Call { .. } => !e.has_effects(),
            _ => !e.ty.is_scalar() && !e.has_effects(),
        };
        if direct {
            return Part::Direct(e.clone());
        }
        if e.ty.is_scalar() {
            let word = self.word(e);
            return Part::Word(self.spill("value", word), e.ty.clone());
        }
        let place = self.temp("value", e.ty.size());
        self.into(e, &e.ty, &place, false);
        Part::Memory(place, e.ty.clone())
    }
}
