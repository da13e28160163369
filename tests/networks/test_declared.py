"""`declare` builds dataclasses from JSON values; its errors name the field of the wrong type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest
from videoldm.core.networks.declared import declare


@dataclass(frozen=True, kw_only=True)
class Cake:
    name: str
    layers: int = 1
    height: float = 1.0
    sides: tuple[float, ...] = ()
    iced: bool = False
    taste: Literal["sweet", "sour"] = "sweet"
    candles: int | None = None


def test_values_of_the_right_kinds_build_it() -> None:
    cake = declare(Cake, {"name": "a", "height": 2, "sides": [1, 2.5], "candles": None}, "a cake")
    assert cake == Cake(name="a", height=2, sides=(1, 2.5))


@pytest.mark.parametrize("values, said", [
    ([], "a cake must be an object"),
    (None, "a cake must be an object, not None"),
    ({}, "a cake lacks the entry 'name'"),
    ({"name": "a", "colour": 1}, "a cake has an entry 'colour', expected name, layers"),
    ({"name": 1}, "name of a cake must be a text, not 1"),
    ({"name": "a", "layers": True}, "layers of a cake must be a whole number, not True"),
    ({"name": "a", "layers": 1.5}, "layers of a cake must be a whole number, not 1.5"),
    ({"name": "a", "height": "2"}, "height of a cake must be a number, not '2'"),
    ({"name": "a", "sides": 3}, "sides of a cake must be a list, not 3"),
    ({"name": "a", "sides": [1, "2"]}, "sides of a cake must be a list"),
    ({"name": "a", "iced": 0}, "iced of a cake must be true or false, not 0"),
    ({"name": "a", "taste": "salty"}, "taste of a cake must be 'sweet' or 'sour', not 'salty'"),
    ({"name": "a", "candles": "3"}, "candles of a cake must be a whole number or null, not '3'"),
    ({"name": ["x" * 900]}, "name of a cake must be a text"),
])  # fmt: skip
def test_what_is_wrong_is_named(values, said) -> None:
    with pytest.raises(ValueError) as caught:
        declare(Cake, values, "a cake")
    assert str(caught.value).startswith(said) and len(str(caught.value)) < 200
