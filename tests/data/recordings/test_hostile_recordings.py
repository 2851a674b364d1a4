"""Hostile or truncated recordings that would read other files, exhaust memory, hang or kill the process."""

import os
import pickle
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
from recording_files import WRITERS, assert_same, some_events, write_hdf5, write_npz

from data import Problems, create_dataset
from data.check import check_dataset
from data.events.rvt_files import _load
from data.recordings import audit_events, open_dat, open_events, write_dat
from data.recordings.boxes import BOX_DTYPE
from data.recordings.hdf5 import ArrayFile

EVER = 1 << 60


def refused(path, match, **how):
    """By opening and by the check, by name."""
    with pytest.raises(ValueError, match=match) as error:
        open_events(path, **how)
    assert str(error.value).startswith(f"{path}: ")
    problems = Problems(collect=True)
    assert audit_events(path, problems, **how) is None and [p.fatal for p in problems.items] == [True]


class TestOtherFiles:
    @pytest.fixture
    def path(self, tmp_path):
        write_hdf5(tmp_path / "other.h5", *some_events())
        return tmp_path / "a.h5"

    @pytest.mark.parametrize("name", ["events", "events/x", "events/height", "t_offset", "CD"])
    def test_an_external_link_is_not_followed(self, tmp_path, path, name):
        write_hdf5(path, *some_events())
        with h5py.File(path, "r+") as file:
            file.pop(name, None)
            file[name] = h5py.ExternalLink("other.h5", f"/{name}")
        os.mkfifo(tmp_path / "pipe")  # which would hang if it were opened
        refused(path, rf"/{name}: a link to another file \(other.h5\), which is not followed")

    def test_a_soft_link_to_an_external_one_is_not_followed(self, path):
        with h5py.File(path, "w") as file:
            file["elsewhere"] = h5py.ExternalLink("other.h5", "/")
            file["events"] = h5py.SoftLink("/elsewhere/events")
        refused(path, "/elsewhere: a link to another file")

    def test_a_soft_link_inside_the_file_is(self, path):
        columns = some_events()
        write_hdf5(path, *columns, group="davis/left")
        with h5py.File(path, "r+") as file:
            file["events"] = h5py.SoftLink("davis/left")
            file["davis/left/more"] = h5py.SoftLink("nowhere")
        assert_same(open_events(path).read(-1, EVER), columns)

    def test_soft_links_in_a_circle(self, path):
        with h5py.File(path, "w") as file:
            file["events"], file["b"] = h5py.SoftLink("/b/c"), h5py.SoftLink("/events")
        refused(path, "soft links that form a cycle")

    @pytest.mark.parametrize("name", ["x", "t", "height"])
    def test_external_storage_is_not_read(self, tmp_path, path, name):
        write_hdf5(path, *some_events())
        (tmp_path / "secret").write_bytes(bytes(100_000))
        with h5py.File(path, "r+") as file:
            shape = file[f"events/{name}"].shape or (1,)
            del file[f"events/{name}"]
            file.create_dataset(f"events/{name}", shape, "u2", external=[(str(tmp_path / "secret"), 0, 50_000)])
        refused(path, f"/events/{name}: external storage in .*secret: other files are not read")

    def test_a_virtual_dataset_is_not_read(self, path):
        write_hdf5(path, *some_events())
        layout = h5py.VirtualLayout((3000,), "u2")
        layout[:] = h5py.VirtualSource("other.h5", "events/x", (3000,))
        with h5py.File(path, "r+") as file:
            del file["events/x"]
            file.create_virtual_dataset("events/x", layout)
        refused(path, "/events/x: a virtual dataset of other.h5: other files are not read")

    def test_nor_are_frames(self, tmp_path, path):
        with h5py.File(path, "w") as file:
            file["data"] = h5py.ExternalLink("other.h5", "/events/t")
        with pytest.raises(ValueError, match="/data: a link to another file"):
            ArrayFile(path, "data")
        with h5py.File(tmp_path / "b.h5", "w") as file:
            file.create_dataset("data", (10,), "u1", external=[("/etc/passwd", 0, 10)])
        with pytest.raises(ValueError, match="/data: external storage in /etc/passwd"):
            ArrayFile(tmp_path / "b.h5", "data")


