"""One machine: boots a kernel, runs one command in it, carries its output over.

    host                                       guest
    ----                                       -----
    virtiofsd, read-only /  --- virtiofs --->  / below a tmpfs overlay
    the runner              <-- port out ----  the command's standard output
                            <-- port err ----  its standard error
                            --- port in  --->  its standard input, if asked for
                            <-- control  --->  "ready", the time, "status N"
    console (kept)          <-- ttyS0 -------  the kernel's messages

Everything goes through descriptors that the children inherit; nothing is left in
the file system, and the children die with the runner.
"""

import ctypes
import os
import re
import resource
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from . import Trouble
from .debian import HERE, KERNELS, say
from .initramfs import Archive

# Each of these saves boot time or keeps a slow, emulated machine from being taken
# for a hung one; none changes what tracing sees, but for nokaslr.
KERNEL_ARGUMENTS = """
    console=ttyS0 quiet panic=-1 oops=panic
    tsc=reliable no_timer_check lpj=4000000 nokaslr mitigations=off
    cryptomgr.notests random.trust_cpu=on lsm=bpf
    initcall_blacklist=jent_mod_init,load_system_certificate_list
    nosoftlockup nowatchdog rcupdate.rcu_cpu_stall_suppress=1
""".split()

CONSOLE_KEPT = 256 * 1024
COMPLAINTS = re.compile(rb"(?m)(Oops: |BUG: |general protection fault|------------\[ cut here)")


class Ended(Exception):
    """The guest is gone before it said the command's status."""


class OutOfTime(Exception):
    """The command, or the boot, took too long."""


