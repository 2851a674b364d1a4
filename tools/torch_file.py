"""Read files of `torch.save` without running code in them: zip format, and the legacy format before torch 1.6.

Sizes are compared with the size of the file before anything is read, so that a false size cannot exhaust memory.
"""

from __future__ import annotations

import io
import math
import os
import struct
import sys
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

import torch
from torch import Tensor

from registry import UserError

from .inert_pickle import StorageRef, TensorRef, read_pickle

MAX_PICKLE = 32 << 20  # bytes; the pickle of a network, weights apart, has less than 1 MiB
LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class TorchFile:
    """A file written by `torch.save`, opened for reading bytes; it must stay open while tensors are read.

    kind: "zip" or "legacy".
    content: the pickled object, in which `Record` stands for every object of a class and `TensorRef` for every tensor.
    tensor(ref): the tensor itself.

    UserError naming file, record and remedy for anything that is damaged, cut off, or not of this format.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self._size = self._unread = os.fstat(file.fileno()).st_size
        self._elements = self._size  # every element takes a byte or more on disk
        self._tensors: dict[str, Tensor] = {}
        self._storages: dict[str, StorageRef] = {}
        self._swapped = sys.byteorder != "little"
        self._bytes_of: Callable[[StorageRef, int], bytes]
        head = file.read(4)
        if head[:2] == b"PK":
            self.kind = "zip"
            self.content = self._open_zip()
        elif head[:1] == b"\x80":
            self.kind = "legacy"
            self.content = self._open_legacy()
        else:
            raise self._error(
                f"begins with {head!r}, neither a zip archive nor a pickle: not written by torch.save, or a web page "
                "saved in place of the download (read here: torch.save's files, not those of torch 0.1 or safetensors)"
            )

    def tensor(self, ref: TensorRef) -> Tensor:
        """A copy of its own, contiguous, in its own dtype."""
        storage, where = ref.storage, f"storage {ref.storage.key[:40]!r}"
        if max(storage.numel, ref.offset, math.prod(n for n in ref.size if n), *ref.stride) > self._size:
            raise self._error(f"{where}: a tensor that reaches outside the file, which is damaged or cut off")
        numel = math.prod(ref.size)
        if numel == 0:
            return torch.empty(ref.size, dtype=storage.dtype)
        last = ref.offset + sum((size - 1) * stride for size, stride in zip(ref.size, ref.stride, strict=True))
        self._elements -= numel
        if last >= storage.numel or numel > storage.numel or self._elements < 0:
            raise self._error(f"{where}: a tensor of shape {ref.size} that is larger than its storage, or taken again")
        if storage.key not in self._tensors:
            self._tensors[storage.key] = self._read_storage(storage)
        return self._tensors[storage.key].as_strided(ref.size, ref.stride, ref.offset).clone().contiguous()

    def _read_storage(self, storage: StorageRef) -> Tensor:
        itemsize = storage.dtype.itemsize
        self._unread -= storage.numel * itemsize
        if self._unread < 0:
            raise self._error(f"storage {storage.key[:40]!r}: its tensors would be larger than the file; it is damaged")
        raw = torch.frombuffer(bytearray(self._bytes_of(storage, storage.numel * itemsize)), dtype=torch.uint8)
        if self._swapped:
            raw = raw.view(-1, itemsize).flip(1).contiguous().view(-1)
        return raw != 0 if storage.dtype == torch.bool else raw.view(storage.dtype)

    def _error(self, what: str) -> UserError:
        return UserError(f"{self._file.name}: {what}")

    def _open_zip(self) -> Any:
        """`name/data.pkl`, `name/data/<key>` per storage, `name/byteorder`; stored, not compressed."""
        try:
            archive = zipfile.ZipFile(self._file)
            entries = {info.filename: info for info in archive.infolist()}
        except (OSError, ValueError, EOFError, struct.error, zipfile.BadZipFile, NotImplementedError) as error:
            raise self._error(f"its zip directory is damaged or cut off ({error}); download the file again") from error
        folders = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
        if len(folders) != 1:
            raise self._error("a zip archive, but not one of torch.save: it should hold one data.pkl")
        folder = folders[0]
        if f"{folder}constants.pkl" in entries:
            raise self._error("a TorchScript program; its authors' training checkpoint is needed")

        def read(name: str, size: int | None = None) -> bytes:
            info = entries.get(folder + name)
            if info is None:
                raise self._error(f"the archive has no record {folder + name!r}; download the file again")
            where = f"record {info.filename!r}"
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise self._error(f"{where} is compressed or encrypted; torch.save stores records as they are")
            expected = info.file_size if size is None else size
            if not info.compress_size == info.file_size == expected <= self._size:
                raise self._error(f"{where} has {info.file_size:,} bytes, not {expected:,}; download the file again")
            try:
                content = archive.read(info)
            except (OSError, ValueError, EOFError, struct.error, zipfile.BadZipFile, RuntimeError) as error:
                raise self._error(f"{where} is damaged ({error}); download the file again") from error
            if len(content) != expected:
                raise self._error(f"{where} is cut off; download the file again")
            return content

        if f"{folder}byteorder" in entries:
            order = read("byteorder")
            if order not in (b"little", b"big"):
                raise self._error(f"record {folder}byteorder holds {order[:20]!r}, neither 'little' nor 'big'")
            self._swapped = order.decode() != sys.byteorder
        if entries[f"{folder}data.pkl"].file_size > MAX_PICKLE:
            raise self._error(f"record {folder}data.pkl is larger than {MAX_PICKLE >> 20} MiB: refused")
        self._bytes_of = lambda storage, size: read(f"data/{storage.key}", size)
        return read_pickle(io.BytesIO(read("data.pkl")), f"{self._file.name}, record {folder}data.pkl", self._storages)

    def _open_legacy(self) -> Any:
        """Pickles of a magic number, version, machine, object, list of storage keys; then numel and data per key."""
        self._file.seek(0)
        stream = io.BytesIO(self._file.read(MAX_PICKLE))
        header = [read_pickle(stream, f"{self._file.name}, {part}") for part in ("magic number", "version", "machine")]
        if header[:2] != [LEGACY_MAGIC, LEGACY_PROTOCOL]:
            raise self._error("a pickle, but not one of torch.save (wrong magic number or version)")
        content = read_pickle(stream, f"{self._file.name}, content", self._storages)
        keys = read_pickle(stream, f"{self._file.name}, list of storages")
        places: dict[str, int] = {}
        position = stream.tell()
        for key in keys if isinstance(keys, list) else [None]:
            storage = self._storages.get(key) if isinstance(key, str) else None
            if storage is None:
                raise self._error("the list of storages is damaged, or names one that no tensor uses")
            places[storage.key] = position
            position += 8 + storage.numel * storage.dtype.itemsize
            if position > self._size:
                raise self._error(
                    f"cut off in storage {storage.key[:40]!r}: {self._size:,} bytes; download the file again"
                )

        def read(storage: StorageRef, size: int) -> bytes:
            if storage.key not in places:
                raise self._error(f"storage {storage.key[:40]!r} is not in the file; download it again")
            self._file.seek(places[storage.key])
            (numel,) = struct.unpack("<q", self._file.read(8))
            if numel != storage.numel:
                raise self._error(f"storage {storage.key[:40]!r} has {numel} elements, not {storage.numel}; damaged")
            return self._file.read(size)

        self._bytes_of = read
        return content
