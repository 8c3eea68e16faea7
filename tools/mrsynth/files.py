"""Files that are either whole or not there: written under a temporary name, flushed, renamed."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mrsynth.errors import UserError


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` (same suffix); rename it to ``path`` if the block ends well.

    A crash, an exception or a full disk leaves whatever stood at ``path`` before, and no temporary file
    unless the process was killed outright; such a leftover begins with ``.tmp-`` and is never read.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # the suffix is kept whole (.nii.gz) because image writers choose the format by it
        fd, name = tempfile.mkstemp(prefix=".tmp-", suffix="".join(path.suffixes[-2:]), dir=path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    os.close(fd)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~umask())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if _is_full_disk(error):
            raise unwritable(path, error) from error
        raise


@contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; rename it to ``path`` if the block ends well.

    What stood at ``path`` is replaced. A leftover of a killed process begins with ``.tmp-`` and is never read.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".tmp-{path.name}-", dir=path.parent))
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~umask())
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if _is_full_disk(error) and not isinstance(error, UserError):
            raise unwritable(path, error) from error
        raise


def unwritable(path: str | os.PathLike, error: BaseException) -> UserError:
    """The error for a file that could not be written, saying whether the disk is full."""
    full = _is_full_disk(error)
    return UserError(
        "a file that can be written",
        "no space left on the device" if full else str(error),
        path,
        "free some space and start again; what was complete before is untouched"
        if full
        else "choose another output folder (output_dir) or change its permissions",
    )


def _is_full_disk(error: BaseException | None) -> bool:
    """Whether ``error`` is, or was raised on top of, a disk-full error."""
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    # torch and SimpleITK wrap the system's error in a RuntimeError without its number
    words = ("No space left", "file write failed", "unexpected pos", "PytorchStreamWriter")
    if isinstance(error, RuntimeError) and any(word in str(error) for word in words):
        return True
    return _is_full_disk(error.__cause__ or error.__context__)


def umask() -> int:
    """The process's file mode creation mask."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_csv(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of one form, atomically; no rows, a file with nothing in it."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def sha256(path: str | os.PathLike) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def slug(name: str) -> str:
    """A name for people as that of a file or folder: small letters, digits, underscores."""
    return re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_")
