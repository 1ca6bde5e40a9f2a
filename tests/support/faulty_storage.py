"""Storage that refuses when a test says so: a library that is preloaded into the processes under test.

```
faulty = FaultyStorage(tmp_path)                           # compiles faulty_storage.c with gcc
with running_system(state, stub_system(3.0, **faulty.environment)) as system:
    with faulty.failing(system.store_dir, errno.ENOSPC):   # every write of every service, until the block ends
        ...
    faulty.fail(system.store_dir, errno.EIO, after=17, times=1)   # the 18th write from now on, once
```

What is refused: making, opening to write, writing, syncing, linking and renaming files below the folder; with a
read-only error also removing them and changing their mode. Nothing is refused of processes without the environment.
"""

import errno as errors
import mmap
import struct
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

WRITE, LINK, REMOVE = 1, 2, 4
_READ_ONLY: Final = frozenset({errors.EROFS, errors.EACCES, errors.EPERM})
_NUM_RULES = 4
_PREFIX = 480
# active, error, after, times, calls, prefix: as in faulty_storage.c
_RULE = struct.Struct(f"=iiqqq{_PREFIX}s")
_CALLS_AT = 24


class FaultyStorage:
    """The library, and the rules that it obeys now: at most four at a time, all healed in the beginning."""

    def __init__(self, folder: Path) -> None:
        self.library = folder / "faulty_storage.so"
        self._control = folder / "faulty_storage.rules"
        source = Path(__file__).with_suffix(".c")
        subprocess.run(
            ["gcc", "-O1", "-shared", "-fPIC", "-o", str(self.library), str(source), "-ldl"],
            check=True,
            capture_output=True,
        )
        self._control.write_bytes(bytes(_RULE.size * _NUM_RULES))
        with self._control.open("r+b") as file:
            self._rules = mmap.mmap(file.fileno(), 0)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to be under test."""
        return {"LD_PRELOAD": str(self.library), "FAULTY_STORAGE": str(self._control)}

    def fail(
        self,
        below: Path,
        error: int,
        *,
        after: int = 0,
        times: int = -1,
        calls: int | None = None,
        rule: int = 0,
    ) -> None:
        """From now on, `after` calls succeed and the next `times` fail (-1: all), of all processes together.

        `calls` are the kinds of call that the rule is about (`WRITE | LINK | REMOVE`); `error` 0 counts only.
        """
        kinds = calls or (WRITE | LINK | (REMOVE if error in _READ_ONLY else 0))
        prefix = str(below).encode()
        assert len(prefix) < _PREFIX
        offset = rule * _RULE.size
        self._rules[offset : offset + 4] = bytes(4)  # the rule rests while it is changed
        self._rules[offset + 4 : offset + _RULE.size] = _RULE.pack(0, error, after, times, 0, prefix)[4:]
        self._rules[offset : offset + 4] = struct.pack("=i", kinds)

    def heal(self, rule: int | None = None) -> None:
        """The rule, or all rules, refuse nothing any more."""
        for number in range(_NUM_RULES) if rule is None else (rule,):
            self._rules[number * _RULE.size : number * _RULE.size + 4] = bytes(4)

    def calls(self, rule: int = 0) -> int:
        """How many calls the rule was about since it was made."""
        offset = rule * _RULE.size + _CALLS_AT
        return int(struct.unpack("=q", self._rules[offset : offset + 8])[0])

    @contextmanager
    def failing(self, below: Path, error: int, *, calls: int | None = None, rule: int = 0) -> Generator[None]:
        """Refuse inside the block."""
        self.fail(below, error, calls=calls, rule=rule)
        try:
            yield
        finally:
            self.heal(rule)
