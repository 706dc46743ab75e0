"""Locks of PyTorch's builds of extensions: a killed build leaves one, and who comes after it waits for ever.

DeepSpeed compiles its extensions at their first use, on a CPU and on a GPU, each in a folder of its own.
"""

import logging
import os
import threading
import time
from pathlib import Path

logger = logging.getLogger(__name__)
PATIENCE = 60  # seconds for a lock that was there before this run
LONGEST_BUILD = 600  # seconds for one of this run's time


class LockWatch(threading.Thread):
    """Names, once each, the locks that are held for longer than a living build would hold them.

    Args:
        root: folder under which the extensions are built.
    """

    def __init__(self, root: Path):
        super().__init__(name="build locks", daemon=True)
        self.root, self.started, self.done = root, time.time(), threading.Event()
        self.named: set[Path] = set()

    def run(self) -> None:
        """Look again and again while the process lives."""
        while not self.done.wait(PATIENCE / 6):
            self.look(time.time())

    def look(self, now: float) -> None:
        """Name the locks that are held for too long at a time, in seconds since the epoch."""
        for lock in sorted(set(self.root.rglob("lock")) - self.named):
            try:
                made = lock.stat().st_mtime
            except FileNotFoundError:  # the build of another process has just ended
                continue
            waited = now - max(made, self.started)
            if waited >= (PATIENCE if made < self.started else LONGEST_BUILD) or now - made >= LONGEST_BUILD:
                self.named.add(lock)
                logger.warning(
                    "%s has been there for %.1f minutes, and this run may be waiting for it. If no other run builds "
                    "this extension, a killed one has left it: stop this run, delete the file (rm %s) and start again",
                    *(lock, (now - made) / 60, lock),
                )


def watch_build_locks() -> LockWatch | None:
    """Watch the locks where this user's extensions are built, on the first process."""
    if os.environ.get("RANK", "0") != "0":
        return None
    from torch.utils.cpp_extension import get_default_build_root

    found = LockWatch(Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root()))
    found.look(time.time())
    found.start()
    return found
