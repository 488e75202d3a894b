//! The tracing file system: events and the formats of their records. Where it cannot be read,
//! the kernel's types stand in for it, as far as they tell.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::btf::{self, Btf};
use super::{Host, event_types};
use crate::types::{Space, Type};

/// A mounted tracing file system, or what stands in for it.
pub struct Tracefs {
    /// As seen from here: the host's root is part of it.
    dir: PathBuf,
    events: OnceLock<Vec<Event>>,
    /// Keeps a private mount alive.
    mount: Option<std::os::fd::OwnedFd>,
    /// Why it cannot be read, if it cannot.
    absent: Option<String>,
}

/// A tracepoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    pub category: String,
    pub name: String,
}

/// What the record of a tracepoint looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// Without the fields that every event has.
    pub fields: Vec<Field>,
    /// Those, in order.
    pub common: Vec<Field>,
}

/// A field of a tracepoint's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    /// The declaration as the file has it: `const char * filename`.
    pub text: String,
    /// C text of the type; of the element's type for arrays and for data that
    /// lies elsewhere.
    pub ty: String,
    pub array: bool,
    pub place: Place,
    /// In bytes, from the start of the record.
    pub offset: u32,
    pub size: u32,
    pub signed: bool,
    /// The type, where it is not a text.
    pub known: Option<Type>,
}

/// Where the value of a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Inline,
    /// `__data_loc`: at a distance from the start of the record.
    DataLocation,
    /// `__rel_loc`: at a distance from the end of the field.
    RelativeLocation,
}

impl Tracefs {
    pub(super) fn find(host: &Host) -> Result<Tracefs, String> {
        let places = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"].map(|p| host.path(p));
        let mut denied = false;
        for dir in places {
            match fs::metadata(dir.join("events")) {
                Ok(_) => return Ok(Tracefs::of(dir, None)),
                Err(e) => denied |= e.kind() == std::io::ErrorKind::PermissionDenied,
            }
        }
        if host.is_live()
            && let Some((mount, dir)) = super::mount::detached(c"tracefs")
        {
            return Ok(Tracefs::of(dir, Some(mount)));
        }
        if denied {
            return Err("the tracing file system cannot be read without more privileges".into());
        }
        if !host.path("/sys/kernel/tracing").exists() && host.is_live() {
            return Err("the kernel has no tracing file system (it was built without \
                        `CONFIG_TRACING`)"
                .into());
        }
        Err("the tracing file system is not mounted (`mount -t tracefs tracefs \
             /sys/kernel/tracing` mounts it)"
            .into())
    }

    fn of(dir: PathBuf, mount: Option<std::os::fd::OwnedFd>) -> Tracefs {
        Tracefs { dir, events: OnceLock::new(), mount, absent: None }
    }

    /// What stands in for the file system if it cannot be read.
    pub(super) fn of_types(why: String) -> Tracefs {
        Tracefs { absent: Some(why), ..Tracefs::of(PathBuf::new(), None) }
    }

    /// Whether it is mounted for this process only.
    pub(super) fn is_private(&self) -> bool {
        self.mount.is_some()
    }

    /// Why it cannot be read and the kernel's types stand in for it, if so.
    pub fn absent(&self) -> Option<&str> {
        self.absent.as_deref()
    }