class Guest:
    """`run()` gives the status of the command."""

    def __init__(self, kernel, qemu, threads, command, *, environment, memory, cpus, steady, stdin, verbose):
        self.kernel = kernel
        self.console = b""
        self.begun = False
        self.began_at = None
        self._qemu, self._threads = qemu, threads
        self._command, self._environment = command, environment
        self._memory, self._cpus, self._steady = memory, cpus, steady
        self._stdin, self._verbose = stdin, verbose
        self._children = []
        self._ports = {}
        self._status = None
        self._control = b""

    def run(self, boot_seconds, seconds):
        try:
            self._start()
            self._carry(boot_seconds, seconds)
            return self._status
        finally:
            for child in reversed(self._children):
                child.kill()
                child.wait()

    # ------------------------------------------------------------ starting

    def _start(self):
        arguments = [
            *self._qemu,
            "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            "-machine", "pc,usb=off,vmport=off,memory-backend=ram",
            "-accel", f"tcg,thread={'single' if self._steady else self._threads}",
            # A nanosecond for each instruction, however busy this machine is.
            *(["-icount", "shift=0,sleep=off"] if self._steady else []),
            "-cpu", "max,-la57",  # five-level page tables only slow the emulation down
            "-smp", str(self._cpus),
            "-m", f"{self._memory}M",
            # virtiofsd reads and writes the guest's memory, so it is shared.
            "-object", f"memory-backend-memfd,id=ram,size={self._memory}M,share=on",
            "-kernel", str(self.kernel.vmlinux),
            "-append", " ".join(KERNEL_ARGUMENTS),
            "-serial", "stdio",
            "-device", "virtio-serial-pci,max_ports=8",
        ]
        inherited = []

        initramfs = os.memfd_create("initramfs")
        os.write(initramfs, self.kernel.initramfs.read_bytes())
        os.write(initramfs, self._this_run())
        inherited.append(initramfs)
        arguments += ["-initrd", f"/proc/self/fd/{initramfs}"]

        for number, name in enumerate(("control", "out", "err", "in"), 1):
            ours, theirs = socket.socketpair()
            self._ports[name] = ours
            inherited.append(theirs.detach())
            arguments += ["-chardev", f"socket,id={name},fd={inherited[-1]}",
                          "-device", f"virtserialport,nr={number},chardev={name},name=vm.{name}"]

        inherited.append(self._share_root())
        arguments += ["-chardev", f"socket,id=root,fd={inherited[-1]}",
                      "-device", "vhost-user-fs-pci,chardev=root,tag=host,queue-size=512"]

        if self._verbose:
            say(shlex.join(arguments))
        machine = self._spawn(arguments, inherited, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for descriptor in inherited:
            os.close(descriptor)
        self._ports["console"] = machine.stdout

    def _share_root(self):
        """Starts virtiofsd; gives a descriptor that is connected to it."""
        # An abstract address: it has no file, and it is gone with the listener.
        address = f"\0rtrace-vm-{os.getpid()}-{time.monotonic_ns()}"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        listener.listen(1)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(address)
        if os.path.exists("/usr/libexec/virtiofsd"):
            daemon = ["/usr/libexec/virtiofsd", "--shared-dir=/", "--sandbox=chroot", "--cache=always",
                      "--xattr", "--thread-pool-size=1", "--log-level=error"]
        else:
            daemon = ["/usr/lib/qemu/virtiofsd", "-f", "--rlimit-nofile=0", "--thread-pool-size=1",
                      "-o", "source=/,sandbox=chroot,cache=always,xattr,log_level=err"]
        daemon.append(f"--fd={listener.fileno()}")
        # The guest mounts it read-only. This keeps a guest that does not from writing here.
        read_only = 'mount --make-rprivate / && mount -o remount,bind,ro / && exec "$@"'
        self._spawn(["unshare", "--mount", "sh", "-c", read_only, "sh", *daemon], [listener.fileno()],
                    stdout=subprocess.DEVNULL, stderr=None if self._verbose else subprocess.DEVNULL)
        listener.close()
        return connection.detach()

    def _spawn(self, command, inherited, **how):
        def child():
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            os.setpgid(0, 0)  # Ctrl-C is the runner's to handle

        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=inherited, preexec_fn=child, **how)
        self._children.append(process)
        return process

    def _this_run(self):
        """The part of the first root that belongs to this run."""
        config = {"RELEASE": self.kernel.release, "MODULES": str(self.kernel.modules), "STDIN": str(int(self._stdin))}
        archive = Archive()
        archive.file("vm/config", _assignments(config).encode())
        archive.file("vm/agent", (HERE / "guest/agent").read_bytes())
        archive.file("vm/command", self._script().encode())
        return archive.bytes()

    def _script(self):
        """The command with the caller's environment, limits and working directory."""
        row = KERNELS[self.kernel.version]
        known = {"RTRACE_VM": self.kernel.version,
                 "RTRACE_VM_HAS": ",".join(row["has"]), "RTRACE_VM_LACKS": ",".join(row["lacks"])}
        environment = {**os.environ, **self._environment, **known}
        names = [name for name in environment if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII)]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # By its path: busybox's shell would take its own `cat` before the one in PATH.
        program = shutil.which(self._command[0])
        if program is None:
            raise Trouble(f"there is no program `{self._command[0]}`")
        return "".join([
            _assignments({name: environment[name] for name in names}, "export "),
            f"ulimit -Hn {hard}; ulimit -Sn {soft}\n",
            f"cd {shlex.quote(os.getcwd())}\n",
            f"exec {shlex.join([os.path.abspath(program), *self._command[1:]])}\n",
        ])

    # ------------------------------------------------------------ running

    def _carry(self, boot_seconds, seconds):
        """Passes everything on until the guest has said the command's status."""
        deadline = time.monotonic() + boot_seconds
        with selectors.DefaultSelector() as selector:
            for name in ("control", "out", "err", "console"):
                selector.register(self._ports[name], selectors.EVENT_READ, name)
            while True:
                # The guest says the status after all output is out of its hands: what is
                # left then lies in our sockets.
                wait = 0 if self._status is not None else deadline - time.monotonic()
                if wait < 0:
                    raise OutOfTime
                ready = selector.select(wait)
                for key, _ in ready:
                    data = os.read(key.fd, 65536)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.data == "control" and self._heard(data):
                        deadline = time.monotonic() + seconds
                        if self._stdin:
                            selector.register(0, selectors.EVENT_READ, "in")
                    elif key.data == "in":
                        self._ports["in"].sendall(data)
                    elif key.data == "console":
                        self.console = (self.console + data)[-CONSOLE_KEPT:]
                        if self._verbose:
                            _write(2, data)
                    elif key.data in ("out", "err"):
                        _write(1 if key.data == "out" else 2, data)
                    if not data and key.data == "in":
                        self._ports["in"].shutdown(socket.SHUT_WR)
                if self._status is not None and not any(key.data in ("out", "err") for key, _ in ready):
                    return
                if self._status is None and "control" not in [key.data for key in selector.get_map().values()]:
                    raise Ended

    def _heard(self, data):
        """Takes in what the guest said; true when it is ready to start the command."""
        self._control += data
        status = re.search(rb"status (\d+)\n", self._control)
        if status:
            self._status = int(status.group(1))
        if self.begun or b"ready\n" not in self._control:
            return False
        self.begun = True
        self.began_at = time.monotonic()
        self._ports["control"].sendall(b"%.3f\n" % time.time())
        return True


def _assignments(variables, before=""):
    return "".join(f"{before}{name}={shlex.quote(value)}\n" for name, value in variables.items())


def _write(descriptor, data):
    while data:
        data = data[os.write(descriptor, data):]
