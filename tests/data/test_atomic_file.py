"""Atomic writes: files are replaced completely or not at all, and a failed write leaves no files."""

import errno
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from data.atomic_file import append_line, remove_partial_files, write_atomically


def full_disk(path):
    path.write_bytes(b"half")
    raise OSError(errno.ENOSPC, "No space left on device")


def torch_on_a_full_disk(path):
    path.write_bytes(b"half")
    raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534\nmore")


def interrupted(path):
    path.write_bytes(b"half")
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "write, error, message",
    [
        (full_disk, OSError, r"a\.txt: could not .* No space left on device; [\d,]+ bytes are free"),
        (torch_on_a_full_disk, OSError, r"a\.txt: could not .* unexpected pos 576 vs 534; [\d,]+ bytes are free"),
        (interrupted, KeyboardInterrupt, None),
    ],
)
def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path, write, error, message):
    write_atomically(tmp_path / "a.txt", "old")
    with pytest.raises(error, match=message):
        write_atomically(tmp_path / "a.txt", write)
    assert (tmp_path / "a.txt").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OSError, match=r"nowhere/a\.txt: could not be written.*No such file"):
        write_atomically(tmp_path / "nowhere" / "a.txt", "new")


def test_several_writers_of_one_file(tmp_path):
    texts = [str(i) * 100_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_atomically(tmp_path / "a.txt", text), texts))
    assert (tmp_path / "a.txt").read_text() in texts and len(list(tmp_path.iterdir())) == 1


def test_a_file_written_atomically_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual.txt").write_text("")
    write_atomically(tmp_path / "a.txt", "")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "usual.txt").stat().st_mode


@pytest.mark.parametrize("before, after", [("", "new"), ("a\nb\n", "a\nb\nnew"), ("a\nb cut", "a\nb cut\nnew")])
def test_a_line_is_appended_to_whole_lines(tmp_path, before, after):
    (tmp_path / "a.jsonl").write_text(before)
    append_line(tmp_path / "a.jsonl", "new")
    assert (tmp_path / "a.jsonl").read_text() == f"{after}\n"


def test_what_killed_processes_left_is_removed(tmp_path):
    (tmp_path / ".checkpoint_last.pt.17-00ff.partial").write_bytes(b"half")
    (tmp_path / "notes.partial").touch()
    remove_partial_files(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.partial"]


def test_a_disk_that_is_really_full(tmp_path):
    mounted = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    if os.getuid() or subprocess.run(mounted, capture_output=True).returncode:
        pytest.skip("need the right to mount a small disk")
    try:
        for write in (lambda path: torch.save(torch.zeros(100_000), path), "x" * 400_000):
            with pytest.raises(OSError, match=r"c\.pt: could not be written.*[\d,]+ bytes are free"):
                write_atomically(tmp_path / "c.pt", write)
            assert not list(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
