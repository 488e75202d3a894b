//! Every warning that rtrace gives has a name, by which `-W` silences it or
//! makes an error of it. The reference is made from [`WARNINGS`].

use super::{Diagnostic, Diagnostics, Severity, suggest};

/// A row of the table of warnings.
pub struct Row {
    pub warning: Warning,
    /// As `-W` takes it.
    pub name: &'static str,
    /// What it means and what to do, as sentences.
    pub doc: &'static str,
}

macro_rules! warnings {
    ($($variant:ident $name:literal $doc:literal)*) => {
        /// The name of a warning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Warning {
            $($variant,)*
        }

        /// All warnings, in the order of the reference.
        pub const WARNINGS: &[Row] = &[
            $(Row { warning: Warning::$variant, name: $name, doc: $doc },)*
        ];

        impl Warning {
            /// As `-W` takes it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Warning::$variant => $name,)*
                }
            }
        }
    };
}

warnings! {
    UnusedValue "unused-value"
        "A value is computed and thrown away. `_ = …` says that it is meant."
    Unreachable "unreachable"
        "A statement stands behind one that always leaves the block."
    OutsideBlock "outside-block"
        "A variable is used outside of the block that assigns it, where it may still be zero. \
         Declare it by `let` before the block."
    NeverAssigned "never-assigned"
        "A variable is declared or read, and nothing is ever assigned to it."
    UnusedMap "unused-map"
        "A map is declared and never used."
    LossyAssignment "lossy-assignment"
        "A value may not fit the declared type of its variable, and its low bits are kept. \
         A cast says that it is meant."
    UnnecessaryCast "unnecessary-cast"
        "A cast to the type that the value has already."
    PointerComparison "pointer-comparison"
        "Pointers to different types are compared."
    AddressSpaces "address-spaces"
        "A kernel address and a user address are computed with each other; the result is \
         read from one of the two."
    MapPrintedInLoop "map-printed-in-loop"
        "A whole map is printed in each round of a loop. Print it after the loop, or only the \
         element that the round is about."
    Deprecated "deprecated"
        "An old spelling or an old config key, which still works or has no effect any more."
    Unstable "unstable"
        "A feature is used that the config says to warn of (`unstable_tseries = warn`)."
    UnknownVariable "unknown-variable"
        "A variable of the environment is called almost like one that sets a config key."
    Debugf "debugf"
        "`debugf` writes to a buffer that all of the system shares."
    MissingParameter "missing-parameter"
        "The script reads a parameter that the command line does not give; it is 0, or an empty \
         string."
    CutString "cut-string"
        "A string is asked to be longer than `max_strlen` allows."
    IgnoredArgument "ignored-argument"
        "An argument that has no effect here, like `top` of `print` for `stats`."
    NoChild "no-child"
        "`cpid` is asked for, and there is no `-c`."
    MissingProbe "missing-probe"
        "Nothing on this machine matches an attach point, or the kernel does not attach it, and \
         the config variable `missing_probes` says to go on."
    Ambiguous "ambiguous"
        "A name has several meanings, like a program that several folders of `PATH` have. The \
         first is taken."
    Uncertain "uncertain"
        "The probe may see less, or something else, than it seems to: a function that is chosen \
         when a program starts, a marker that is switched on by a counter, a lock that the \
         program takes itself."
    KernelLacks "kernel-lacks"
        "This kernel cannot give a value; what is shown instead is said."
    TypeReplaced "type-replaced"
        "A type of the script has the name of another one of the kernel."
    Redefined "redefined"
        "A C constant is defined twice; the second definition counts."
    Preprocessor "preprocessor"
        "A `#warning` of a header."
    EmptyImport "empty-import"
        "A folder is imported in which there is nothing to import."
    OldKernel "old-kernel"
        "The kernel is older than those that rtrace is made for."
    Losses "losses"
        "The table at the end of what the output lacks: events that were lost or missed, reads \
         that failed, and the like."
    Runtime "runtime"
        "Something went wrong at a statement while the script ran: a map was full, a number was \
         divided by zero, a helper of the kernel failed (with `-k`: also reads and lookups). \
         Told once for each place, and at the end how often."
    Overhead "overhead"
        "The programs cost more than `--max-overhead` allows, and were detached."
}

/// What becomes of a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Silent,
    Shown,
    /// The script does not run.
    Error,
}

/// What becomes of each warning: `--no-warnings` and `-W`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    /// In the order of [`WARNINGS`].
    levels: [Level; WARNINGS.len()],
}

impl Default for Levels {
    /// Every warning is shown.
    fn default() -> Levels {
        Levels::SHOWN
    }
}

impl Levels {
    /// Every warning is shown.
    pub const SHOWN: Levels = Levels { levels: [Level::Shown; WARNINGS.len()] };

