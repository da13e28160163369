"""Lets the tests import the toy models next to them, and holds what all of them share."""

import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.append(str(Path(__file__).parent))

# How long an example takes says more about the machine than about the code.
settings.register_profile("videoldm", deadline=None)
settings.load_profile("videoldm")


@pytest.fixture(scope="session")
def toy_family(tmp_path_factory):
    """The folder of a family with random weights, in files of the embedded family's format."""
    from toy_family import write_toy_family

    return write_toy_family(tmp_path_factory.mktemp("embedded"))
