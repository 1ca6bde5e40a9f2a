"""Files that hold a secret: they are read only where no other user of the machine can read them."""

import os
import stat
from pathlib import Path

# To its owner a key file is his alone. One that was mounted for us (a Kubernetes secret belongs to root and to our
# group) may be read by that group.
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_OF_A_MOUNTED = _OTHERS & ~stat.S_IRGRP
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def read_private(path: Path) -> str:
    """The text of a key file. ValueError with the remedy where others can read it; OSError, UnicodeError as `open`."""
    with path.open(encoding="utf-8") as file:
        status = os.fstat(file.fileno())
        forbidden = _OTHERS if status.st_uid == os.geteuid() else _OTHERS_OF_A_MOUNTED
        if status.st_mode & forbidden:
            mode = stat.S_IMODE(status.st_mode)
            raise ValueError(f"{path} has mode {mode:04o}: others could read or change it; chmod 600 {path}")
        return file.read()


def write_private(path: Path, text: str) -> None:
    """Put a file in place at once that only its owner can read, whatever stood there and whatever the umask is."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def is_ours_alone(path: Path) -> bool:
    """Whether a file was written by this user, nobody else can read it, and nobody else could have put it there."""
    try:
        file, folder = path.lstat(), path.parent.stat()
    except OSError:
        return False
    ours = file.st_uid == folder.st_uid == os.geteuid() and stat.S_ISREG(file.st_mode)
    return ours and not file.st_mode & _OTHERS and not folder.st_mode & _WRITABLE_BY_OTHERS
