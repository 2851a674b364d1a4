"""NeuroBench's counts beside ours, with each difference named; AP in its harness."""

import pytest
import torch
from untrained import EVENTS, IMAGES, parts, untrained_run

pytest.importorskip("neurobench", reason="needs neurobench and snntorch, see docs/tools.md")

from neurobench.benchmarks import Benchmark  # noqa: E402
from neurobench.metrics.static import ParameterCount  # noqa: E402
from neurobench.metrics.workload import ActivationSparsity, SynapticOperations  # noqa: E402

from analysis.operations import Operations  # noqa: E402
from data import create_dataset  # noqa: E402
from engine.config import config_from_plain, dataset_kwargs  # noqa: E402
from engine.evaluation import evaluate, predictor  # noqa: E402
from engine.runs.open import open_run  # noqa: E402
from models.deploy.binary import to_binary  # noqa: E402
from tools.neurobench_detector import BatchesFirst, DetectorForNeuroBench, average_precision  # noqa: E402


def dataset_of(run, split="test"):
    name, kwargs = dataset_kwargs(config_from_plain(open_run(run).config))
    return create_dataset(name, split, **kwargs)


def run_harness(model, dataset, metrics, head=True):
    loader = BatchesFirst(dataset, 2)
    return Benchmark(DetectorForNeuroBench(model, head), loader, [], [], [[ParameterCount], metrics]).run(quiet=True)


def ours(model, dataset, merged=False):
    model.eval()
    with Operations(model) as operations, torch.no_grad():
        for x, _ in BatchesFirst(dataset, 2):
            model(x.transpose(0, 1) if x.dim() == 5 else x)
    return {name: row for name, row in operations.layers(merged).items() if name.startswith("network.")}


def test_additions_of_binary_spikes_are_the_same(tmp_path, scenes):
    """Real inputs, as those of the first convolution of photographs, are MACs in both: of those that are not 0 there,
    of all here."""
    run = untrained_run(tmp_path / "run", scenes, IMAGES, model="ems_resnet18", protocol="coco")
    model, dataset = open_run(run).model, dataset_of(run)
    counts = ours(model, dataset)
    found = run_harness(model, dataset, [SynapticOperations], head=False)["SynapticOperations"]
    assert found["Effective_ACs"] == pytest.approx(sum(row["synops"] for row in counts.values()), rel=1e-5)
    assert 0 < found["Effective_MACs"] <= sum(row["macs"] for row in counts.values())


def test_integers_are_counted_through_their_binary_form(tmp_path, scenes):
    run = untrained_run(
        tmp_path / "run", scenes, IMAGES, model="spikeyolo_n", head="dfl", neuron="ilif", protocol="coco"
    )
    model, dataset = open_run(run).model, dataset_of(run)
    wanted = sum(row["synops"] for row in ours(model, dataset, merged=True).values())
    binary = run_harness(to_binary(model), dataset, [SynapticOperations], head=False)["SynapticOperations"]
    assert wanted > 0 and binary["Effective_ACs"] == pytest.approx(wanted, rel=1e-5)
    integer = run_harness(model, dataset, [SynapticOperations], head=False)["SynapticOperations"]
    assert integer["Effective_MACs"] > binary["Effective_MACs"]  # integers above 1 are MACs there


def test_the_protocol_in_the_harness_is_that_of_an_evaluation(tmp_path, scenes):
    run = untrained_run(tmp_path / "run", scenes, EVENTS % "")
    model, loader, new_evaluator = parts(run)
    evaluator = new_evaluator()
    with predictor(model, loader) as predict:
        evaluate(predict, loader, [evaluator], torch.device("cpu"))
    dataset = dataset_of(run)
    metrics = [average_precision(dataset, "raw"), ActivationSparsity]
    found = run_harness(model, dataset, metrics)
    assert found["AP"] == evaluator.score("raw")["AP"] and 0 < found["ActivationSparsity"] < 1
    assert found["ParameterCount"] == sum(p.numel() for p in model.parameters())