    /// No warning is shown.
    pub const SILENT: Levels = Levels { levels: [Level::Silent; WARNINGS.len()] };

    /// Reads what `-W` was given, in order: the last word about a warning counts.
    ///
    /// # Errors
    /// A word is unknown.
    pub fn read(no_warnings: bool, words: &[String]) -> Result<Levels, Box<Diagnostic>> {
        let mut levels = if no_warnings { Levels::SILENT } else { Levels::default() };
        for word in words {
            let (name, level) = read(word)?;
            for (row, slot) in WARNINGS.iter().zip(&mut levels.levels) {
                if name.is_none_or(|name| name == row.warning) {
                    *slot = level;
                }
            }
        }
        Ok(levels)
    }

    /// Whether a warning is shown.
    pub fn shows(&self, warning: Warning) -> bool {
        self.level(warning) != Level::Silent
    }

    /// What is left to show: silent warnings are dropped, others may be errors.
    #[must_use]
    pub fn apply(&self, diagnostics: &Diagnostics) -> Diagnostics {
        let list = diagnostics.list.iter().filter_map(|d| self.one(d)).collect();
        Diagnostics { list }
    }

    /// The same for one message.
    pub fn one(&self, diagnostic: &Diagnostic) -> Option<Diagnostic> {
        let mut shown = diagnostic.clone();
        if let (Severity::Warning, Some(name)) = (diagnostic.severity, diagnostic.name) {
            match self.level(name) {
                Level::Silent => return None,
                Level::Shown => {}
                Level::Error => shown.severity = Severity::Error,
            }
        }
        Some(shown)
    }

    fn level(&self, warning: Warning) -> Level {
        let rows = WARNINGS.iter().zip(&self.levels);
        rows.into_iter().find(|(row, _)| row.warning == warning).map_or(Level::Shown, |r| *r.1)
    }
}

fn read(word: &str) -> Result<(Option<Warning>, Level), Box<Diagnostic>> {
    let (name, level) = match word {
        "error" => return Ok((None, Level::Error)),
        "no-error" => return Ok((None, Level::Shown)),
        word => {
            if let Some(name) = word.strip_prefix("error=") {
                (name, Level::Error)
            } else if let Some(name) = word.strip_prefix("no-") {
                (name, Level::Silent)
            } else {
                (word, Level::Shown)
            }
        }
    };
    if name == "all" {
        return Ok((None, level));
    }
    if let Some(row) = WARNINGS.iter().find(|row| row.name == name) {
        return Ok((Some(row.warning), level));
    }
    let mut d = Diagnostic::global(format!("`-W {word}`: there is no warning `{name}`"));
    d = match suggest::nearest(name, WARNINGS.iter().map(|row| row.name)) {
        Some(near) => d.help(format!("did you mean `{near}`?")),
        None => {
            let names: Vec<&str> = WARNINGS.iter().map(|row| row.name).collect();
            d.note(format!("the warnings are {}", names.join(", ")))
        }
    };
    Err(Box::new(d.help("write `-W NAME`, `-W no-NAME`, `-W error` or `-W error=NAME`")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Span;

    fn levels(words: &[&str]) -> Levels {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        Levels::read(false, &words).expect("known words")
    }

    #[test]
    fn the_last_word_counts() {
        let unused = || Diagnostic::warning(Warning::UnusedValue, Span::default(), "unused");
        let severity = |words: &[&str]| levels(words).one(&unused()).map(|d| d.severity);
        assert_eq!(severity(&[]), Some(Severity::Warning));
        assert_eq!(severity(&["no-unused-value"]), None);
        assert_eq!(severity(&["no-all", "unused-value"]), Some(Severity::Warning));
        assert_eq!(severity(&["error"]), Some(Severity::Error));
        assert_eq!(severity(&["error", "no-unused-value"]), None);
        assert_eq!(severity(&["error=unused-value"]), Some(Severity::Error));
        assert_eq!(severity(&["error=unreachable"]), Some(Severity::Warning));
        assert!(levels(&["no-all", "debugf"]).shows(Warning::Debugf));
        assert!(!levels(&["no-all", "debugf"]).shows(Warning::Losses));
    }

    #[test]
    fn an_unknown_name_is_corrected() {
        let error = Levels::read(false, &["no-unusd-value".into()]).expect_err("unknown");
        assert!(error.helps.iter().any(|h| h.contains("`unused-value`")), "{error:?}");
    }

    #[test]
    fn names_are_words_with_dashes_and_docs_are_sentences() {
        for row in WARNINGS {
            assert!(row.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", row.name);
            assert!(row.doc.ends_with('.'), "{}", row.name);
            assert_eq!(row.warning.name(), row.name);
        }
    }
}
