"""Kernels and QEMU from Debian's archives, kept in a cache.

No archive is named here: what apt's own sources say is used, with only the suite
changed. apt gets a private state for each suite, so that the machine's sources,
package lists and installed packages stay as they are.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from . import Trouble
from .initramfs import Archive

HERE = Path(__file__).resolve().parent.parent
CONFIG = tomllib.loads((HERE / "kernels.toml").read_text())
KERNELS = CONFIG["kernels"]

# Part of every cache path: a change of what is kept there, or of the guest's init
# program, is a new number, and nobody has to clean up by hand.
LAYOUT = "1"

# Modules without which the guest would not see its root and its channels. What a
# kernel has built in is skipped; what these need is added.
MODULES = ["virtio_pci", "virtio_console", "virtiofs", "overlay"]


def say(*words):
    print("vm:", *words, file=sys.stderr, flush=True)


def run(*command, **how):
    """The standard output of a command; Trouble with the end of its errors if it fails."""
    done = subprocess.run(command, capture_output=True, **how)
    if done.returncode:
        errors = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise Trouble(f"`{' '.join(map(str, command))}` failed: {errors[-2000:]}")
    return done.stdout


def cache(*below):
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base, "rtrace-vm", LAYOUT, *below)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def filled(directory):
    """Yields an empty directory that becomes `directory` if all goes well, or None if
    that is there already. Of several processes, one fills and the others wait."""
    with open(f"{directory}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if directory.exists():
            yield None
            return
        fresh = Path(tempfile.mkdtemp(dir=directory.parent, prefix=directory.name + ".new."))
        try:
            yield fresh
            fresh.chmod(0o755)
            fresh.rename(directory)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


# ---------------------------------------------------------------- archives


class Suite:
    """One Debian suite, seen through an apt of its own."""

    def __init__(self, name):
        state = cache("apt", name)
        for part in ("lists/partial", "cache/archives/partial"):
            (state / part).mkdir(parents=True, exist_ok=True)
        sources = state / "sources.list"
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        sources.write_text(f"deb [signed-by={keyring}] {_archive_of(name)} {name} main\n")
        self._options = [
            "-o", f"Dir::Etc::SourceList={sources}",
            "-o", "Dir::Etc::SourceParts=/dev/null",
            "-o", f"Dir::State::Lists={state}/lists",
            "-o", f"Dir::Cache={state}/cache",
            "-o", "APT::Sandbox::User=root",  # the cache may be in a home that _apt cannot enter
            "-o", "Acquire::Retries=3",
            "-qq",
        ]
        run("apt-get", *self._options, "update")

    def packages(self, prefix):
        return run("apt-cache", *self._options, "pkgnames", prefix).decode().split()

    def unpack(self, packages, into):
        """Unpacks packages, as they are in the suite now, below a directory."""
        with tempfile.TemporaryDirectory(dir=into.parent) as debs:
            run("apt-get", *self._options, "download", *packages, cwd=debs)
            for deb in Path(debs).glob("*.deb"):
                run("dpkg", "-x", deb, into)


def _archive_of(suite):
    """Where this machine's apt gets Debian from: the security archive or the main one."""

    def known():
        answer = run("apt-get", "indextargets", "--format", "$(ORIGIN)|$(CODENAME)|$(REPO_URI)",
                     "Created-By: Packages", "Component: main").decode()
        archives = {}
        for line in answer.splitlines():
            origin, codename, uri = line.split("|", 2)
            if origin == "Debian":
                archives.setdefault(codename.endswith("-security"), uri)
        return archives

    wanted = suite.endswith("-security")
    archives = known()
    if wanted not in archives:  # the lists were never fetched, or were removed to save space
        run("apt-get", "update", "-qq")
        archives = known()
    if wanted not in archives:
        kind = "security archive" if wanted else "archive"
        raise Trouble(f"apt's sources name no Debian {kind}, which has `{suite}`")
    return archives[wanted]


# ---------------------------------------------------------------- kernels


class Kernel:
    """A kernel in the cache; fetched if it is not there."""

    def __init__(self, version):
        self.version = version
        self.directory = cache("kernels", version)
        with filled(self.directory) as fresh:
            if fresh:
                _fetch(version, fresh)
        about = json.loads((self.directory / "about.json").read_text())
        self.release = about["release"]
        self.vmlinux = self.directory / "vmlinux"
        self.modules = self.directory / "lib/modules" / self.release
        self.initramfs = self.directory / "initramfs"


