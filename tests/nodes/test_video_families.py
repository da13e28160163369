"""Stable Video Diffusion through Load Temporal Layers, and the wording of tasks."""

from __future__ import annotations

import pytest
import svd_toys
from safetensors.torch import save_file
from videoldm.core.families import svd
from videoldm.core.networks.temporal_layers_spec import TASKS
from videoldm.nodes.host.shared.setup_warnings import MADE_FOR


@pytest.fixture
def run(tmp_path, run_on):
    folder = tmp_path / "models" / "videoldm"
    folder.mkdir(parents=True)
    state = svd.unet_to_foreign(svd_toys.unet(), "ldm")
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "svd.safetensors")
    return run_on(folder.parent)


def test_its_temporal_layers_are_loaded_alone(run):
    layers = run("VideoLDM_LoadTemporalLayers", layers="svd.safetensors")
    assert layers.spec == svd_toys.config_of().layers_spec()


def test_every_task_has_words_for_a_warning():
    assert set(MADE_FOR) == set(TASKS)
