"""The CUDA kernels without a GPU: their source, compiled for the host, run through the code that launches them."""

import concurrent.futures
import contextlib
import ctypes
import inspect
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from matrix import CASES, GRADED, ROWS, SPIKING, Case, check, every_pair, pairs, run

from neurons.multistep import cupy_kernels, formulas
from neurons.multistep.dynamics import Dynamics

HERE = Path(__file__).parent
PER_LIBRARY = 40
LIF = Dynamics("binary", tau=2.0, v_reset=0.0, surrogate="rectangle", detach_reset=True)
PLIF = Dynamics("binary", tau=2.0, surrogate="atan", alpha=2.0)
MORE = [
    # through several blocks that each take several turns, with and without learned parameters
    Case(LIF, 4, torch.float32, "contiguous", "", "zero", False, M=6000),
    Case(PLIF, 3, torch.float32, "contiguous", "both", "given", True, M=6000),
    Case(PLIF, 33, torch.bfloat16, "odd", "decay", "zero", True, M=777),
    # where dividing by the threshold and multiplying by its inverse differ
    Case(Dynamics("integer", levels=4, v_threshold=0.85), 1, torch.float32, "contiguous", "", "zero", False),
    Case(Dynamics("qcfs", levels=3), 1, torch.float32, "contiguous", "threshold", "zero", False),
    # a NaN that is rounded to bfloat16
    Case(Dynamics("silu", tau=2.0), 2, torch.bfloat16, "contiguous", "", "given", False),
]
Specialisation = tuple[str, tuple[str, ...]]


def macros(options: tuple[str, ...]) -> dict[str, str]:
    return dict(o[2:].split("=") for o in options if o.startswith("-D"))


def translation_unit(specialisations: list[Specialisation]) -> str:
    text = ['#include "host_cuda.h"']
    for i, (name, options) in enumerate(specialisations):
        defined = macros(options) | {name: f"kernel_{i}"}
        text += [f"#define {key} {value}" for key, value in defined.items()]
        text += [f"namespace specialisation_{i} {{", '#include "kernels.cu"', 'extern "C" {']
        text += [f"const char* parameters_{i}() {{ return parameters(kernel_{i}); }}"]
        text += [f"void launch_{i}(unsigned blocks, unsigned threads, void** arguments) {{"]
        text += [f"    launch(kernel_{i}, blocks, threads, LEARNED_DECAY || LEARNED_THRESHOLD, arguments);", "}}}"]
        text += [f"#undef {key}" for key in defined]
    return "\n".join(text)


def compiled(specialisations: list[Specialisation], folder: Path) -> ctypes.CDLL:
    unit, library = folder / "kernels.cpp", folder / "kernels.so"
    unit.write_text(translation_unit(specialisations))
    (folder / "kernels.cu").write_text(cupy_kernels.source())
    flags = ["-O0", "-std=c++20", "-ffp-contract=off", "-fno-strict-aliasing", "-pthread", "-shared", "-fPIC", "-w"]
    command = ["g++", *flags, "-I", HERE, unit, "-o", library]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[:5000]
    return ctypes.CDLL(str(library))


class HostKernel:
    """Stands in for cupy.RawKernel: takes what that takes, and nothing that it would misread."""

    LETTERS = {np.uint64: "p", np.int64: "q", np.float32: "f"}

    def __init__(self, library: ctypes.CDLL, i: int):
        self.launch = getattr(library, f"launch_{i}")
        parameters = getattr(library, f"parameters_{i}")
        parameters.restype = ctypes.c_char_p
        self.parameters = parameters().decode()

    def __call__(self, grid: tuple, block: tuple, arguments: tuple) -> None:
        assert "".join(self.LETTERS[type(a)] for a in arguments) == self.parameters
        held = [ctypes.create_string_buffer(a.tobytes(), a.itemsize) for a in arguments]
        pointers = (ctypes.c_void_p * len(held))(*(ctypes.addressof(h) for h in held))
        assert grid[0] > 0 and len(grid) == len(block) == 1
        self.launch(ctypes.c_uint(grid[0]), ctypes.c_uint(block[0]), pointers)


@pytest.fixture(scope="module")
def patched():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cupy_kernels, "current", lambda device: contextlib.nullcontext())
        patch.setattr(cupy_kernels, "multiprocessors", lambda device: 2)
        patch.setattr(cupy_kernels, "BLOCKS_PER_MULTIPROCESSOR", 1)
        yield patch
    cupy_kernels.prepared.cache_clear()


@pytest.fixture(scope="module")
def specialisations(patched) -> list[Specialisation]:
    """All that the cases ask for."""
    asked: dict[Specialisation, None] = {}
    patched.setattr(cupy_kernels, "kernel", lambda *key: asked.setdefault(key) or (lambda *arguments: None))
    for case in [*CASES, *MORE]:
        run(case, cupy_kernels)
    return list(asked)


