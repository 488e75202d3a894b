//! Packets, where network devices and cgroups pass them on. Programs there could drop or change
//! packets; ours only look, and every packet goes on.
//!
//! Programs get `struct xdp_buff` or `struct sk_buff`, of which the kernel shows them a little under
//! other names; we read the real ones by the kernel's types, like any memory of the kernel. Headers
//! are found at the start of a program, each only if it lies in the packet as a whole: an argument
//! such as `args.tcp` is a pointer, or 0.

use super::list::{Line, Query};
use super::text::Part;
use super::{Access, Argument, Context, Expanded, Instance, Provider, Request, Side};
use crate::diag::{self, Diagnostic, Diagnostics};
use crate::host::Host;
use crate::host::btf::Btf;
use crate::host::features::Feature;
use crate::ir::ProgramKind;
use crate::parser::ast::TypeTag;
use crate::plan::{Hook, Mechanism};
use crate::types::{Space, Type};

pub(super) static XDP: Provider = Provider {
    name: "xdp",
    aliases: &[],
    usage: &["xdp:lo"],
    doc: "Fires for each packet that a network device receives, before the kernel has looked at it.",
    side: Side::Named,
    expand: expand_xdp,
    list,
};

pub(super) static TC: Provider = Provider {
    name: "tc",
    aliases: &[],
    usage: &["tc:lo:ingress", "tc:lo:egress"],
    doc: "Fires for each packet that a network device receives or sends.",
    side: Side::Named,
    expand: expand_tc,
    list,
};

pub(super) static CGROUP_SKB: Provider = Provider {
    name: "cgroup_skb",
    aliases: &[],
    usage: &["cgroup_skb:/:ingress", "cgroup_skb:/:egress"],
    doc: "Fires for each packet that the sockets of a cgroup receive or send.",
    side: Side::Named,
    expand: expand_cgroup,
    list,
};

/// What a program can ask of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The address of the kernel's struct.
    Buffer,
    /// Where the bytes begin and end that are there in one piece.
    Data,
    End,
    /// All bytes of the packet.
    Length,
    Ethernet,
    /// The header after that of the link, if it is one of the internet protocol.
    Network,
    Ip,
    Ip6,
    Tcp,
    Udp,
    Icmp,
}

/// Where the kernel's struct of a packet has what is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// The pointer to the bytes.
    pub data: u32,
    pub end: End,
    /// The bytes begin with an Ethernet header.
    pub ethernet: bool,
}

/// How the end of the bytes is had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By a pointer, at this offset.
    Pointer(u32),
    /// By two numbers of 4 bytes: all bytes, and those of them that are elsewhere.
    Lengths { all: u32, elsewhere: u32 },
}

fn expand_xdp(request: &Request<'_>, diags: &mut Diagnostics) -> Expanded {
    match request.parts.as_slice() {
        [device] => on_devices(request, device, Hook::Xdp, diags),
        _ => Err(request.wrong_parts()),
    }
}

fn expand_tc(request: &Request<'_>, diags: &mut Diagnostics) -> Expanded {
    let [device, direction] = request.parts.as_slice() else { return Err(request.wrong_parts()) };
    if !request.host.has(Feature::Tcx) {
        let d = Diagnostic::error(request.span(), "this kernel has no `tc` probes")
            .note("it cannot link programs to the traffic of a device (tcx, Linux 6.6)");
        return Err(Box::new(d.help("`xdp` sees what a device receives")));
    }
    let hook = direction_of(request, direction, [Hook::TcIngress, Hook::TcEgress])?;
    on_devices(request, device, hook, diags)
}

fn expand_cgroup(request: &Request<'_>, diags: &mut Diagnostics) -> Expanded {
    let [path, direction] = request.parts.as_slice() else { return Err(request.wrong_parts()) };
    let hook = direction_of(request, direction, [Hook::CgroupIngress, Hook::CgroupEgress])?;
    let found = match request.host.cgroup(&path.text) {
        Ok(found) => found.path.to_string_lossy().into_owned(),
        Err(_) if !request.host.is_live() => path.text.clone(),
        Err(reason) => return request.missing(request.error_at(path, reason), diags),
    };
    let name = format!("cgroup_skb:{}:{}", path.text, direction.text);
    Ok(vec![instance(request, hook, vec![(name, found)])?])
}

/// Which of two hooks is meant.
fn direction_of(
    request: &Request<'_>,
    part: &Part,
    [ingress, egress]: [Hook; 2],
) -> Result<Hook, Box<Diagnostic>> {
    match part.text.as_str() {
        "ingress" => Ok(ingress),
        "egress" => Ok(egress),
        other => {
            let d = request.error_at(part, format!("`{other}` is no direction"));
            Err(Box::new(d.help("write `ingress` for what is received, `egress` for what is sent")))
        }
    }
}