    /// A file below the mount point.
    ///
    /// # Errors
    /// The file's name and what the operating system says.
    pub fn read(&self, path: &str) -> Result<String, String> {
        if let Some(why) = &self.absent {
            return Err(why.clone());
        }
        let path = self.dir.join(path);
        let bytes = fs::read(&path).map_err(|e| format!("`{}`: {e}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Every tracepoint, sorted.
    pub fn events(&self, host: &Host) -> &[Event] {
        self.events.get_or_init(|| {
            if self.absent.is_some() {
                return event_types::events(host);
            }
            let text = self.read("available_events").unwrap_or_default();
            let mut events: Vec<Event> = text
                .lines()
                .filter_map(|line| line.trim().split_once(':'))
                .map(|(category, name)| Event { category: category.into(), name: name.into() })
                .collect();
            events.sort_unstable();
            events.dedup();
            events
        })
    }

    /// Whether there is such a tracepoint; cheaper than the list of all.
    pub fn has_event(&self, host: &Host, category: &str, name: &str) -> bool {
        if self.absent.is_some() {
            return host.btf().is_ok_and(|btf| event_types::has_event(host, btf, category, name));
        }
        plain(category) && plain(name) && self.event_dir(category, name).join("format").exists()
    }

    /// The format of a tracepoint's record.
    ///
    /// # Errors
    /// The file cannot be read, or is not understood.
    pub fn format(&self, host: &Host, category: &str, name: &str) -> Result<Format, String> {
        if let Some(why) = &self.absent {
            // Without the file system, a record cannot be asked for.
            let known = category == "syscalls" || !host.is_live();
            let btf = host.btf().ok().filter(|_| known);
            return btf.and_then(|btf| event_types::format(host, btf, category, name)).ok_or_else(
                || format!(
                    "the kernel's types do not tell the fields of `{category}:{name}`, and {why}; \
                     `rawtracepoint:{name}` has arguments that they tell"
                ),
            );
        }
        let path = self.event_dir(category, name).join("format");
        let text = fs::read_to_string(&path).map_err(|e| format!("`{}`: {e}", path.display()))?;
        parse_format(&text).map_err(|e| format!("`{}`: {e}", path.display()))
    }

    fn event_dir(&self, category: &str, name: &str) -> PathBuf {
        self.dir.join(Path::new("events").join(category).join(name))
    }
}

/// Whether a name cannot lead out of its directory.
fn plain(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != "." && name != ".."
}

/// Reads a `format` file.
///
/// # Errors
/// The line that is not understood.
pub fn parse_format(text: &str) -> Result<Format, String> {
    let mut format = Format { fields: Vec::new(), common: Vec::new() };
    for line in text.lines().map(str::trim) {
        let Some(rest) = line.strip_prefix("field:") else { continue };
        let field = parse_field(rest).ok_or_else(|| format!("`{line}` is not understood"))?;
        if field.name.starts_with("common_") {
            format.common.push(field);
        } else {
            format.fields.push(field);
        }
    }
    Ok(format)
}

/// A declaration with `offset:`, `size:` and `signed:`, each after a `;`.
pub(super) fn parse_field(line: &str) -> Option<Field> {
    let mut parts = line.split(';');
    let text = parts.next()?.trim();
    let (mut offset, mut size, mut signed) = (None, None, false);
    for part in parts {
        match part.trim().split_once(':') {
            Some(("offset", n)) => offset = n.trim().parse::<u32>().ok(),
            Some(("size", n)) => size = n.trim().parse::<u32>().ok(),
            Some(("signed", n)) => signed = n.trim() == "1",
            _ => {}
        }
    }
    let (place, declaration) = if let Some(rest) = text.strip_prefix("__data_loc ") {
        (Place::DataLocation, rest)
    } else if let Some(rest) = text.strip_prefix("__rel_loc ") {
        (Place::RelativeLocation, rest)
    } else {
        (Place::Inline, text)
    };
    // `type name`, `type name[N]`, `type[] name`; N may be text.
    let (head, suffix) = match declaration.strip_suffix(']').and_then(|d| d.rsplit_once('[')) {
        Some((head, _)) => (head.trim_end(), true),
        None => (declaration, false),
    };
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let start = head.trim_end_matches(name).len();
    let (ty, name) = head.split_at_checked(start)?;
    let ty = ty.trim();
    let (ty, prefix) = match ty.strip_suffix(']').and_then(|t| t.rsplit_once('[')) {
        Some((ty, _)) => (ty.trim_end(), true),
        None => (ty, false),
    };
    if name.is_empty() || ty.is_empty() {
        return None;
    }
    Some(Field {
        name: name.to_owned(),
        text: text.to_owned(),
        ty: ty.to_owned(),
        array: suffix || prefix,
        place,
        offset: offset?,
        size: size?,
        signed,
        known: None,
    })
}

impl Field {
    /// The field's type. Names that only BTF knows become integers without it
    /// (it is asked for only when needed, which costs time); integers take the
    /// size that they have in the record, which for arguments of system calls is
    /// 8 bytes whatever the declaration says. Pointers and integers are of
    /// `space`, except for data in the record itself, which the kernel has copied.
    pub fn convert<'b>(&self, btf: impl Fn() -> Option<&'b Btf>, space: Space) -> Type {
        if let Some(Type::Int { size, signed, .. }) = self.known {
            return Type::Int { size, signed, space };
        }
        if let Some(known) = &self.known {
            return known.clone();
        }
        let known = btf::parse_type(&self.ty, |tag, name| {
            let base = || if tag.is_none() { btf::base_type(name) } else { None };
            base().or_else(|| btf()?.find_type(tag, name))
        });
        if self.place != Place::Inline {
            let to = known.unwrap_or(Type::int(1, false));
            return Type::ptr(to, Space::Kernel);
        }
        if self.array {
            let element = known.unwrap_or(Type::int(1, false));
            return match element.size() {
                1 if matches!(element, Type::Int { .. }) => Type::Str(self.size),
                0 => Type::Str(self.size),
                size => Type::Array { of: Box::new(element), len: self.size / size },
            };
        }
        let integer = |size: u32, signed: bool| match u8::try_from(size) {
            Ok(size @ (1 | 2 | 4 | 8)) => Type::Int { size, signed, space },
            _ => Type::Array { of: Box::new(Type::int(1, false)), len: size },
        };
        match known {
            Some(Type::Int { signed, .. }) => integer(self.size, signed),
            Some(Type::Enum(e)) if u32::from(e.size) == self.size => Type::Enum(e),
            Some(Type::Enum(e)) => integer(self.size, e.signed),
            Some(Type::Bool) if self.size == 1 => Type::Bool,
            Some(Type::Bool) => integer(self.size, false),
            Some(Type::Ptr { to, .. }) if self.size == 8 => Type::Ptr { to, space },
            Some(ty) if ty.size() == self.size && ty != Type::Void => ty,
            _ if self.ty.ends_with('*') && self.size == 8 => Type::ptr(Type::Void, space),
            _ => integer(self.size, self.signed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENAT: &str = "name: sys_enter_openat\nID: 782\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;\n\
        \tfield:int dfd;\toffset:16;\tsize:8;\tsigned:0;\n\
        \tfield:const char * filename;\toffset:24;\tsize:8;\tsigned:0;\n\
        \tfield:umode_t mode;\toffset:40;\tsize:8;\tsigned:0;\n\n\
        print fmt: \"dfd: 0x%08lx\", ((unsigned long)(REC->dfd))\n";

    fn shown(text: &str) -> Vec<String> {
        let format = parse_format(text).unwrap();
        let show = |f: &Field| format!("{}: {}", f.name, f.convert(|| None, Space::User));
        format.fields.iter().map(show).collect()
    }

    #[test]
    fn fields_of_a_system_call() {
        assert_eq!(
            shown(OPENAT),
            ["__syscall_nr: int32", "dfd: int64", "filename: int8 *", "mode: uint64"]
        );
        let format = parse_format(OPENAT).unwrap();
        assert_eq!(format.common.len(), 2);
        assert_eq!(format.fields[2].text, "const char * filename");
    }

    #[test]
    fn arrays_and_data_elsewhere() {
        let text = "field:char comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\
            field:char x[TASK_COMM_LEN];\toffset:8;\tsize:16;\tsigned:0;\n\
            field:unsigned long args[6];\toffset:16;\tsize:48;\tsigned:0;\n\
            field:__u8 addr[4];\toffset:16;\tsize:4;\tsigned:0;\n\
            field:__data_loc char[] name;\toffset:64;\tsize:4;\tsigned:0;\n\
            field:__rel_loc __u8[] data;\toffset:68;\tsize:4;\tsigned:0;\n\
            field:struct sk_buff * skb;\toffset:72;\tsize:8;\tsigned:0;\n\
            field:bool on;\toffset:80;\tsize:1;\tsigned:0;";
        assert_eq!(
            shown(text),
            [
                "comm: string[16]",
                "x: string[16]",
                "args: uint64[6]",
                "addr: string[4]",
                "name: int8 *",
                "data: uint8 *",
                "skb: void *",
                "on: bool"
            ]
        );
    }

    #[test]
    fn odd_lines_are_errors_or_skipped() {
        assert!(parse_format("field:;offset:1;").is_err());
        assert!(parse_format("field:int x;offset:99999999999;size:4;").is_err());
        assert!(parse_format("no fields").unwrap().fields.is_empty());
        for end in 0..OPENAT.len() {
            let _ = parse_format(&OPENAT[..end]);
        }
    }
}
