//! Profiles for `pprof`: a compressed protocol buffer of
//! [profile.proto](https://github.com/google/pprof/blob/main/proto/profile.proto).

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use super::{Frame, Table};

/// `perftools.profiles.Profile`, as far as we fill it.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    r#type: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    /// Innermost first.
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    str: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
    #[prost(bool, tag = "7")]
    has_functions: bool,
    #[prost(bool, tag = "8")]
    has_filenames: bool,
    #[prost(bool, tag = "9")]
    has_line_numbers: bool,
    #[prost(bool, tag = "10")]
    has_inline_frames: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(uint64, tag = "3")]
    address: u64,
    /// Inlined functions, innermost first, then the one that they are in.
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

/// Writes the samples of all maps: each map is a type of value, by its name.
/// Parts of keys that are no stacks are labels `key1`, `key2` and so on.
pub(super) fn write(out: &mut dyn Write, tables: &[&Table], ran: Duration) -> io::Result<()> {
    let profile = Builder::default().build(tables, ran);
    let mut encoder = GzEncoder::new(out, Compression::default());
    encoder.write_all(&profile.encode_to_vec())?;
    encoder.finish()?;
    Ok(())
}

/// What has a number in the profile, by what it is.
#[derive(Default)]
struct Builder {
    strings: HashMap<String, i64>,
    mappings: HashMap<i64, u64>,
    locations: HashMap<(u64, Vec<Line>), u64>,
    functions: HashMap<(i64, i64), u64>,
    profile: Profile,
}

impl Builder {
    fn build(mut self, tables: &[&Table], ran: Duration) -> Profile {
        self.string("");
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanoseconds = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
        self.profile.time_nanos = nanoseconds(since.saturating_sub(ran));
        self.profile.duration_nanos = nanoseconds(ran);
        for table in tables {
            let value = ValueType { r#type: self.string(&table.name), unit: self.string("count") };
            self.profile.sample_type.push(value);
        }
        if tables.is_empty() {
            // A profile without a type is none.
            let value = ValueType { r#type: self.string("samples"), unit: self.string("count") };
            self.profile.sample_type.push(value);
        }
        for (index, table) in tables.iter().enumerate() {
            for sample in table.samples() {
                let mut value = vec![0; tables.len()];
                if let Some(slot) = value.get_mut(index) {
                    *slot = sample.value;
                }
                let label = sample.labels.iter().enumerate().map(|(i, text)| Label {
                    key: self.string(&format!("key{}", i + 1)),
                    str: self.string(text),
                });
                let label = label.collect();
                let location_id = self.locations(&sample.frames);
                self.profile.sample.push(Sample { location_id, value, label });
            }
        }
        self.profile
    }

    /// The locations of frames that are outermost first; theirs are innermost
    /// first.
    fn locations(&mut self, frames: &[Frame]) -> Vec<u64> {
        let mut found = Vec::new();
        let mut lines = Vec::new();
        for frame in frames.iter().rev() {
            let name = self.string(&frame.name);
            let file = self.string(frame.code.as_ref().map_or("", |code| &code.path));
            let line = frame.code.as_ref().and_then(|code| code.line).unwrap_or(0);
            lines.push(Line { function_id: self.function(name, file), line: line.into() });
            if frame.inlined {
                continue;
            }
            let module = match frame.kernel {
                true => "[kernel.kallsyms]",
                false => frame.module.as_deref().unwrap_or("[unknown]"),
            };
            let module = self.string(module);
            let mapping = self.mapping(module);
            found.push(self.location(mapping, frame.address, std::mem::take(&mut lines)));
        }
        found
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(known) = self.strings.get(text) {
            return *known;
        }
        let index = i64::try_from(self.profile.string_table.len()).unwrap_or(0);
        self.profile.string_table.push(text.into());
        self.strings.insert(text.into(), index);
        index
    }

    fn function(&mut self, name: i64, filename: i64) -> u64 {
        let list = &mut self.profile.function;
        *self.functions.entry((name, filename)).or_insert_with(|| {
            let id = list.len() as u64 + 1;
            list.push(Function { id, name, system_name: name, filename });
            id
        })
    }

    fn mapping(&mut self, filename: i64) -> u64 {
        let list = &mut self.profile.mapping;
        *self.mappings.entry(filename).or_insert_with(|| {
            let id = list.len() as u64 + 1;
            list.push(Mapping {
                id,
                filename,
                has_functions: true,
                has_filenames: true,
                has_line_numbers: true,
                has_inline_frames: true,
            });
            id
        })
    }

    fn location(&mut self, mapping_id: u64, address: u64, line: Vec<Line>) -> u64 {
        let list = &mut self.profile.location;
        *self.locations.entry((address, line.clone())).or_insert_with(|| {
            let id = list.len() as u64 + 1;
            list.push(Location { id, mapping_id, address, line });
            id
        })
    }
}
