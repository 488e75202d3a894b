//! Programs of iterators: what goes around the block, and text for those that
//! are pinned.
//!
//! The kernel runs the program while somebody reads the iterator's file. Events
//! go through the ring buffer, as those of all programs do; to the file goes
//! one byte for each object, so that a read of so many bytes is over after as
//! many objects, and the run side can empty the ring buffer in between. (Text
//! written to the file directly would make the kernel run the program for an
//! object again whenever the file's buffer is full.) A pinned iterator is read
//! by others, when rtrace is gone: there the file gets the text itself.

use super::processes::Tasks;
use super::{Lower, Remote};
use crate::diag::Diagnostic;
use crate::ir::{Arg, BinaryOp as B, Expr, Helper, Place, ProgramKind, StmtKind};
use crate::plan::{self, Conversion, ConversionKind, Format, Mechanism, Piece};
use crate::probes::Instance;
use crate::sema::tree;
use crate::types::{Space, Type};

/// Where the object lies in every `struct bpf_iter__…`, behind the pointer to
/// `struct bpf_iter_meta`, which starts with the pointer to the file.
const META: u32 = 0;
const OBJECT: u32 = 8;
const FILE: u32 = 0;

/// Values that the kernel formats at most (`MAX_BPRINTF_VARARGS` of linux/bpf.h).
const MOST_VALUES: usize = 12;

/// Whether a probe is an iterator that goes on without rtrace.
pub(super) fn is_pinned(instance: &Instance) -> bool {
    let pinned = |m: &Mechanism| matches!(m, Mechanism::Iter { pin: Some(_), .. });
    instance.attach.iter().any(|a| pinned(&a.mechanism))
}

