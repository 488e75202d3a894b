//! The works: each prepares what it needs and gives the function that one round calls.
//!
//! System calls go through `libc::syscall`, so that a round is exactly the calls that its
//! line in [`WORKS`] names, whatever the C library would make of them.

use std::ffi::{CString, c_long};
use std::os::fd::AsRawFd;

use crate::{markers, targets};

pub(crate) struct Options {
    /// Rounds for each thread.
    pub(crate) count: u64,
    /// The i-th round uses the i-th, again from the first after the last. Not empty.
    pub(crate) sizes: Vec<usize>,
    pub(crate) path: String,
    /// Milliseconds.
    pub(crate) ms: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { count: 0, sizes: vec![64], path: String::new(), ms: 1 }
    }
}

/// Called with 0, 1, 2 … by the thread that prepared it.
pub(crate) type Round = Box<dyn FnMut(u64) -> Result<(), String>>;
pub(crate) type Work = fn(&Options) -> Result<Round, String>;

/// Names, and what one round does.
pub(crate) const WORKS: [(&str, &str); 25] = [
    ("reads", "read(2) of --bytes from /dev/zero (or --path)"),
    ("writes", "write(2) of --bytes to /dev/null (or --path)"),
    ("opens", "openat(2) of /dev/null (or --path), and close(2) if it was there"),
    ("getppid", "getppid(2)"),
    ("forks", "fork, the child ends at once with status 3, wait4(2)"),
    ("execs", "fork, the child runs /bin/true (or --path), wait4(2)"),
    ("signals", "kill(2) of itself with SIGUSR1, which it ignores"),
    ("sleeps", "nanosleep(2) of --ms"),
    ("spins", "--ms of work on the CPU, in rt_target_spin"),
    ("faults", "one page of new memory is written for the first time"),
    ("connects", "a TCP connection to a port of this machine: socket, connect, close"),
    ("datagrams", "a UDP datagram of --bytes to a port of this machine, which is received"),
    ("mallocs", "malloc and free of --bytes, in the C library"),
    ("adds", "rt_target_add(i, 2 * i), which returns 3 * i"),
    ("sixes", "rt_target_six(i, -1, 3, 4, 5, 6), which returns -i"),
    ("strings", "rt_target_str(\"alpha\", \"beta\", \"gamma\" or \"delta\", in turn)"),
    (
        "structs",
        "rt_target_struct(&RtRecord { id: i, kind: 7, size: 1 << 40, name: \"record\", next })",
    ),
    ("nests", "rt_target_outer, which calls rt_target_inner three times"),
    ("stores", "i is written to the 8 bytes at address 0x10000000 by rt_target_store"),
    ("markers", "the marker rtrace:shapes, then three copies of rtrace:copies"),
    ("watched", "the marker rtrace:watched, if somebody watches it"),
    ("library", "rt_library(i) of the shared library --path, with the markers of library.c"),
    (
        "sums",
        "rt_sum_twice(10000) of that library, and so 20001 calls of rt_sum inside of each other",
    ),
    ("archive", "rt_sum(0) of that library as it lies in the archive --path"),
    ("stacks", "rt_stack_outer, which calls …_first, …_second and …_leaf, which calls getppid(2)"),
];

pub(crate) fn find(name: &str) -> Option<Work> {
    Some(match name {
        "reads" => reads,
        "writes" => writes,
        "opens" => opens,
        "getppid" => getppid,
        "forks" => forks,
        "execs" => execs,
        "signals" => signals,
        "sleeps" => sleeps,
        "spins" => spins,
        "faults" => faults,
        "connects" => connects,
        "datagrams" => datagrams,
        "mallocs" => mallocs,
        "adds" => |_| each(|i| _ = targets::rt_target_add(i.cast_signed(), 2 * i.cast_signed())),
        "sixes" => |_| each(|i| _ = targets::rt_target_six(i.cast_signed(), -1, 3, 4, 5, 6)),
        "strings" => |_| each(targets::string),
        "structs" => |_| each(targets::record),
        "nests" => |_| each(|i| _ = targets::rt_target_outer(i)),
        "stores" => |_| {
            let at = targets::fixed_page()?;
            each(move |i| targets::rt_target_store(at, i))
        },
        "markers" => |_| each(markers::shapes),
        "watched" => |_| each(markers::watched),
        "library" => |options| each(markers::library(&options.path)?),
        "sums" => |options| each(markers::sums(&options.path)?),
        "archive" => |options| each(markers::archive(&options.path)?),
        "stacks" => |_| each(|_| targets::stack()),
        _ => return None,
    })
}

