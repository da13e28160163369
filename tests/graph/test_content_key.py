"""Content keys: the same in every process, and different if anything upstream is."""

import pytest
from videoldm.core.graph.content_key import FINGERPRINT, ContentKeys, is_nan

PROMPT = {
    "1": {"class_type": "Load", "inputs": {"file": "model.safetensors"}},
    "2": {"class_type": "Text", "inputs": {"text": "a cat"}},
    "3": {"class_type": "Sampler", "inputs": {"model": ["1", 0], "text": ["2", 0], "seed": 1}},
    "4": {"class_type": "Decode", "inputs": {"latent": ["3", 0], "chunk": 4}},
}


def key(prompt=PROMPT, node_id="4", files=lambda value: (), volatile=(), **more):
    keys = ContentKeys(prompt.get, files, lambda node: node["class_type"] in volatile)
    return keys.of(node_id, **more)


def changed(node_id, **inputs):
    node = PROMPT[node_id]
    return PROMPT | {node_id: {**node, "inputs": node["inputs"] | inputs}}


def test_ids_titles_and_nodes_elsewhere_do_not_count():
    renamed = {
        "a.1": PROMPT["1"] | {"_meta": {"title": "The model"}},
        "b": PROMPT["2"],
        "c": {
            "class_type": "Sampler", "inputs": {"seed": 1, "text": ["b", 0], "model": ["a.1", 0]},
        },
        "d": {"class_type": "Decode", "inputs": {"chunk": 4, "latent": ["c", 0]}},
        "e": {"class_type": "Save", "inputs": {"latent": ["d", 0]}},
    }  # fmt: skip
    assert key(renamed, "d") == key()


@pytest.mark.parametrize("prompt", [
    changed("2", text="a dog"), changed("3", seed=2), changed("4", chunk=5),
    changed("3", text=["1", 0]), changed("3", model=["1", 1]), changed("4", more=None),
    PROMPT | {"1": PROMPT["1"] | {"class_type": "Load Other"}},
    PROMPT | {"1": PROMPT["1"] | {FINGERPRINT: ["7"]}},
])  # fmt: skip
def test_whatever_is_upstream_counts(prompt):
    assert key(prompt) != key()


def test_what_is_downstream_does_not_count():
    assert key(changed("4", chunk=5), "3") == key(node_id="3")


def test_contents_of_files_count_and_not_their_order():
    one = key(files=lambda value: ("b", "a") if value == "model.safetensors" else ())
    same = key(files=lambda value: ("a", "b") if value == "model.safetensors" else ())
    other = key(files=lambda value: ("a", "c") if value == "model.safetensors" else ())
    assert one == same and len({one, other, key()}) == 3


def test_inputs_that_stand_elsewhere_do_not_count_and_need_no_key():
    longer = changed("3", seed=2)
    assert key(longer, "3", without=("seed",)) == key(node_id="3", without=("seed",))
    assert key(node_id="3", volatile=("Text",)) is None
    assert key(node_id="3", volatile=("Text",), without=("text",)) is not None


def test_what_is_volatile_missing_or_no_json_has_no_key():
    assert key(volatile=("Load",)) is None
    assert key(node_id="9") is None
    assert key(changed("3", model=["9", 0])) is None
    assert key(changed("3", seed=float("nan"))) is None
    assert key(changed("1", latent=["4", 0])) is None  # a cycle
    assert is_nan(float("nan")) and not is_nan("nan") and not is_nan(1)


def test_chains_of_any_length_have_keys():
    chain = {str(k): {"class_type": "N", "inputs": {"x": [str(k - 1), 0]}} for k in range(1, 5000)}
    chain["0"] = {"class_type": "N", "inputs": {"x": 1}}
    longer, shorter = key(chain, "4999"), key(chain, "4998")
    assert longer and shorter and longer != shorter
