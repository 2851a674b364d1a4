"""The benchmark runs, and its table holds what it says."""

import subprocess
import sys
from pathlib import Path

import torch

from tools.benchmark import detector, events, neurons

ROOT = Path(__file__).parent.parent.parent


def test_neurons_against_spikingjelly(capsys):
    arguments = "--shape 4,1,4,8,8 --repeats 2 --backends torch --only lif,plif,sth,ternary_lif"
    neurons.main(arguments.split())
    rows = [line for line in capsys.readouterr().out.splitlines() if " torch " in line and "MiB" not in line]
    assert [row[:24].strip() for row in rows] == [
        "lif", "lif, sigmoid", "plif", "ternary_lif", "ternary_lif, rectangle", "sth"
    ]  # fmt: skip
    assert all("x" in row for row in rows[:5]) and "x" not in rows[5]
    # x holds 4 KiB: 2 bits a step are 0.25 KiB; what is worked out again keeps the input alone.
    assert rows[0].endswith("0.00") and rows[2].endswith("0.00 + 0.00")


def test_detector_beside_its_convolutions(capsys, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    detector.main("ems_resnet10_ee --T 1 --batch 1 --size 64,64 --repeats 1".split())
    out = capsys.readouterr().out
    assert "training step" in out and "x its convolutions" in out and "separable" not in out


def test_events_beside_the_published_loaders(capfd, monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    arguments = f"--events 60000 --seconds 8 --windows 3 --loader-seconds 0.01 --folder {tmp_path}"
    events.main(arguments.split())
    out = capfd.readouterr().out
    (written,) = tmp_path.glob("train/*_td.dat")
    before = written.stat()
    assert events.write_recording(tmp_path, 60_000, 8, 0) == written and written.stat() == before  # used again
    rows = {line[:36].strip(): line.split() for line in out.splitlines() if line.endswith("%") or " .. " in line}
    # The published loaders give what ours do, cell by cell.
    assert {rows[name][-1] for name in ("last_event", "stacked_histogram, bins 5, events")} == {"0.00%"}
    assert "1.0x" in rows["EMS-YOLO, SpikeYOLO"] and "30 windows of a file of 0 MiB" in out


def test_command_line_names_what_there_is():
    run = subprocess.run([sys.executable, "-m", "tools.benchmark", "nothing"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1 and "{detector,events,neurons}" in run.stderr