/// The result of a system call, or what the kernel said against it.
pub(crate) fn checked(call: &str, result: c_long) -> Result<c_long, String> {
    if result < 0 {
        return Err(format!("{call}: {}", std::io::Error::last_os_error()));
    }
    Ok(result)
}

/// A work that cannot fail.
fn each(mut round: impl FnMut(u64) + 'static) -> Result<Round, String> {
    Ok(Box::new(move |i| {
        round(i);
        Ok(())
    }))
}

/// The size for round `i`.
fn size(sizes: &[usize], i: u64) -> usize {
    let at = usize::try_from(i).unwrap_or(0) % sizes.len().max(1);
    sizes.get(at).copied().unwrap_or(0)
}

fn path(options: &Options, otherwise: &str) -> Result<CString, String> {
    let path = if options.path.is_empty() { otherwise } else { &options.path };
    CString::new(path).map_err(|_| "a path has a NUL byte".into())
}

/// A system call on an open file and a buffer that is large enough for every size.
fn transfers(
    options: &Options,
    file: std::fs::File,
    name: &'static str,
    call: c_long,
) -> Result<Round, String> {
    let sizes = options.sizes.clone();
    let mut buffer = vec![0_u8; sizes.iter().copied().max().unwrap_or(0)];
    Ok(Box::new(move |i| {
        let size = size(&sizes, i);
        // SAFETY: the buffer has at least `size` bytes and lives as long as this closure.
        let done = unsafe { libc::syscall(call, file.as_raw_fd(), buffer.as_mut_ptr(), size) };
        checked(name, done).map(drop)
    }))
}

fn reads(options: &Options) -> Result<Round, String> {
    let path = path(options, "/dev/zero")?.into_string().map_err(|why| why.to_string())?;
    let file = std::fs::File::open(&path).map_err(|why| format!("{path}: {why}"))?;
    transfers(options, file, "read", libc::SYS_read)
}

fn writes(options: &Options) -> Result<Round, String> {
    let path = path(options, "/dev/null")?.into_string().map_err(|why| why.to_string())?;
    let file =
        std::fs::File::options().write(true).open(&path).map_err(|why| format!("{path}: {why}"))?;
    transfers(options, file, "write", libc::SYS_write)
}

/// Opening what is not there is work too: a failed call is not an error here.
fn opens(options: &Options) -> Result<Round, String> {
    let path = path(options, "/dev/null")?;
    each(move |_| {
        // SAFETY: a NUL-terminated path; the descriptor is this function's own.
        unsafe {
            let flags = libc::O_RDONLY | libc::O_CLOEXEC;
            let fd = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0);
            if fd >= 0 {
                libc::syscall(libc::SYS_close, fd);
            }
        }
    })
}

fn getppid(_: &Options) -> Result<Round, String> {
    each(|_| {
        // SAFETY: takes nothing and touches nothing.
        unsafe { libc::syscall(libc::SYS_getppid) };
    })
}

fn forks(_: &Options) -> Result<Round, String> {
    Ok(Box::new(|_| {
        // SAFETY: the child calls nothing but `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(3) };
        }
        wait(child)
    }))
}

fn execs(options: &Options) -> Result<Round, String> {
    let path = path(options, "/bin/true")?;
    Ok(Box::new(move |_| {
        let arguments = [path.as_ptr(), std::ptr::null()];
        // SAFETY: the child calls only `execv`, with a NUL-terminated path and a null-terminated
        // list that live until it is replaced, and `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: see above.
            unsafe {
                libc::execv(path.as_ptr(), arguments.as_ptr());
                libc::_exit(127);
            }
        }
        wait(child)
    }))
}

fn wait(child: libc::pid_t) -> Result<(), String> {
    checked("fork", child.into())?;
    let no_status = std::ptr::null_mut::<libc::c_int>();
    let no_usage = std::ptr::null_mut::<libc::rusage>();
    // SAFETY: null pointers say that neither status nor usage is wanted.
    checked("wait4", unsafe { libc::syscall(libc::SYS_wait4, child, no_status, 0, no_usage) })
        .map(drop)
}

