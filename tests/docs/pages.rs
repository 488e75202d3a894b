//! The pages of the documentation, and the fenced blocks in them.

use std::path::PathBuf;

use crate::harness::{files, relative, root};

/// A page of documentation.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// Below the repository.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A fenced block.
#[derive(Debug, Clone)]
pub(crate) struct Fence {
    /// Line of the opening fence, from 1.
    pub(crate) line: usize,
    pub(crate) language: String,
    /// What follows the language.
    pub(crate) words: Vec<String>,
    pub(crate) text: String,
}

/// Every page: those at the top of the repository, and those below `docs/`.
pub(crate) fn all() -> Vec<Page> {
    let top = std::fs::read_dir(root()).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut paths: Vec<_> = top.chain(files(&root().join("docs"))).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    let page = |path: &PathBuf| Page {
        name: relative(path, root()),
        text: std::fs::read_to_string(path).unwrap_or_default(),
    };
    paths.iter().map(page).collect()
}

impl Page {
    /// The fenced blocks, in order.
    pub(crate) fn fences(&self) -> Vec<Fence> {
        let mut fences = Vec::new();
        let mut open: Option<Fence> = None;
        for (number, line) in self.text.lines().enumerate() {
            let info = line.strip_prefix("```");
            match (info, &mut open) {
                (Some(_), Some(_)) => fences.extend(open.take()),
                (Some(info), None) => {
                    let mut words = info.split_whitespace().map(str::to_owned);
                    open = Some(Fence {
                        line: number + 1,
                        language: words.next().unwrap_or_default(),
                        words: words.collect(),
                        text: String::new(),
                    });
                }
                (None, Some(fence)) => fence.text += &format!("{line}\n"),
                (None, None) => {}
            }
        }
        fences
    }

    /// The text outside of fenced blocks, line by line with their numbers.
    pub(crate) fn prose(&self) -> Vec<(usize, &str)> {
        let mut inside = false;
        let mut prose = Vec::new();
        for (number, line) in self.text.lines().enumerate() {
            if line.starts_with("```") {
                inside = !inside;
            } else if !inside {
                prose.push((number + 1, line));
            }
        }
        prose
    }
}
