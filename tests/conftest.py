"""Makes the helper modules of this folder importable; fixtures and settings of all tests."""

import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.append(str(Path(__file__).parent))

# The time of an example depends more on the machine than on the code.
settings.register_profile("videoldm", deadline=None)
settings.load_profile("videoldm")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With several processes, keep the tests of a file together, and all of tests/host, so that
    expensive fixtures such as a ComfyUI server are started once."""
    if config.getoption("dist") != "load":
        return None  # The user chose another distribution.
    from xdist.scheduler import LoadScopeScheduling

    class Files(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return "tests/host" if path.startswith("tests/host/") else path

    return Files(config, log)


@pytest.fixture(scope="session")
def toy_family(tmp_path_factory):
    """A folder with a toy family: random weights in the embedded family's file format."""
    from toy_family import write_toy_family

    return write_toy_family(tmp_path_factory.mktemp("embedded"))
