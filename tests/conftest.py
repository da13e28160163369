"""Lets the tests import the toy models next to them, and holds what all of them share."""

import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.append(str(Path(__file__).parent))

# How long an example takes says more about the machine than about the code.
settings.register_profile("videoldm", deadline=None)
settings.load_profile("videoldm")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Where tests run in several processes, those of one file stay together, and so do all of
    tests/host: what their fixtures start, a ComfyUI above all, is then started once."""
    if config.getoption("dist") != "load":
        return None  # Another way was asked for.
    from xdist.scheduler import LoadScopeScheduling

    class Files(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return "tests/host" if path.startswith("tests/host/") else path

    return Files(config, log)


@pytest.fixture(scope="session")
def toy_family(tmp_path_factory):
    """The folder of a family with random weights, in files of the embedded family's format."""
    from toy_family import write_toy_family

    return write_toy_family(tmp_path_factory.mktemp("embedded"))
