//! Where text goes: a buffer before a writer, and when it is emptied.

use std::io::{self, Write};

/// Bytes after which a buffer is emptied whatever the policy.
const FULL: usize = 64 << 10;

/// When output is handed on (`-B`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Buffering {
    /// When a line is complete.
    #[default]
    Line,
    /// When the buffer is full.
    Full,
    /// At every write.
    None,
}

/// Why output cannot go on.
#[derive(Debug)]
pub enum Error {
    /// Nobody reads any more (a closed pipe): a reason to end quietly.
    Closed,
    /// With the bytes that could not be written.
    Io(io::Error, u64),
}

/// A writer with a buffer that is written to directly.
pub struct Sink {
    writer: Box<dyn Write>,
    pub(crate) buffer: Vec<u8>,
    /// What was looked at for the end of a line.
    seen: usize,
    line: bool,
    buffering: Buffering,
}

impl Sink {
    pub fn new(writer: Box<dyn Write>, buffering: Buffering) -> Sink {
        Sink { writer, buffer: Vec::with_capacity(FULL), seen: 0, line: false, buffering }
    }

    /// To be called after each piece of output. Complete lines wait for
    /// [`Sink::settle`] so that a burst of events costs one write.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn piece_done(&mut self) -> Result<(), Error> {
        let fresh = self.buffer.get(self.seen..).unwrap_or(&[]);
        self.line |= fresh.contains(&b'\n');
        self.seen = self.buffer.len();
        match self.buffering {
            Buffering::None => self.flush(),
            Buffering::Line | Buffering::Full if self.buffer.len() >= FULL => self.flush(),
            Buffering::Line | Buffering::Full => Ok(()),
        }
    }

    /// To be called when nothing more is coming for now.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn settle(&mut self) -> Result<(), Error> {
        match self.line && self.buffering == Buffering::Line {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Hands on everything.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn flush(&mut self) -> Result<(), Error> {
        let mut rest = self.buffer.as_slice();
        let result = loop {
            if rest.is_empty() {
                break self.writer.flush();
            }
            match self.writer.write(rest) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = rest.get(written..).unwrap_or(&[]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Err(e),
            }
        };
        let unwritten = rest.len() as u64;
        self.buffer.clear();
        self.seen = 0;
        self.line = false;
        result.map_err(|e| match Error::from(e) {
            Error::Io(e, _) => Error::Io(e, unwritten),
            Error::Closed => Error::Closed,
        })
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink")
            .field("buffered", &self.buffer.len())
            .field("buffering", &self.buffering)
            .finish_non_exhaustive()
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Error::Closed,
            _ => Error::Io(error, 0),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Closed => f.write_str("nobody reads the output any more"),
            Error::Io(error, _) => write!(f, "cannot write the output: {error}"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// What was written, one string per write.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Written(pub(crate) Rc<RefCell<Vec<String>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !bytes.is_empty() {
                self.0.borrow_mut().push(String::from_utf8_lossy(bytes).into_owned());
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn writes(buffering: Buffering, pieces: &[&str]) -> Vec<String> {
        let written = Written::default();
        let mut sink = Sink::new(Box::new(written.clone()), buffering);
        for piece in pieces {
            match *piece {
                "settle" => sink.settle().unwrap(),
                text => {
                    sink.buffer.extend_from_slice(text.as_bytes());
                    sink.piece_done().unwrap();
                }
            }
        }
        written.0.take()
    }

    #[test]
    fn lines_are_handed_on_together_when_a_burst_ends() {
        assert_eq!(writes(Buffering::Line, &["a", "settle"]), [""; 0]);
        assert_eq!(writes(Buffering::Line, &["a\n", "b\n", "settle", "c"]), ["a\nb\n"]);
        assert_eq!(writes(Buffering::Line, &["a\n", "b", "settle", "settle"]), ["a\nb"]);
    }

    #[test]
    fn without_a_buffer_every_piece_is_a_write() {
        assert_eq!(writes(Buffering::None, &["a", "b\n"]), ["a", "b\n"]);
    }

    #[test]
    fn a_full_buffer_is_handed_on() {
        let large = "x".repeat(FULL);
        assert_eq!(writes(Buffering::Full, &["a\n", "settle"]), [""; 0]);
        assert_eq!(writes(Buffering::Full, &[&large]).len(), 1);
        assert_eq!(writes(Buffering::Line, &[&large]).len(), 1);
    }

    #[test]
    fn a_closed_pipe_is_told_from_other_errors() {
        struct Failing(io::ErrorKind);
        impl Write for Failing {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = |kind| {
            let mut sink = Sink::new(Box::new(Failing(kind)), Buffering::None);
            sink.buffer.push(b'x');
            sink.piece_done().unwrap_err()
        };
        assert!(matches!(error(io::ErrorKind::BrokenPipe), Error::Closed));
        assert!(matches!(error(io::ErrorKind::StorageFull), Error::Io(_, 1)));
    }
}
