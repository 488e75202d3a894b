"""Boots a Debian kernel in QEMU, below this machine's own root file system.

`debian` brings kernels and QEMU from the archives that apt already knows;
`initramfs` packs what the kernel starts with; `guest` runs one machine.
"""


class Trouble(Exception):
    """The machine could not be had or did not run: exit status 125."""
