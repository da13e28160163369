import pytest
import torch
from model_toys import normal, toy_layers, toy_unet
from safetensors.torch import save_file
from torch import nn
from videoldm.core.weights import checkpoints as c

HEADER = c.Header(family="embedded", kind="temporal_layers", config={"a": [1, 2]}, notes={"n": 1})


def test_a_model_goes_to_a_file_and_back_with_its_config(tmp_path):
    unet = toy_unet()
    layers, path = toy_layers(unet), tmp_path / "new folder" / "layers.safetensors"
    c.save(path, layers.state_dict(), HEADER, dtype=None)
    assert c.read_header(path) == HEADER
    with torch.device("meta"):
        again = toy_layers(unet)
    again = c.load_into(again, c.read_state(path), "layers")
    assert not again.training and not any(p.requires_grad for p in again.parameters())
    for name, value in layers.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_weights_are_halved_in_the_file_and_integers_are_not(tmp_path):
    path = tmp_path / "x.safetensors"
    c.save(path, {"w": normal(3), "n": torch.arange(3)}, HEADER)
    state = c.read_state(path)
    assert state["w"].dtype == torch.float16 and state["n"].dtype == torch.int64
    linear = c.load_into(nn.Linear(3, 1, bias=False), {"weight": state["w"][None]}, "x")
    assert linear.weight.dtype == torch.float32


def test_saving_leaves_no_half_file_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "x.safetensors"
    for value in (1.0, 2.0):
        c.save(path, {"w": torch.full((2,), value)}, HEADER)
    assert c.read_state(path)["w"].tolist() == [2.0, 2.0]
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_foreign_file_has_no_header(tmp_path):
    save_file({"w": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert c.read_header(tmp_path / "x.safetensors") is None


def test_files_that_are_missing_truncated_or_something_else_are_one_sentence(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(c.CheckpointError, match="no weight file at .*x.safetensors"):
        c.read_state(path)
    c.save(path, {"w": normal(100)}, HEADER)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(c.CheckpointError, match="x.safetensors is not a readable"):
        c.read_state(path)
    path.write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(c.CheckpointError, match="x.safetensors is not a readable"):
        c.read_header(path)


def test_keys_that_do_not_fit_are_counted_and_the_first_five_named():
    module = nn.Sequential(*[nn.Linear(2, 2) for _ in range(4)])
    state = module.state_dict()
    with pytest.raises(c.CheckpointError, match=r"net lacks keys \(8\): 0.weight, .*, 2.weight$"):
        c.load_into(module, {}, "net")
    with pytest.raises(c.CheckpointError, match=r"net has unknown keys \(1\): extra"):
        c.load_into(module, state | {"extra": torch.zeros(1)}, "net")
    with pytest.raises(
        c.CheckpointError, match=r"misshapen keys \(1\): 1.bias \(3,\) instead of \(2,\)"
    ):
        c.load_into(module, state | {"1.bias": torch.zeros(3)}, "net")


def test_part_takes_what_lies_below_a_prefix():
    state = {"a.x": torch.zeros(1), "b.x": torch.ones(1), "a.y.z": torch.ones(2)}
    assert sorted(c.part(state, "a.")) == ["x", "y.z"]


def test_weights_of_whole_numbers_and_scalars_are_named():
    module = nn.Linear(2, 2)
    state = module.state_dict()
    with pytest.raises(
        c.CheckpointError, match=r"no floating-point numbers at .*: bias \(int64\)$"
    ):
        c.load_into(module, state | {"bias": torch.ones(2, dtype=torch.int64)}, "net")
    with pytest.raises(c.CheckpointError, match=r"bias a single number instead of \(2,\)$"):
        c.load_into(module, state | {"bias": torch.ones(())}, "net")


def test_names_of_keys_are_shown_in_short():
    module = nn.Linear(2, 2)
    state = module.state_dict() | {"a" * 500: torch.ones(1), "b\x1b[31m": torch.ones(1)}
    with pytest.raises(c.CheckpointError, match=r"unknown keys \(2\): a{77}\.\.\., b\\x1b\[31m$"):
        c.load_into(module, state, "net")
    with pytest.raises(c.CheckpointError, match=r"x has unknown keys \(1\): 3$"):
        c.complain("has unknown", "x", [3])
    assert c.listed(["", "a"]) == "'', a"


@pytest.mark.parametrize("error, words", [
    (TypeError("object of type 'NoneType' has no len()"), "a field is null or of a wrong type"),
    (TypeError("f() got an unexpected keyword argument 'colour'"), "'colour' is not known"),
    (TypeError("f() missing 1 required keyword-only argument: 'size'"), "'size' is missing"),
    (KeyError("unet"), "'unet' is missing"),
    (ValueError("3 channels, but 4 groups"), "3 channels, but 4 groups"),
    (ValueError(""), "ValueError"),
    (RuntimeError("bad sizes:\n  8 and 3\nmore"), "bad sizes: 8 and 3"),
    (c.CheckpointError("B() got an unexpected keyword argument 'x'"), "'x' is not known"),
])  # fmt: skip
def test_what_is_wrong_with_a_configuration_is_said_without_pythons_words(error, words):
    with pytest.raises(c.CheckpointError) as caught, c.broken_config("a.json"):
        raise error
    assert str(caught.value) == f"a.json has a broken configuration: {words}"


def test_a_header_that_is_nested_without_end_is_one_sentence(tmp_path):
    path = tmp_path / "deep.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={c.METADATA_KEY: "[" * 100_000})
    with pytest.raises(c.CheckpointError, match="deep.safetensors has a broken header: ."):
        c.read_header(path)
