"""The memory a front and one worker share: `slots` equal pieces for inputs, as many for outputs.

Both are sparse memfds: a slot may be large, only pages that were written cost memory. They are sealed against
shrinking, so that neither process can make the other die of SIGBUS. The worker gets the inputs read-only.
"""

from __future__ import annotations

import fcntl
import mmap
import os

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
# Pages a slot may keep between batches; what a larger batch touched beyond that is given back.
KEEP_BYTES = 32 << 20


class Arena:
    """One process's mapping of the shared memory. The front makes it; a worker attaches by descriptor."""

    def __init__(self, inputs_fd: int, outputs_fd: int, *, slots: int, slot_bytes: int, is_worker: bool = False) -> None:
        self.slots = slots
        self.slot_bytes = slot_bytes
        self.inputs_fd = inputs_fd
        self.outputs_fd = outputs_fd
        size = slots * slot_bytes
        self.inputs = mmap.mmap(inputs_fd, size, prot=mmap.PROT_READ if is_worker else mmap.PROT_READ | mmap.PROT_WRITE)
        self.outputs = mmap.mmap(outputs_fd, size)

    @classmethod
    def create(cls, *, slots: int, slot_bytes: int) -> Arena:
        """`slot_bytes` is a multiple of the page size."""
        descriptors = []
        for name in ("towline-inputs", "towline-outputs"):
            descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(descriptor, slots * slot_bytes)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            descriptors.append(descriptor)
        return cls(*descriptors, slots=slots, slot_bytes=slot_bytes)

    def worker_descriptors(self) -> tuple[int, int]:
        """What to hand to the worker: inputs reopened read-only (the caller closes it after sending), outputs as they are."""
        return os.open(f"/proc/self/fd/{self.inputs_fd}", os.O_RDONLY | os.O_CLOEXEC), self.outputs_fd

    def give_back(self, slot: int, used_bytes: int) -> None:
        """Return to the system what a large batch used beyond KEEP_BYTES."""
        if used_bytes > KEEP_BYTES:
            start, length = slot * self.slot_bytes + KEEP_BYTES, self.slot_bytes - KEEP_BYTES
            self.inputs.madvise(mmap.MADV_REMOVE, start, length)
            self.outputs.madvise(mmap.MADV_REMOVE, start, length)

    def close(self) -> None:
        for descriptor in (self.inputs_fd, self.outputs_fd):
            os.close(descriptor)
        for mapping in (self.inputs, self.outputs):
            try:
                mapping.close()
            except BufferError:
                # A numpy view is still alive somewhere; the mapping goes with it.
                pass
