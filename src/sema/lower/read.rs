//! Memory behind pointers: reads by helpers, whose failures are counted.

use super::expr::cut_size;
use super::{Lower, Remote};
use crate::host::features::Feature;
use crate::ir::{Arg, BinaryOp as B, Expr, Helper, Place, StmtKind};
use crate::plan::Cause;
use crate::types::{Space, Type};

impl Lower<'_> {
    /// The address of a remote value.
    pub(crate) fn address(remote: &Remote) -> Expr {
        match remote.offset {
            0 => remote.base.clone(),
            n => Expr::binary(B::Add, remote.base.clone(), Expr::Const(i64::from(n))),
        }
    }

    /// Reads a scalar by a helper; zero if that fails.
    pub(crate) fn read_word(&mut self, remote: &Remote, ty: &Type) -> Expr {
        let slot = self.temp("read", 8);
        let size = ty.size().clamp(1, 8);
        self.read(remote, &slot, size);
        let word = Expr::load(slot, cut_size(size), ty.is_signed());
        self.spill("word", word)
    }

    /// Reads bytes by a helper; zeroes if that fails.
    pub(crate) fn read(&mut self, remote: &Remote, to: &Place, size: u32) {
        let helper = match remote.space {
            Space::User => Helper::ProbeReadUser,
            Space::Kernel | Space::None => Helper::ProbeReadKernel,
        };
        let args = vec![
            Arg::Address(to.clone()),
            Arg::Value(Expr::Const(i64::from(size))),
            Arg::Value(Self::address(remote)),
        ];
        self.checked_call(helper, args);
    }

    /// A length cut to `most`.
    pub(crate) fn clamp(&mut self, length: Expr, most: u32) -> Expr {
        let most = Expr::Const(i64::from(most));
        if let (Expr::Const(n), Expr::Const(m)) = (&length, &most) {
            return Expr::Const((*n).clamp(0, *m));
        }
        // A negative length is a very large one, as upstream has it.
        let fits = Expr::binary(B::ULt, length.clone(), most.clone());
        let cut =
            Expr::Select { cond: Box::new(fits), then: Box::new(length), els: Box::new(most) };
        self.spill("length", cut)
    }

    /// Calls a helper for its effect; its failures are counted, and with `-k`
    /// they are warnings.
    pub(crate) fn checked_call(&mut self, helper: Helper, args: Vec<Arg>) {
        self.checked_result(helper, args);
    }

    /// The same, and what the helper returned.
    pub(crate) fn checked_result(&mut self, helper: Helper, args: Vec<Arg>) -> Expr {
        let call = self.call(helper, args);
        let result = self.spill("error", call);
        if self.counts_quietly() {
            let failed = Expr::binary(B::SLt, result.clone(), Expr::Const(0));
            self.when(failed, |l| l.helper_failed(helper, &result));
        }
        result
    }

    /// Whether to count what is for the table at the end only: not if nobody will read it,
    /// and not where the verifier walks through every round of a loop (before Linux 5.17),
    /// since it keeps at most 8192 branches in mind.
    fn counts_quietly(&self) -> bool {
        let walked = self.loops > 0 && !self.host.has(Feature::Loop);
        self.options.verbose_warnings || !(walked || self.unread())
    }

    /// Counts that a helper failed, with what it returned.
    fn helper_failed(&mut self, helper: Helper, result: &Expr) {
        let cause = Cause::Helper { name: helper.info().name.to_string() };
        match self.options.verbose_warnings {
            true => self.loss(cause, Some(result.clone())),
            false => self.quiet_loss(cause, Some(result.clone())),
        }
    }

    /// Reads the string at an address into `room` bytes, its NUL included. A failure
    /// is counted, and so is a string that is longer; with `marked` that one has no NUL
    /// at its end, by which the user side knows that it was cut.
    pub(crate) fn read_text(
        &mut self,
        space: Space,
        from: Expr,
        to: &Place,
        room: u32,
        marked: bool,
    ) {
        let (read_text, read) = match space {
            Space::User => (Helper::ProbeReadUserStr, Helper::ProbeReadUser),
            Space::Kernel | Space::None => (Helper::ProbeReadKernelStr, Helper::ProbeReadKernel),
        };
        let from = self.spill("from", from);
        let args = vec![
            Arg::Address(to.clone()),
            Arg::size(Expr::Const(i64::from(room)), room),
            Arg::Value(from.clone()),
        ];
        let call = self.call(read_text, args);
        let result = self.spill("error", call);
        if !marked && !self.counts_quietly() {
            return;
        }
        // One comparison where all goes well: errors are negative.
        let odd = Expr::binary(B::ULe, Expr::Const(i64::from(room)), result.clone());
        self.when(odd, |l| {
            let failed = Expr::binary(B::SLt, result.clone(), Expr::Const(0));
            l.either(
                failed,
                |l| l.helper_failed(read_text, &result),
                |l| {
                    // The helper puts its NUL even where it cuts. What the string has there
                    // tells: a NUL too where it just fits.
                    let last = match marked {
                        true => to.at(room - 1),
                        false => l.temp("last", 8),
                    };
                    let args = vec![
                        Arg::Address(last.clone()),
                        Arg::Value(Expr::Const(1)),
                        Arg::Value(Expr::binary(B::Add, from, Expr::Const(i64::from(room) - 1))),
                    ];
                    let call = l.call(read, args);
                    l.emit(StmtKind::Eval(call));
                    let cut = Expr::binary(B::Ne, Expr::load(last, 1, false), Expr::Const(0));
                    l.when(cut, |l| l.quiet_loss(Cause::StringCut { room }, None));
                },
            );
        });
    }
}
