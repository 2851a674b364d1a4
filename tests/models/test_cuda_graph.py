"""Inference through CUDA graphs gives the logits of the model itself."""

import pytest
import torch

from models import create_model
from models.deploy.cuda_graph import GraphedLogits

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="need a CUDA GPU")
MODELS = {
    "ems_resnet10_ee": {"T": 3, "width": 0.25},
    "spikeyolo_n": {"T": 2, "width": 0.25},
    "spiking_yolox_plif_s": {"T": 2},
}


@needs_gpu
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=str)
def test_logits_equal_those_of_the_model_for_every_input(name, dtype):
    model = create_model(name, num_classes=3, **MODELS[name]).cuda().eval()
    graphed = GraphedLogits(model)
    for seed, size in enumerate((64, 96, 64, 64)):
        x = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed)).cuda()
        with torch.no_grad(), torch.autocast("cuda", dtype, enabled=dtype is not None):
            for found, expected in zip(graphed(x), model.raw(x), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@needs_gpu
def test_weights_changed_in_place_are_used():
    model = create_model("spikeyolo_n", num_classes=3, width=0.25).cuda().eval()
    graphed, x = GraphedLogits(model), torch.rand(1, 3, 64, 64, device="cuda")
    before = [level.clone() for level in graphed(x)]
    with torch.no_grad():
        for p in model.head.parameters():
            p.mul_(0.5)
    after = graphed(x)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    torch.testing.assert_close(after, model.raw(x), rtol=1e-4, atol=1e-4)


def test_an_input_on_a_cpu_is_refused():
    model = create_model("spikeyolo_n", num_classes=3, width=0.25)
    with pytest.raises(ValueError, match="need x on a GPU, it is on cpu"):
        GraphedLogits(model)(torch.zeros(1, 3, 64, 64))


@needs_gpu
def test_a_model_in_training_is_refused():
    model = create_model("spikeyolo_n", num_classes=3, width=0.25).cuda()
    with pytest.raises(ValueError, match="model.eval"):
        GraphedLogits(model)(torch.zeros(1, 3, 64, 64, device="cuda"))
