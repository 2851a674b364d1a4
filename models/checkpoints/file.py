"""Checkpoint files: torch.save, with a checksum of the whole file, read as untrusted input."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from registry import UserError

# The checksum is in the comment that ends a zip archive, after the two bytes of the comment's length, and covers
# every byte before them. torch.save leaves the comment empty. The CRCs within the archive do not cover its headers,
# where one flipped bit can move the weights that torch reads by a few bytes.
COMMENT = b"sha256 "
LENGTH = len(COMMENT) + 64
REMEDY = "copy it again, or use another checkpoint of the run"


def write_checked(content: dict[str, Any], path: Path) -> None:
    torch.save({**content, "checksum": True}, path)
    with path.open("rb+") as file:
        covered = file.seek(0, 2) - 2
        comment = COMMENT + _digest(file, covered)
        file.seek(covered)
        file.write(len(comment).to_bytes(2, "little") + comment)


def read_checked(path: Path) -> Any:
    """The content of a checkpoint, tensors on the CPU.

    A file of an earlier version, without checksum, is verified by its CRCs. UserError naming the file if it is damaged,
    holds code, or would unpack to more than its size.
    """
    try:
        with path.open("rb") as file:
            has_checksum = _check_archive(path, file)
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except _DamagedError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # damaged and hostile pickles raise errors of many types
        raise UserError(
            f"{path}: not a readable checkpoint of tensors and plain values, and nothing else; {REMEDY}"
        ) from error
    if isinstance(content, dict) and content.pop("checksum", False) and not has_checksum:
        raise UserError(f"{path}: damaged or cut off, its checksum is missing; {REMEDY}")
    return content


class _DamagedError(UserError):
    pass


def _check_archive(path: Path, file: BinaryIO) -> bool:
    """Whether `file` has a checksum. Raises if it is wrong."""
    size = file.seek(0, 2)
    covered = size - LENGTH - 2
    file.seek(max(covered, 0))
    end = file.read()
    has_checksum = end[:2] == LENGTH.to_bytes(2, "little") and end[2:].startswith(COMMENT)
    if has_checksum and _digest(file, covered) != end[2 + len(COMMENT) :]:
        raise _DamagedError(f"{path}: damaged, its checksum is wrong; {REMEDY}")
    records = zipfile.ZipFile(file).infolist()
    if any(r.compress_type != zipfile.ZIP_STORED or r.flag_bits & 1 for r in records):
        raise _DamagedError(f"{path}: a compressed or encrypted archive, which torch.save does not write; {REMEDY}")
    if sum(r.file_size for r in records) > size:
        raise _DamagedError(f"{path}: damaged, its records are larger than the file; {REMEDY}")
    if not has_checksum and (bad := zipfile.ZipFile(file).testzip()):
        raise _DamagedError(f"{path}: damaged, the CRC of record {bad!r} is wrong; {REMEDY}")
    return has_checksum


def _digest(file: BinaryIO, size: int) -> bytes:
    """SHA-256 of the first `size` bytes, in hexadecimal."""
    digest = hashlib.sha256()
    file.seek(0)
    while size > 0 and (block := file.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest().encode()
