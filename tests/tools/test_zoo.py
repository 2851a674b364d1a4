"""The zoo: every family is in it, configs build, what has ended is not run again, the table tells what was measured."""

import json

import pytest

from engine.build import build_model
from engine.config import load_config
from models import list_models
from registry import UserError
from tools.zoo import __main__ as zoo
from tools.zoo import steps, table
from tools.zoo.networks import ANN, CONVERTED, DIRECT, TWIN, Network, networks
from tools.zoo.steps import Place, Processes

FAMILIES = ("ems_resnet", "spikeyolo", "eas_snn", "spiking_yolox", "spiking_yolo", "spiking_yolov3", "double_threshold")


def test_every_family_is_in_it_with_its_twin():
    found = networks()
    assert len({n.name for n in found}) == len(found) and {n.family for n in found} <= set(list_models())
    assert all(any(n.family.startswith(family) for n in found) for family in FAMILIES)
    for network in found:
        if network.kind == DIRECT:
            (twin,) = [n for n in found if n.name == f"{network.name}_twin"]
            assert twin.kind == TWIN and twin.overrides == (*network.overrides, "model.neuron=silu")
        assert (network.kind == ANN) == (network.convert is not None)


@pytest.mark.parametrize("network", networks(), ids=lambda n: n.name)
def test_its_config_builds(network, tmp_path):
    (_, train), *_ = steps.commands(network, Place(tmp_path, ("train.epochs=2",)))
    cfg = load_config(train[1], [text for text in train[2:] if "=" in text])
    model, _ = build_model(cfg, num_classes=2, in_channels=2 if network.data == "events" else 3)
    assert cfg.name == network.name and cfg.train.epochs == 2
    assert sum(p.numel() for p in model.parameters()) < 1.2e6


def test_what_has_ended_is_not_run_again(tmp_path, monkeypatch):
    network, place = Network("one", "events", "ems_resnet10_ee", "LIF", DIRECT, ()), Place(tmp_path)
    says = "open({!r}, 'a').write({!r})"
    seen = tmp_path / "seen"
    made = [("train", ["-c", says.format(str(seen), "t")]), ("evaluate", ["-c", says.format(str(seen), "e")])]
    monkeypatch.setattr(steps, "commands", lambda network, place: iter(made))
    steps.run_steps(network, place, Processes())
    steps.run_steps(network, place, Processes())
    assert seen.read_text() == "te"
    made[0] = ("train", ["-c", says.format(str(seen), "T")])  # another training: what is behind it runs again, too
    steps.run_steps(network, place, Processes())
    assert seen.read_text() == "teTe" and list(json.loads((tmp_path / "one.json").read_text())) == ["train", "evaluate"]
    made[1] = ("evaluate", ["-c", "raise SystemExit('no boxes')"])
    with pytest.raises(UserError, match="one: evaluate ended with code 1; .*one.log"):
        steps.run_steps(network, place, Processes())
    assert "no boxes" in (tmp_path / "one.log").read_text() and seen.read_text() == "teTe"
    assert list(json.loads((tmp_path / "one.json").read_text())) == ["train"]


def test_an_interrupt_ends_what_runs_and_begins_nothing(tmp_path, monkeypatch):
    made = {
        "first": f"while not __import__('os').path.exists({str(tmp_path / 'second')!r}): pass",
        "second": f"open({str(tmp_path / 'second')!r}, 'w'); __import__('time').sleep(300)",
        "third": "__import__('time').sleep(300)",  # may have begun where the first was
        "fourth": f"open({str(tmp_path / 'fourth')!r}, 'w')",
    }
    monkeypatch.setattr(steps, "commands", lambda network, place: iter([("train", ["-c", made[network.name]])]))

    def interrupted(place):
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo, "_write", interrupted)  # when the first has ended, while the second sleeps
    chosen = [Network(name, "events", "ems_resnet10_ee", "LIF", DIRECT, ()) for name in made]
    with pytest.raises(KeyboardInterrupt):
        zoo._run(chosen, Place(tmp_path), jobs=2)
    assert json.loads((tmp_path / "first.json").read_text()).keys() == {"train"}
    assert json.loads((tmp_path / "second.json").read_text()) == {} and not (tmp_path / "fourth").exists()


