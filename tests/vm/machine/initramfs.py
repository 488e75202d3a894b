"""cpio archives of the "newc" kind, which the kernel unpacks as its first root.

Several may follow each other, so what never changes (busybox, modules, the init
program) is packed once per kernel, and what belongs to one run is put after it.
The format: Documentation/driver-api/early-userspace/buffer-format.rst in Linux.
"""

import stat


class Archive:
    def __init__(self):
        self._parts = []
        self._count = 0

    def directory(self, name):
        self._entry(name, stat.S_IFDIR | 0o755)

    def file(self, name, data, mode=0o644):
        self._entry(name, stat.S_IFREG | mode, data)

    def character_device(self, name, major, minor):
        self._entry(name, stat.S_IFCHR | 0o600, device=(major, minor))

    def bytes(self):
        """The whole archive; nothing may be added after."""
        self._entry("TRAILER!!!", 0)
        return b"".join(self._parts)

    def _entry(self, name, mode, data=b"", device=(0, 0)):
        self._count += 1
        name = name.encode() + b"\0"
        links, owner, mtime, checksum = 1, 0, 0, 0
        fields = (self._count, mode, owner, owner, links, mtime, len(data), 0, 0, *device, len(name), checksum)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._parts += [_padded(header + name), _padded(data)]


def _padded(data):
    return data + b"\0" * (-len(data) % 4)