impl Lower<'_> {
    /// What an iterator's program does first. It is run once more after the last
    /// object, with none.
    pub(super) fn begin_iteration(&mut self) {
        let object = self.context_word(OBJECT, 8, false);
        self.leave(Expr::binary(B::Eq, object, Expr::Const(0)));
        if self.pinned() {
            return;
        }
        let byte = Place::rodata(self.shared.constant(vec![b'.']));
        let args =
            vec![Arg::Value(self.iterator_file()), Arg::Address(byte), Arg::Value(Expr::Const(1))];
        let written = self.call(Helper::SeqWrite, args);
        self.emit(StmtKind::Eval(written));
    }

    /// Leaves out tasks that are not of the processes of `-p`, `-c` or `--follow`.
    pub(super) fn iteration_filter(&mut self) {
        let scope = self.options.scope;
        let several = scope.processes || scope.follow;
        let wanted = match (self.options.pid, self.options.has_child) {
            _ if several => None,
            (Some(_), _) => Some(plan::Param::TargetPid),
            (None, true) => Some(plan::Param::ChildPid),
            (None, false) => return,
        };
        let (Ok(Type::Ptr { to, .. }), Ok(btf)) = (&self.instance.context.ctx, self.host.btf())
        else {
            return;
        };
        let Type::Struct(context) = &**to else { return };
        let (Some((task, _)), Some(tasks)) =
            (btf.member_at(context.id, "task"), Tasks::of(self.host))
        else {
            return;
        };
        let here =
            Remote { base: Expr::Address(Place::context(0)), offset: task, space: Space::Kernel };
        let task = self.read_word(&here, &Type::UINT64);
        let process = self.process_of(task, &tasks);
        match wanted {
            Some(wanted) => {
                let wanted = self.shared.param(wanted);
                self.leave(Expr::binary(B::Ne, process, wanted));
            }
            None => self.leave_unless_in_scope(process),
        }
    }

    /// Whether the program goes on without rtrace.
    pub(super) fn pinned(&self) -> bool {
        is_pinned(self.instance)
    }

    /// Whether nobody may be there to read what the program sends.
    pub(super) fn unread(&self) -> bool {
        let function = matches!(self.kind(), ProgramKind::Function { .. });
        self.pinned() || function && self.shared.pinned
    }

    /// The kernel's `struct seq_file *` of an iterator.
    fn iterator_file(&mut self) -> Expr {
        let meta = Box::new(self.context_word(META, 8, false));
        Expr::LoadTyped { pointer: meta, offset: FILE, size: 8, signed: false }
    }

    /// Nobody is there to do what an event asks for.
    pub(super) fn refuse_event(&mut self) {
        let d = Diagnostic::error(
            self.span,
            "a pinned iterator can only print by `printf` of its own",
        )
        .note("rtrace is gone when others read the pinned file")
        .help("write `printf(\"…\\n\", …)` in the probe, or take the name after `iter:…:` out");
        self.fail(d);
    }

    /// `printf` of a pinned iterator: the kernel formats.
    pub(super) fn write_text(&mut self, format: &Format, values: &[tree::Expr]) {
        let mut text: Vec<u8> = Vec::new();
        let mut words: Vec<Expr> = Vec::new();
        let mut values = values.iter();
        for piece in &format.pieces {
            match piece {
                // The kernel takes printable ASCII only.
                Piece::Text(plain)
                    if plain.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t' | b'\n')) =>
                {
                    text.extend(plain.replace('%', "%%").bytes());
                }
                Piece::Text(plain) => {
                    let mut bytes = plain.clone().into_bytes();
                    bytes.push(0);
                    let place = Place::rodata(self.shared.constant(bytes));
                    text.extend(b"%s");
                    words.push(Expr::Address(place));
                }
                Piece::Value(conversion) => {
                    let Some(value) = values.next() else { continue };
                    match self.kernel_value(conversion, value) {
                        Some((spec, word)) => {
                            text.extend(spec.bytes());
                            words.push(word);
                        }
                        None => return,
                    }
                }
            }
        }
        if words.len() > MOST_VALUES {
            let message = format!("a pinned iterator prints at most {MOST_VALUES} values at once");
            return self.fail(Diagnostic::error(self.span, message).help("use several `printf`s"));
        }
        text.push(0);
        let size = super::index(text.len());
        let format = Place::rodata(self.shared.constant(text));
        let bytes = super::index(words.len()) * 8;
        let list = self.temp("values", bytes.max(8));
        for (word, at) in words.into_iter().zip((0..).step_by(8)) {
            self.emit(StmtKind::Store { to: list.at(at), size: 8, value: word });
        }
        // Null without values.
        let list = if bytes > 0 { Arg::Address(list) } else { Arg::Value(Expr::Const(0)) };
        let args = vec![
            Arg::Value(self.iterator_file()),
            Arg::Address(format),
            Arg::Value(Expr::Const(i64::from(size))),
            list,
            Arg::Value(Expr::Const(i64::from(bytes))),
        ];
        // Where the file's buffer is full, the kernel comes again with a larger one.
        let call = self.call(Helper::SeqPrintf, args);
        self.emit(StmtKind::Eval(call));
    }

    /// A conversion in the kernel's words, and its value; `None` if it has been
    /// refused.
    fn kernel_value(&mut self, c: &Conversion, value: &tree::Expr) -> Option<(String, Expr)> {
        use ConversionKind as K;
        let left = if c.left { "-" } else { "" };
        let zero = if c.zero { "0" } else { "" };
        let plus = if c.plus { "+" } else { "" };
        let base = if c.alternate { "0x" } else { "" };
        let width = if c.width > 0 { c.width.to_string() } else { String::new() };
        let letter = match (c.kind, &value.ty) {
            (K::Signed, ty) if ty.is_scalar() => "lld",
            (K::Unsigned, ty) if ty.is_scalar() => "llu",
            (K::Hex | K::Pointer, ty) if ty.is_scalar() => "llx",
            (K::UpperHex, ty) if ty.is_scalar() => "llX",
            (K::Text, ty @ (Type::Int { .. } | Type::Bool)) => {
                if ty.is_signed() {
                    "lld"
                } else {
                    "llu"
                }
            }
            (K::Text, Type::Ptr { .. }) => "llx",
            (K::Text, Type::Str(_)) | (K::Char, _) if c.precision.is_none() => "s",
            _ => {
                let d = Diagnostic::error(value.span, "the kernel cannot format this value")
                    .at(format!("it is `{}`", value.ty))
                    .note("a pinned iterator prints numbers and strings, without a precision");
                self.fail(d);
                return None;
            }
        };
        let word = match (c.kind, &value.ty) {
            (K::Text, Type::Str(size)) => {
                // The text must be over where its room is.
                let place = self.temp("text", size + 1);
                self.emit(StmtKind::Zero {
                    to: place.clone(),
                    size: (size + 1).next_multiple_of(8),
                });
                let found = self.value(value);
                self.copy_into(found, &value.ty, &value.ty, &place, false);
                Expr::Address(place)
            }
            (K::Char, _) => {
                let place = self.temp("char", 8);
                let word = self.word(value);
                let word = Expr::binary(B::And, word, Expr::Const(0xff));
                self.emit(StmtKind::Store { to: place.clone(), size: 8, value: word });
                Expr::Address(place)
            }
            _ => {
                let word = self.word(value);
                let ty = Type::int(c.bytes, c.kind == K::Signed);
                let cut = !matches!(c.kind, K::Text | K::Pointer);
                let word = if cut { super::expr::convert(word, &value.ty, &ty) } else { word };
                self.spill("value", word)
            }
        };
        let base = if letter == "llx" && c.kind != K::Hex { "0x" } else { base };
        Some((format!("{base}%{left}{zero}{plus}{width}{letter}"), word))
    }
}
