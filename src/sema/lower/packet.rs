//! Headers of packets: found once, at the start of a program, and only what lies in the packet as a
//! whole; 0 stands for a header that is not there.

use super::{Lower, Remote};
use crate::ir::{BinaryOp as B, Expr, Place};
use crate::probes::{End, Header, Packet};
use crate::types::{Space, Type};

/// Keys of headers beside those of context words; no context is that large.
const KEYS: u32 = 0x2_0000;

/// Types of Ethernet frames (linux/if_ether.h), as the two bytes lie in memory.
const IP: i64 = 0x0008;
const IP6: i64 = 0xdd86;
const VLAN: [i64; 2] = [0x0081, 0xa888];

/// Bytes of headers without options.
const ETHERNET: i64 = 14;
const TAG: i64 = 4;

impl Lower<'_> {
    /// A header, or what is needed to find one.
    pub(super) fn header(&mut self, header: Header, packet: Packet) -> Expr {
        let cached = (KEYS + header as u32, 8);
        if let Some(local) = self.context.get(&cached) {
            return Expr::Local(*local);
        }
        let name = format!("{header:?}").to_lowercase();
        let local = self.at_start(&name, |l| l.find_header(header, packet));
        self.context.insert(cached, local);
        Expr::Local(local)
    }

    fn find_header(&mut self, header: Header, packet: Packet) -> Expr {
        match header {
            Header::Buffer => self.number_of(Expr::Address(Place::context(0))),
            Header::Data => self.of_buffer(packet, packet.data, 8),
            Header::End => match packet.end {
                End::Pointer(offset) => self.of_buffer(packet, offset, 8),
                End::Lengths { elsewhere, .. } => {
                    let all = self.header(Header::Length, packet);
                    let elsewhere = self.of_buffer(packet, elsewhere, 4);
                    let data = self.header(Header::Data, packet);
                    Expr::binary(B::Add, data, Expr::binary(B::Sub, all, elsewhere))
                }
            },
            Header::Length => match packet.end {
                End::Pointer(_) => {
                    let end = self.header(Header::End, packet);
                    let data = self.header(Header::Data, packet);
                    Expr::binary(B::Sub, end, data)
                }
                End::Lengths { all, .. } => self.of_buffer(packet, all, 4),
            },
            Header::Ethernet => {
                let data = self.header(Header::Data, packet);
                self.whole(data, ETHERNET, packet, |_, _| Expr::Const(1))
            }
            Header::Network if !packet.ethernet => self.header(Header::Data, packet),
            Header::Network => self.after_ethernet(packet),
            Header::Ip => self.internet(4, 20, packet),
            Header::Ip6 => self.internet(6, 40, packet),
            // Numbers of protocols (linux/in.h); in version 6, that of ICMP is another.
            Header::Tcp => self.transport([6, 6], 20, packet),
            Header::Udp => self.transport([17, 17], 8, packet),
            Header::Icmp => self.transport([1, 58], 8, packet),
        }
    }

    fn of_buffer(&mut self, packet: Packet, offset: u32, size: u8) -> Expr {
        let base = self.header(Header::Buffer, packet);
        let remote = Remote { base, offset, space: Space::Kernel };
        let word = self.read_word(&remote, &Type::int(size, false));
        self.spill("word", word)
    }

    /// A number in a packet.
    fn in_packet(&mut self, start: &Expr, offset: u32, size: u8) -> Expr {
        let remote = Remote { base: start.clone(), offset, space: Space::Kernel };
        let word = self.read_word(&remote, &Type::int(size, false));
        self.spill("word", word)
    }

    /// A start, if so many bytes from there on are in the packet and the test says yes; else 0.
    fn whole(
        &mut self,
        start: Expr,
        size: i64,
        packet: Packet,
        test: impl FnOnce(&mut Self, &Expr) -> Expr,
    ) -> Expr {
        let end = self.header(Header::End, packet);
        let result = self.local("header");
        self.set(result, Expr::Const(0));
        let there = Expr::binary(B::Ne, start.clone(), Expr::Const(0));
        let behind = Expr::binary(B::Add, start.clone(), Expr::Const(size));
        let fits = Expr::binary(B::And, there, Expr::binary(B::ULe, behind, end));
        self.when(fits, |l| {
            let is_it = test(l, &start);
            l.when(is_it, |l| l.set(result, start));
        });
        Expr::Local(result)
    }

    /// Where the internet protocol begins in a frame, behind a tag if there is one.
    fn after_ethernet(&mut self, packet: Packet) -> Expr {
        let frame = self.header(Header::Ethernet, packet);
        let end = self.header(Header::End, packet);
        let result = self.local("network");
        self.set(result, Expr::Const(0));
        let there = Expr::binary(B::Ne, frame.clone(), Expr::Const(0));
        self.when(there, |l| {
            let (kind, size) = (l.local("kind"), l.local("size"));
            let first = l.in_packet(&frame, 12, 2);
            l.set(kind, first);
            l.set(size, Expr::Const(ETHERNET));
            let is = |what: i64| Expr::binary(B::Eq, Expr::Local(kind), Expr::Const(what));
            let tagged = Expr::binary(B::Or, is(VLAN[0]), is(VLAN[1]));
            let behind = Expr::binary(B::Add, frame.clone(), Expr::Const(ETHERNET + TAG));
            let fits = Expr::binary(B::ULe, behind, end);
            l.when(Expr::binary(B::And, tagged, fits), |l| {
                let second = l.in_packet(&frame, 16, 2);
                l.set(kind, second);
                l.set(size, Expr::Const(ETHERNET + TAG));
            });
            let internet = Expr::binary(B::Or, is(IP), is(IP6));
            l.when(internet, |l| {
                l.set(result, Expr::binary(B::Add, frame.clone(), Expr::Local(size)));
            });
        });
        Expr::Local(result)
    }

    /// The header of a version of the internet protocol.
    fn internet(&mut self, version: i64, size: i64, packet: Packet) -> Expr {
        let start = self.header(Header::Network, packet);
        self.whole(start, size, packet, |l, start| {
            let first = l.in_packet(start, 0, 1);
            let found = Expr::binary(B::LShr, first, Expr::Const(4));
            Expr::binary(B::Eq, found, Expr::Const(version))
        })
    }

    /// The header behind, if it is of the protocol with that number in either version.
    fn transport(&mut self, numbers: [i64; 2], size: i64, packet: Packet) -> Expr {
        let old = self.header(Header::Ip, packet);
        let new = self.header(Header::Ip6, packet);
        let start = self.local("transport");
        self.set(start, Expr::Const(0));
        let there = |ip: &Expr| Expr::binary(B::Ne, ip.clone(), Expr::Const(0));
        self.when(there(&old), |l| {
            let protocol = l.in_packet(&old, 9, 1);
            let first = l.in_packet(&old, 0, 1);
            let words = Expr::binary(B::And, first, Expr::Const(15));
            let bytes = Expr::binary(B::Shl, words, Expr::Const(2));
            let is_it = Expr::binary(B::Eq, protocol, Expr::Const(numbers[0]));
            l.when(is_it, |l| l.set(start, Expr::binary(B::Add, old.clone(), bytes)));
        });
        self.when(there(&new), |l| {
            let protocol = l.in_packet(&new, 6, 1);
            let is_it = Expr::binary(B::Eq, protocol, Expr::Const(numbers[1]));
            l.when(is_it, |l| l.set(start, Expr::binary(B::Add, new.clone(), Expr::Const(40))));
        });
        self.whole(Expr::Local(start), size, packet, |_, _| Expr::Const(1))
    }
}