@pytest.fixture
def ended(tmp_path):
    """A place where one converted network has ended: AP .5 as an ANN, .25 converted."""
    network = Network("images_one", "images", "spiking_yolov3", "ReLU", ANN, (), ())
    run = tmp_path / "images_one"
    metrics = {"protocol": "coco", "T": 1, "parameters": 1_500_000, "AP50": 0.75, "AP": 0.5, "seed": 0}
    energy = {"papers_mJ": 0.125, "movement_mJ": [0.25, 1.5], "twin_mJ": [0.5, 2.0], "ann_int8_mJ": [0.0625, 3]}
    spikes = {"T": 64, "AP": 0.25, "firing_rates": {"a": 0.125, "b": 0.375}}
    for folder, content, synops in ((steps.SCORED, metrics, 0.0), (steps.SIMULATED, metrics | spikes, 2e6)):
        (run / folder).mkdir(parents=True)
        (run / folder / "metrics.json").write_text(json.dumps(content))
        (run / folder / "energy.json").write_text(
            json.dumps({"D": 1, "total": energy | {"synops": synops, "macs": 1e6}})
        )
    for file, ms, peak in ((steps.TIMED, 12.4, 3 << 20), (steps.TIMED_CONVERTED, 200.0, None)):
        (run / file).write_text(json.dumps({"rows": [{"ms_total": ms, "peak_bytes": peak}]}))
    place = Place(tmp_path)
    ran = {name: {"command": [], "commit": "abc", "seconds": 90.0} for name, _ in steps.commands(network, place)}
    (tmp_path / "images_one.json").write_text(json.dumps(ran))
    return network, place


def test_table_has_a_row_of_the_ann_and_one_of_its_conversion(ended):
    network, place = ended
    ann, converted = table.rows(network, place)
    assert (ann["kind"], ann["AP"], converted["kind"], converted["AP"], converted["T"]) == (
        ANN,
        0.5,
        CONVERTED,
        0.25,
        64,
    )
    assert converted["firing_rate"] == 0.25 and ann["firing_rate"] is None and ann["commits"] == ["abc"]
    text = table.markdown([ann, converted])
    head, _, first, second = [line for line in text.splitlines() if line.startswith("|")]
    cells = [dict(zip(head.split(" | "), line.split(" | "), strict=True)) for line in (first, second)]
    assert cells[0]["AP50"] == ".750" and cells[0]["CPU ms"] == "12" and cells[0]["MiB"] == "3"
    assert cells[1]["papers"] == "125" and cells[1]["data movement"] == "250 .. 1500"
    assert cells[1]["twin"] == "500 .. 2000" and cells[1]["int8"] == "62.5 .. 3000"
    assert cells[1]["additions"] == "2 M" and cells[0]["additions"] == "0 M" and cells[1]["CPU ms"] == "200"
    assert cells[1]["MiB"] == "-" and (cells[1]["T"], cells[1]["D"]) == ("64", "1")


def test_a_network_whose_steps_have_not_ended_has_no_row(ended):
    network, place = ended
    record = place.out / "images_one.json"
    ran = json.loads(record.read_text())
    for missing in ran:
        record.write_text(json.dumps({name: step for name, step in ran.items() if name != missing}))
        assert table.rows(network, place) == []


def test_commands(command, tmp_path):
    listed = command("-m", "tools.zoo", "--list", "images_syolov3", "train.epochs=2", "--out", str(tmp_path))
    assert listed.returncode == 0 and listed.stdout.count("python ") == 6 and "train.epochs=2" in listed.stdout
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="'ems': no such network; there are events_ems, "):
        zoo.main(["ems"])
    with pytest.raises(UserError, match="--jobs 0"):
        zoo.main(["--jobs", "0"])
