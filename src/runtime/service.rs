//! What a service manager is told (sd_notify(3)): that everything is attached, and that the run
//! ends. Nothing, unless `NOTIFY_SOCKET` is set.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The state of the run.
#[derive(Debug, Clone, Copy)]
pub(super) enum State {
    Ready,
    Stopping,
}

/// Tells the state. A manager that does not listen is no reason to fail.
pub(super) fn tell(state: State) {
    if let Some(socket) = env::var_os("NOTIFY_SOCKET") {
        drop(send(&socket, state));
    }
}

fn send(socket: &OsStr, state: State) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let text: &[u8] = match state {
        State::Ready => b"READY=1",
        State::Stopping => b"STOPPING=1",
    };
    UnixDatagram::unbound()?.send_to_addr(text, &address).map(|_| ())
}
