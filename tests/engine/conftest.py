"""A run of the tiny config, trained once."""

import shutil
from pathlib import Path

import pytest

import train


@pytest.fixture
def tiny(config_in, tmp_path) -> str:
    """The config file of a run of seconds."""
    return config_in(tmp_path)


@pytest.fixture(scope="session")
def trained(config_in, tmp_path_factory) -> Path:
    """The run folder of `tiny`, trained once and only read; `run` is a copy to work on."""
    return train.main([config_in(tmp_path_factory.mktemp("trained"))])


@pytest.fixture
def run(trained, tiny, tmp_path) -> Path:
    """What `train.main([tiny])` leaves."""
    folder = tmp_path / "runs" / "tiny"
    shutil.copytree(trained, folder)
    for name in ("config.yaml", "provenance.jsonl"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace(str(trained.parents[1]), str(tmp_path)))
    return folder