fn signals(_: &Options) -> Result<Round, String> {
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
    let me = std::process::id();
    Ok(Box::new(move |_| {
        // SAFETY: the signal goes to this process, which ignores it.
        checked("kill", unsafe { libc::syscall(libc::SYS_kill, me, libc::SIGUSR1) }).map(drop)
    }))
}

fn sleeps(options: &Options) -> Result<Round, String> {
    let seconds = (options.ms / 1000).try_into().map_err(|_| "too long")?;
    let nanoseconds = (options.ms % 1000 * 1_000_000).try_into().map_err(|_| "too long")?;
    let time = libc::timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Ok(Box::new(move |_| {
        let no_rest = std::ptr::null_mut::<libc::timespec>();
        // SAFETY: reads `time`; a null pointer says that the rest is not wanted.
        checked("nanosleep", unsafe {
            libc::syscall(libc::SYS_nanosleep, &raw const time, no_rest)
        })
        .map(drop)
    }))
}

fn spins(options: &Options) -> Result<Round, String> {
    let ms = options.ms;
    each(move |_| targets::rt_target_spin(ms))
}

fn faults(options: &Options) -> Result<Round, String> {
    let page = 4096;
    let pages = usize::try_from(options.count).map_err(|_| "too many pages")?;
    // SAFETY: new memory at an address of the kernel's choice; never unmapped, so that it is
    // valid for as long as the closure that has it.
    let memory = unsafe {
        let memory = libc::mmap(
            std::ptr::null_mut(),
            pages * page,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if memory == libc::MAP_FAILED {
            return Err(format!("mmap: {}", std::io::Error::last_os_error()));
        }
        // One fault for one page, not for 512.
        libc::madvise(memory, pages * page, libc::MADV_NOHUGEPAGE);
        memory.cast::<u8>()
    };
    each(move |i| {
        let page_of_round = usize::try_from(i).unwrap_or(0) * page;
        // SAFETY: rounds are fewer than pages.
        unsafe { memory.add(page_of_round).write_volatile(1) };
    })
}

fn connects(_: &Options) -> Result<Round, String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|why| why.to_string())?;
    let port = listener.local_addr().map_err(|why| why.to_string())?.port();
    Ok(Box::new(move |_| {
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET.try_into().map_err(|_| "no such family")?,
            sin_port: port.to_be(),
            sin_addr: libc::in_addr { s_addr: libc::INADDR_LOOPBACK.to_be() },
            sin_zero: [0; 8],
        };
        let flags = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        // SAFETY: `address` is an IPv4 address of the size that is given; the socket is this
        // function's own.
        unsafe {
            let socket =
                checked("socket", libc::syscall(libc::SYS_socket, libc::AF_INET, flags, 0))?;
            let status =
                libc::syscall(libc::SYS_connect, socket, &raw const address, size_of_val(&address));
            let connected = checked("connect", status);
            libc::syscall(libc::SYS_close, socket);
            connected?;
        }
        // Taken from the queue, so that any number of rounds finds room in it.
        listener.accept().map(drop).map_err(|why| why.to_string())
    }))
}

fn datagrams(options: &Options) -> Result<Round, String> {
    let socket = || std::net::UdpSocket::bind("127.0.0.1:0").map_err(|why| why.to_string());
    let (sender, receiver) = (socket()?, socket()?);
    let to = receiver.local_addr().map_err(|why| why.to_string())?;
    let sizes = options.sizes.clone();
    let mut buffer = vec![0_u8; sizes.iter().copied().max().unwrap_or(0)];
    Ok(Box::new(move |i| {
        let bytes = buffer.get(..size(&sizes, i)).unwrap_or_default();
        sender.send_to(bytes, to).map_err(|why| why.to_string())?;
        receiver.recv(&mut buffer).map(drop).map_err(|why| why.to_string())
    }))
}

fn mallocs(options: &Options) -> Result<Round, String> {
    let sizes = options.sizes.clone();
    each(move |i| {
        // SAFETY: freed once, not used in between; the volatile look keeps the pair in the program.
        unsafe {
            let memory = libc::malloc(size(&sizes, i));
            libc::free(std::hint::black_box(memory));
        }
    })
}
