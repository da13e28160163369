"""The registry: which family a file belongs to, and what that family offers."""

import pytest
import torch
from lavie_toys import FILES, write_lavie
from safetensors.torch import save_file
from videoldm.core.families import (
    families,
    family_of,
    load_temporal_layers,
    load_video_model,
    published_plan,
)
from videoldm.core.families.embedded import loading as embedded
from videoldm.core.weights.checkpoints import CheckpointError


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_lavie(folder)
    return folder / "videoldm"


def test_names_are_told_apart_and_everything_can_be_loaded_from():
    names = [one.name for one in families()]
    assert len(set(names)) == len(names) and names[0] == embedded.FAMILY
    assert all(callable(one.load_layers) for one in families())


@pytest.mark.parametrize("kind", FILES)
def test_a_published_file_is_known_by_its_weights(models, kind):
    path = models / FILES[kind]
    name, model = load_video_model(path)
    assert family_of(path).name == name == "lavie"
    assert load_temporal_layers(path).spec == model.sets.specs[0]


def test_a_file_of_the_projects_own_format_is_known_by_its_header():
    path = embedded.path_of("prediction")
    assert family_of(path).name == embedded.FAMILY
    assert load_temporal_layers(path).spec.trained.task == "prediction"
    with pytest.raises(CheckpointError, match="prediction.safetensors holds no whole video model"):
        load_video_model(path)


def test_weights_of_no_family_are_refused(tmp_path):
    save_file({"a.weight": torch.zeros(2)}, tmp_path / "odd.safetensors")
    with pytest.raises(CheckpointError, match="odd.safetensors"):
        load_temporal_layers(tmp_path / "odd.safetensors")


def test_settings_as_published_are_asked_of_the_family_that_trained_it():
    assert published_plan("lavie base", "ddpm", 4).sigmas.shape == (5,)
    known = "known for animatediff, svd, modelscope, lvdm, videocrafter, lavie, not for 'embedded'"
    with pytest.raises(ValueError, match=known):
        published_plan("embedded", "ddim", 4)