@pytest.fixture(scope="module")
def on_host(patched, specialisations, tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("need g++")
    parts = [specialisations[i : i + PER_LIBRARY] for i in range(0, len(specialisations), PER_LIBRARY)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        libraries = pool.map(compiled, parts, [tmp_path_factory.mktemp("kernels") for _ in parts])
        kernels = {
            key: HostKernel(library, i)
            for part, library in zip(parts, libraries, strict=True)
            for i, key in enumerate(part)
        }
    patched.setattr(cupy_kernels, "kernel", lambda *key: kernels[key])
    cupy_kernels.prepared.cache_clear()


def test_every_possible_pair_of_choices_occurs():
    occurring = set().union(*(pairs(row) for row in ROWS))
    assert every_pair(SPIKING) | every_pair(GRADED) <= occurring


@pytest.mark.parametrize("case", [*CASES, *MORE], ids=str)
def test_equals_the_formulas(on_host, case):
    check(case, cupy_kernels)


def test_sums_of_learned_parameters_repeat_to_the_last_bit(on_host):
    first, second = run(MORE[1], cupy_kernels), run(MORE[1], cupy_kernels)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)) and first[-1] != 0


def test_no_elements_launch_nothing(patched):
    patched.setattr(cupy_kernels, "kernel", None)
    y, packed, v = cupy_kernels.forward(LIF, torch.empty(3, 0), None, None, None, True, True)
    assert (y.shape, packed.shape, v.shape) == ((3, 0), (1, 0), (0,))
    found = cupy_kernels.backward(PLIF, y, v, y, None, torch.tensor(0.5), torch.tensor(1.0), True)
    assert [t.tolist() for t in found] == [[[], [], []], [], 0.0, 0.0]


def test_other_dtypes_are_refused():
    with pytest.raises(TypeError, match="not torch.float64"):
        cupy_kernels.forward(LIF, torch.zeros(1, 1, dtype=torch.float64), None, None, None, False, False)


@pytest.mark.parametrize(
    "dtype, M, stride, offset, width",
    [
        (torch.float32, 64, 64, 0, 4),
        (torch.float16, 64, 64, 0, 8),
        (torch.bfloat16, 60, 64, 0, 4),
        (torch.float16, 64, 0, 0, 8),
        (torch.float16, 64, 68, 0, 4),
        (torch.float32, 64, 66, 0, 2),
        (torch.float32, 64, 65, 0, 1),
        (torch.float16, 64, 64, 2, 2),
        (torch.float16, 63, 64, 0, 1),
    ],
)
def test_a_thread_handles_as_many_neighbours_as_are_aligned(dtype, M, stride, offset, width):
    x = torch.zeros(512, dtype=dtype).as_strided((3, M), (stride, 1), offset)
    assert cupy_kernels.vector(M, 16 // dtype.itemsize, x, None) == width


def test_thresholds_share_a_kernel():
    keys = {
        cupy_kernels.options(d, "forward", torch.float32, 4, 4, 2, False, False, False, False)
        for d in (LIF, Dynamics("binary", tau=1.5, v_threshold=0.3, v_reset=0.0, surrogate="rectangle", alpha=2.0))
    }
    assert len(keys) == 1


@pytest.fixture(scope="module")
def nvrtc():
    pytest.importorskip("cupy", reason="need cupy, for NVRTC")
    from cupy.cuda import nvrtc

    try:
        nvrtc.getVersion()
    except Exception as error:
        pytest.skip(f"need NVRTC: {error}")
    return nvrtc


@pytest.mark.parametrize("architecture", ["compute_80", "compute_90"])
def test_compiles_to_ptx_with_wide_loads_and_stores(nvrtc, specialisations, architecture):
    for name, options in specialisations[::7]:
        program = nvrtc.createProgram(cupy_kernels.source(), "kernels.cu", [], [])
        try:
            nvrtc.compileProgram(program, (*options, f"-arch={architecture}", "-ftz=true"))
        except nvrtc.NVRTCError:
            pytest.fail(nvrtc.getProgramLog(program))
        ptx = nvrtc.getPTX(program)
        ptx = ptx.decode() if isinstance(ptx, bytes) else ptx
        defined = macros(options)
        assert f".entry {name}(" in ptx
        if int(defined["STEPS"]) <= 16:
            assert ".local" not in ptx, "arrays over T must be registers"
            width = int(defined["VEC"]) * (4 if defined["IO"] == "FP32" else 2)
            for access in ("ld.global.nc", "st.global"):
                assert accesses(ptx, access, width) >= int(defined["STEPS"])


def accesses(ptx: str, name: str, width: int) -> int:
    """How many instructions of that name move `width` bytes, as in st.global.v4.f32."""
    found = re.findall(re.escape(name) + r"(?:\.v(\d))?\.[a-z](\d+)", ptx)
    return sum(int(count or 1) * int(bits) == 8 * width for count, bits in found)


@pytest.mark.parametrize("name", ["forward", "backward"])
def test_signatures_are_those_of_the_formulas(name):
    ours, theirs = (inspect.signature(getattr(module, name)) for module in (cupy_kernels, formulas))
    assert [*ours.parameters, "slopes"] == list(theirs.parameters)  # which the kernels take from the dynamics
