"""Joules per image: warm-up, the counter's difference over the images, and errors without a GPU or its library."""

import sys
from types import SimpleNamespace

import pytest
import torch

from analysis.energy.joules import counter, joules_per_image, measure
from registry import UserError


def test_joules_are_those_of_the_measured_calls():
    now, calls = [0.0], []

    def run():
        calls.append(None)
        now[0] += 0.5

    # 30 W while it runs, of batches of 4 images in half a second each
    found = joules_per_image(run, 4, lambda: 30 * now[0], seconds=5.0, clock=lambda: now[0])
    assert len(calls) == 2 + 10
    assert found == pytest.approx({"joules_per_image": 30 * 0.5 / 4, "images_per_second": 8.0, "watts": 30.0})


def test_without_a_gpu_or_its_library_an_error_says_so(monkeypatch):
    with pytest.raises(UserError, match="device = cpu.*device=cuda"):
        counter(torch.device("cpu"))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(UserError, match="pip install nvidia-ml-py"):
        counter(torch.device("cuda"))


def test_the_counter_of_the_gpu_by_its_uuid(monkeypatch):
    asked = []
    nvml = SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: asked.append(uuid) or "handle",
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: 1500 if handle == "handle" else 0,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1-2"))
    assert counter(torch.device("cuda"))() == 1.5 and asked == ["GPU-1-2"]

    def none(handle):
        raise RuntimeError("Not Supported")

    nvml.nvmlDeviceGetTotalEnergyConsumption = none
    with pytest.raises(UserError, match="no energy .Not Supported"):
        counter(torch.device("cuda"))


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (5, 2, 3, 4, 4)])
def test_batches_of_1_and_64_images_of_a_batch(monkeypatch, shape):
    seen = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr("analysis.energy.joules.joules_per_image", lambda run, images, read: run() or {"n": images})
    found = measure(lambda x: seen.append(tuple(x.shape)), torch.rand(shape), lambda: 0.0)
    assert found == {"1": {"n": 1}, "64": {"n": 64}}
    assert seen == [(*shape[:-4], size, *shape[-3:]) for size in (1, 64)]