def _fetch(version, into):
    row = KERNELS[version]
    say(f"fetching kernel {version} from {row['suite']}")
    suite = Suite(row["suite"])
    found = [name for name in suite.packages("linux-image-" + version) if re.fullmatch(row["package"], name)]
    if not found:
        raise Trouble(f"`{row['suite']}` has no package like `{row['package']}`")
    package = max(found, key=lambda name: [int(digits) for digits in re.findall(r"\d+", name)])
    release = package.removeprefix("linux-image-")
    # Since 7.x the image package only depends on those that hold the files.
    parts = [f"linux-{part}-{release}" for part in ("binary", "modules", "base")]
    packages = [package] + [part for part in parts if part in suite.packages(part)]

    files = into / "unpacked"
    suite.unpack(packages, files)
    modules = _first(files / "lib/modules" / release, files / "usr/lib/modules" / release, having="kernel")
    image = _first(files / "boot" / f"vmlinuz-{release}", files / "usr/lib/modules" / release / "vmlinuz")
    (into / "vmlinux").write_bytes(_vmlinux(image))
    (into / "lib/modules").mkdir(parents=True)
    modules.rename(into / "lib/modules" / release)
    shutil.rmtree(files)
    run("depmod", "--basedir", into, release)  # modprobe in the guest wants an index
    (into / "initramfs").write_bytes(_initramfs(into / "lib/modules" / release))
    (into / "about.json").write_text(json.dumps({"release": release, "package": package, "suite": row["suite"]}))
    say(f"kernel {version} is {release}")


def _first(*paths, having="."):
    for path in paths:
        if (path / having).exists():
            return path
    raise Trouble(f"the kernel package has none of {', '.join(map(str, paths))}")


def _vmlinux(image):
    """The ELF kernel inside a bzImage. QEMU can start that directly, which saves the
    boot loader and, above all, unpacking it under emulation.
    Offsets: Documentation/arch/x86/boot.rst in Linux."""
    data = image.read_bytes()
    if data[0x202:0x206] != b"HdrS":
        raise Trouble(f"{image} is not a bzImage")
    setup_sectors = data[0x1F1] or 4
    offset, length = struct.unpack_from("<II", data, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = data[start:start + length]
    unpackers = {b"\x28\xb5\x2f\xfd": "zstd", b"\x02\x21\x4c\x18": "lz4", b"\xfd7zXZ\0": "xz", b"\x1f\x8b": "gzip"}
    for magic, unpacker in unpackers.items():
        if payload.startswith(magic):
            # The size of the result stands after the stream; unpackers complain about that, so
            # the result is judged, not their status.
            size = int.from_bytes(payload[-4:], "little")
            out = subprocess.run([unpacker, "-dc"], input=payload, capture_output=True).stdout[:size]
            if len(out) == size and out.startswith(b"\x7fELF"):
                return out
    raise Trouble(f"the kernel inside {image} is packed in a way that is not known here")


def _initramfs(modules):
    """What every run starts with: busybox, the modules above in loading order, init."""
    archive = Archive()
    for name in ("bin", "dev", "lower", "modules", "new", "proc", "rw", "sys", "vm"):
        archive.directory(name)
    archive.character_device("dev/console", 5, 1)
    archive.file("bin/busybox", Path(shutil.which("busybox")).read_bytes(), 0o755)
    archive.file("init", (HERE / "guest/init").read_bytes(), 0o755)
    order = []

    def add(name):
        path = next((p for p in (modules / "kernel").rglob("*.ko*") if p.name.split(".")[0].replace("-", "_") == name), None)
        if path is None or name in order:
            return
        unpacker = {".xz": "xz", ".zst": "zstd"}.get(path.suffix)
        data = run(unpacker, "-dc", path) if unpacker else path.read_bytes()
        needs = re.search(rb"\0depends=([^\0]*)\0", data)
        for other in needs.group(1).decode().replace("-", "_").split(",") if needs else []:
            add(other)
        order.append(name)
        archive.file(f"modules/{name}.ko", data)

    for name in MODULES:
        add(name)
    archive.file("modules/order", "".join(name + "\n" for name in order).encode())
    return archive.bytes()


# ---------------------------------------------------------------- QEMU


def qemu():
    """The command that starts QEMU, and how its emulation should use threads."""
    installed = ["qemu-system-x86_64"]
    since = tuple(CONFIG["qemu"]["since"])
    if _qemu_version(installed) >= since:
        return installed, "multi"
    try:
        newer = _newer_qemu()
        if _qemu_version(newer) >= since:
            return newer, "multi"
    except (Trouble, OSError) as why:
        say(f"no newer QEMU, so the guest's CPUs take turns: {why}")
    return installed, "single"


def _newer_qemu():
    directory = cache("qemu")
    with filled(directory) as fresh:
        if fresh:
            suite = CONFIG["qemu"]["suite"]
            say(f"fetching a newer QEMU from {suite}")
            Suite(suite).unpack(["qemu-system-x86", "qemu-system-data"], fresh)
            shutil.rmtree(fresh / "usr/share/doc", ignore_errors=True)
    return [str(directory / "usr/bin/qemu-system-x86_64"), "-L", str(directory / "usr/share/qemu"), "-L", "/usr/share/seabios"]


def _qemu_version(command):
    found = re.search(r"version (\d+)\.(\d+)", run(*command, "--version").decode())
    if not found:
        raise Trouble(f"`{command[0]} --version` says no version")
    return tuple(map(int, found.groups()))