def zeros(path, n=3_000_000, **how):
    """Events that pack to a few kB and unpack to 13 MB."""
    columns = {"t": np.zeros(n, "i8"), "x": np.zeros(n, "u2"), "y": np.zeros(n, "u2"), "p": np.zeros(n, "u1")}
    if path.suffix == ".npz":
        np.savez_compressed(path, **columns)
    else:
        with h5py.File(path, "w") as file:
            for name, column in columns.items():
                file.create_dataset(name, data=column, **{"compression": "gzip", "chunks": (n,), **how})
    assert path.stat().st_size < 200_000
    return path


class TestUnpacking:
    @pytest.mark.parametrize("name", ["a.npz", "a.h5"])
    def test_the_limit_names_the_option_that_raises_it(self, tmp_path, name):
        path = zeros(tmp_path / name)
        refused(
            path, "would unpack to 38 MiB, and the limit is 30 MiB.* set data.args.max_unpacked_mb", max_unpacked_mb=30
        )
        assert len(open_events(path, max_unpacked_mb=38)) == 3_000_000

    def test_claims_are_enough_to_refuse(self, tmp_path):
        """Nothing is unpacked: chunks of 40 M events that were never written, an array of 80 GB in a header."""
        with h5py.File(tmp_path / "a.h5", "w") as file:
            for name in "txyp":
                file.create_dataset(name, (40_000,), "i8", chunks=(40_000_000,), maxshape=(None,), compression="gzip")
        refused(tmp_path / "a.h5", "a chunk of the data would unpack to 1221 MiB, and the limit is 256 MiB")
        zeros(tmp_path / "b.npz", 1000)
        with zipfile.ZipFile(tmp_path / "b.npz") as old, zipfile.ZipFile(tmp_path / "c.npz", "w", 8) as new:
            for member in old.namelist():
                new.writestr(member, old.read(member).replace(b"(1000,), ", b"(10000000000,), "))
        refused(tmp_path / "c.npz", "not a readable .npz: .*bytes for")

    @pytest.mark.parametrize("name", ["t", "other"])
    def test_an_endless_header_of_an_array(self, tmp_path, name):
        write_npz(tmp_path / "a.npz", *some_events(), save=np.savez)
        with zipfile.ZipFile(tmp_path / "a.npz") as old, zipfile.ZipFile(tmp_path / "b.npz", "w", 8) as new:
            for member in [m for m in old.namelist() if m != f"{name}.npy"]:
                new.writestr(member, old.read(member))
            new.writestr(f"{name}.npy", b"\x93NUMPY\x02\x00" + (60 << 20).to_bytes(4, "little") + b" " * (60 << 20))
        tracemalloc.start()
        try:
            if name == "t":
                refused(tmp_path / "b.npz", "not a readable .npz")
            else:
                assert len(open_events(tmp_path / "b.npz")) == 3000
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()

    def test_labels_beside_frames(self, tmp_path):
        path = tmp_path / "labels.npz"
        np.savez_compressed(path, labels=np.zeros(3 << 20, "u1"))
        with pytest.raises(ValueError, match="labels.npz: labels would unpack to 4 MiB, and the limit is 2 MiB"):
            _load(path, "labels", 2)
        assert len(_load(path, "labels", 4)) == 3 << 20

    def test_scalars_are_checked_as_well(self, tmp_path):
        write_hdf5(tmp_path / "a.h5", *some_events(), sensor=False)
        with h5py.File(tmp_path / "a.h5", "r+") as file:
            for name in ("height", "width"):
                file.create_dataset(f"events/{name}", (1 << 40,), "i8", chunks=(1 << 28,), compression="gzip")
        refused(tmp_path / "a.h5", "'/events/height' is int64 of shape")

    def test_small_chunks_and_stored_arrays_have_no_limit(self, tmp_path):
        path = zeros(tmp_path / "a.h5", chunks=(50_000,))
        assert len(open_events(path, max_unpacked_mb=1)) == 3_000_000
        np.savez(tmp_path / "a.npz", t=np.arange(300_000), **dict.fromkeys("xyp", np.zeros(300_000, int)))
        assert len(open_events(tmp_path / "a.npz", max_unpacked_mb=1)) == 300_000

    def test_frames(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("data", (4, 1 << 20), "u1", chunks=(2, 1 << 20), compression="gzip")
        with pytest.raises(ValueError, match="would unpack to 2 MiB, and the limit is 1 MiB"):
            ArrayFile(tmp_path / "a.h5", "data", max_unpacked_mb=1)
        assert ArrayFile(tmp_path / "a.h5", "data", max_unpacked_mb=2).read(0, 1).shape == (1, 1 << 20)

    def test_the_option_of_a_dataset_reaches_its_readers(self, tmp_path):
        (tmp_path / "train").mkdir()
        zeros(tmp_path / "train/a_td.npz")
        np.save(tmp_path / "train/a_bbox.npy", np.array([(5000, 10, 20, 50, 40, 0, 1, 1)], BOX_DTYPE))
        how = {"root": tmp_path, "sensor": [240, 304], "num_steps": 1}
        with pytest.raises(ValueError, match="limit is 20 MiB"):
            create_dataset("gen1", "train", max_unpacked_mb=20, **how)[0]
        create_dataset("gen1", "train", max_unpacked_mb=40, **how)[0]
        report = check_dataset("gen1", ["train"], max_unpacked_mb=20, **how)
        assert any("limit is 20 MiB" in str(problem) for problem in report.fatal)
        with pytest.raises(ValueError, match="max_unpacked_mb = 0: give a whole number of at least 1"):
            create_dataset("gen1", "train", max_unpacked_mb=0, **how)


class TestHeaders:
    @pytest.mark.parametrize("line", [b"% \n", b"% key value of some length\n"])
    @pytest.mark.parametrize("name", ["a_td.dat", "a.raw"])
    def test_an_endless_header_is_not_read_to_its_end(self, tmp_path, name, line):
        path = tmp_path / name
        path.write_bytes(b"% evt 3.0\n" * name.endswith(".raw") + line * (1 << 20))
        refused(path, "header too long: more than 65536 bytes")
        if name == "a_td.dat":
            with pytest.raises(ValueError, match="header too long"):
                open_dat(path)

    def test_a_long_one_is(self, tmp_path):
        write = WRITERS["a_td.dat"]
        write(tmp_path / "a_td.dat", *some_events())
        content = (tmp_path / "a_td.dat").read_bytes()
        (tmp_path / "a_td.dat").write_bytes(b"% Comment " + b"x" * 4000 + b"\n" + b"% More lines\n" * 1000 + content)
        assert len(open_events(tmp_path / "a_td.dat")) == 3000

    @pytest.mark.parametrize("encoding", ["evt 2.0", "evt 2.1", "evt 3.0"])
    @pytest.mark.parametrize("size", ["16384x16384", "2049x5", "5x2049", "99999x99999", "-5x7", "0x0"])
    def test_a_sensor_that_words_cannot_name(self, tmp_path, encoding, size):
        (tmp_path / "a.raw").write_bytes(f"% {encoding}\n% geometry {size}\n% end\n".encode() + bytes(80))
        refused(tmp_path / "a.raw", "sensor size")

    @pytest.mark.parametrize("side", [0, -1, 4097, 16_384, 2**40])
    def test_a_sensor_of_other_formats(self, tmp_path, side):
        write_npz(tmp_path / "a.npz", *some_events(), width=side)
        write_hdf5(tmp_path / "a.h5", *some_events())
        with h5py.File(tmp_path / "a.h5", "r+") as file:
            del file["events/width"]
            file["events/width"] = side
        WRITERS["a_td.dat"](tmp_path / "a_td.dat", *some_events())
        content = (tmp_path / "a_td.dat").read_bytes().replace(b"Width 304", f"Width {side}".encode())
        (tmp_path / "a_td.dat").write_bytes(content)
        for name in ("a.npz", "a.h5", "a_td.dat"):
            refused(tmp_path / name, "sensor size.* 1 to 4096")

    def test_none_is_written_that_could_not_be_read(self, tmp_path):
        with pytest.raises(ValueError, match=r"sensor size: height, width = \(240, 16384\). Give both as 1 to 4096"):
            write_dat(tmp_path / "a_td.dat", *some_events(), width=16_384, height=240)
        assert not (tmp_path / "a_td.dat").exists()


class TestOtherThanRegularFiles:
    @pytest.mark.parametrize("name", ["a_td.dat", "a.raw", "a.bin", "a.h5", "a.npz"])
    def test_a_pipe_does_not_hang(self, tmp_path, name):
        os.mkfifo(tmp_path / name)
        refused(tmp_path / name, "a named pipe, not a regular file")
        with pytest.raises(ValueError, match="a named pipe, not a regular file"):
            open_dat(tmp_path / name)

    def test_nor_does_a_device_or_a_folder(self, tmp_path):
        (tmp_path / "zero.raw").symlink_to("/dev/zero")
        refused(tmp_path / "zero.raw", "a device, not a regular file")
        refused(tmp_path, "a folder, not a regular file")
        with pytest.raises(ValueError, match="a folder, not a regular file"):
            ArrayFile(tmp_path, "data")

    def test_a_link_to_a_recording_is_read(self, tmp_path):
        WRITERS["a.npz"](tmp_path / "real.npz", *some_events())
        (tmp_path / "a.npz").symlink_to("real.npz")
        assert len(open_events(tmp_path / "a.npz")) == 3000


class TestCutOffWhileOpen:
    @pytest.mark.parametrize("name", WRITERS)
    @pytest.mark.parametrize("left", [0, 0.5])
    def test_it_is_an_error_and_not_the_end_of_the_process(self, tmp_path, name, left):
        WRITERS[name](tmp_path / name, *some_events())
        reader = open_events(tmp_path / name)
        assert len(reader.read(0, 1000)) and reader.t_last
        os.truncate(tmp_path / name, int(left * (tmp_path / name).stat().st_size))
        for t0 in (0, 150_000):
            with pytest.raises(ValueError, match=f"{name}: changed its size since it was opened"):
                reader.read(t0, t0 + 1000)

    def test_frames(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["data"] = np.ones((100, 1000), "u1")
        frames = ArrayFile(tmp_path / "a.h5", "data")
        assert frames.read(0, 2).sum() == 2000
        os.truncate(tmp_path / "a.h5", 50_000)
        with pytest.raises(ValueError, match="changed its size"):
            frames.read(90, 92)


class Loud:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("name", ["t", "height", "events"])
def test_pickles_in_an_npz_are_not_opened(tmp_path, monkeypatch, save, name):
    monkeypatch.chdir(tmp_path)
    columns = dict(zip("txyp", some_events(5), strict=True)) | {"height": 240, "width": 304}
    with open("a.npz", "wb") as file:
        save(file, **columns | {name: np.array([Loud()] * 5, object)})
    if name == "events":  # beside the columns: it is not looked at
        assert len(open_events("a.npz")) == 5
    else:
        refused("a.npz", "holds Python objects, which are not read")
    assert not os.path.exists("executed")
    with pytest.raises(FileExistsError):
        os.mkdir("executed")
        pickle.loads(pickle.dumps(Loud()))


def test_pickles_in_labels_are_not_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").mkdir()
    WRITERS["a_td.dat"](tmp_path / "train/a_td.dat", *some_events())
    np.save(tmp_path / "train/a_bbox.npy", np.array([Loud()], object), allow_pickle=True)
    with pytest.raises(ValueError, match="a_bbox.npy"):
        create_dataset("gen1", "train", root=tmp_path)
    assert not os.path.exists("executed")