fn on_devices(
    request: &Request<'_>,
    device: &Part,
    hook: Hook,
    diags: &mut Diagnostics,
) -> Expanded {
    let known = devices(request.host);
    let found: Vec<String> = match device.is_wildcard() {
        true => known.iter().filter(|name| device.matches(name)).cloned().collect(),
        // A recorded machine does not say.
        false if known.contains(&device.text) || !request.host.is_live() => {
            vec![device.text.clone()]
        }
        false => {
            let message = format!("there is no network device `{}`", device.text);
            let d = request.error_at(device, message);
            let d = match diag::nearest(&device.text, known.iter().map(String::as_str)) {
                Some(near) => d.at(format!("did you mean `{near}`?")),
                None => d.note(format!("there are {}", known.join(", "))),
            };
            return request.missing(Box::new(d), diags);
        }
    };
    if found.is_empty() {
        let message = format!("no network device matches `{}`", device.text);
        super::nothing_matches(request.point, &message, request.options, diags);
    }
    let place = |device: String| match hook {
        Hook::TcIngress => (format!("tc:{device}:ingress"), device),
        Hook::TcEgress => (format!("tc:{device}:egress"), device),
        Hook::Xdp | Hook::CgroupIngress | Hook::CgroupEgress => (format!("xdp:{device}"), device),
    };
    let places = found.into_iter().map(place);
    // These programs do not learn which of their links runs them.
    match request.needs.probe_name {
        true => places.map(|place| instance(request, hook, vec![place])).collect(),
        false => {
            let places: Vec<_> = places.collect();
            match places.is_empty() {
                true => Ok(Vec::new()),
                false => Ok(vec![instance(request, hook, places)?]),
            }
        }
    }
}

/// A program for places: the names of its probes, and devices or cgroups.
fn instance(
    request: &Request<'_>,
    hook: Hook,
    places: Vec<(String, String)>,
) -> Result<Instance, Box<Diagnostic>> {
    let unknown = |reason: String| {
        let message = format!("this kernel has no `{}` probes", request.provider.name);
        Box::new(Diagnostic::error(request.span(), message).note(reason))
    };
    let btf = request.host.btf().map_err(unknown)?;
    let packet = packet(btf, hook);
    let packet = packet.ok_or_else(|| unknown("its types do not describe packets".into()))?;
    // `XDP_PASS`, `TCX_NEXT` and "yes" (linux/bpf.h).
    let (section, result) = match hook {
        Hook::Xdp => ("xdp", 2),
        Hook::TcIngress => ("tcx/ingress", -1),
        Hook::TcEgress => ("tcx/egress", -1),
        Hook::CgroupIngress => ("cgroup_skb/ingress", 1),
        Hook::CgroupEgress => ("cgroup_skb/egress", 1),
    };
    let context = Context {
        args: Ok(arguments(btf, hook, packet)),
        numbered: Err("arguments have names here; use `args.<name>`".into()),
        result,
        ..Context::none(request.provider, Space::Kernel)
    };
    let link = |(name, place)| request.attach(vec![name], Mechanism::Packets { hook, place });
    Ok(Instance {
        kind: ProgramKind::Packet,
        section: section.into(),
        context,
        attach: places.into_iter().map(link).collect(),
        syscalls: None,
        keeper: None,
    })
}

fn packet(btf: &Btf, hook: Hook) -> Option<Packet> {
    if hook == Hook::Xdp {
        // `struct xdp_buff` begins with both pointers, and always did.
        return Some(Packet { data: 0, end: End::Pointer(8), ethernet: true });
    }
    let found = btf.find_type(Some(TypeTag::Struct), "sk_buff")?;
    let Type::Struct(buffer) = found else { return None };
    let member = |name: &str| btf.member_at(buffer.id, name).map(|m| m.0);
    let end = End::Lengths { all: member("len")?, elsewhere: member("data_len")? };
    let ethernet = !matches!(hook, Hook::CgroupIngress | Hook::CgroupEgress);
    Some(Packet { data: member("data")?, end, ethernet })
}

/// What programs find: the length, the kernel's struct, the headers.
fn arguments(btf: &Btf, hook: Hook, packet: Packet) -> Vec<Argument> {
    let (name, buffer) = match hook {
        Hook::Xdp => ("buff", "xdp_buff"),
        _ => ("skb", "sk_buff"),
    };
    let headers = [
        (name, buffer, Header::Buffer),
        ("eth", "ethhdr", Header::Ethernet),
        ("ip", "iphdr", Header::Ip),
        ("ip6", "ipv6hdr", Header::Ip6),
        ("tcp", "tcphdr", Header::Tcp),
        ("udp", "udphdr", Header::Udp),
        ("icmp", "icmphdr", Header::Icmp),
    ];
    let length = Argument {
        name: "len".into(),
        ty: Type::int(4, false),
        access: Access::Packet { header: Header::Length, packet },
    };
    let pointer = |(name, ty, header): (&str, &str, Header)| {
        let to = btf.find_type(Some(TypeTag::Struct), ty)?;
        let ty = Type::ptr(to, Space::Kernel);
        Some(Argument { name: name.into(), ty, access: Access::Packet { header, packet } })
    };
    let shown = headers.into_iter().filter(|h| packet.ethernet || h.2 != Header::Ethernet);
    std::iter::once(length).chain(shown.filter_map(pointer)).collect()
}

/// The network devices of rtrace's own namespace.
fn devices(host: &Host) -> Vec<String> {
    let text = host.network_devices();
    // Two lines of head.
    let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    let mut names: Vec<String> = names.map(|(name, _)| name.trim().to_owned()).collect();
    names.sort_unstable();
    names
}

fn list(query: &Query<'_>) -> Result<Vec<Line>, String> {
    let provider = query.provider.name;
    let mut lines = Vec::new();
    for place in match provider {
        "cgroup_skb" => query.host.cgroups()?,
        _ => devices(query.host),
    } {
        match provider {
            "xdp" if query.accepts(&[&place]) => lines.push(Line::of(format!("xdp:{place}"))),
            "xdp" => {}
            _ => {
                let directions = ["ingress", "egress"].into_iter();
                let wanted = directions.filter(|d| query.accepts(&[&place, d]));
                lines.extend(wanted.map(|d| Line::of(format!("{provider}:{place}:{d}"))));
            }
        }
    }
    Ok(lines)
}
