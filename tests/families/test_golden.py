"""Every case found is run, or belongs to a family that is listed as not built."""

import os

import animatediff_cases
import animatediff_control_cases
import fifo_cases
import lavie_cases
import lvdm_cases
import lvdm_long_cases
import lvdm_metric_cases
import lvdm_training_cases
import modelscope_cases
import pytest
import svd_cases
import videocrafter_cases
from golden_cases import KINDS_NOT_BUILT, NOT_BUILT, ROOT, discover

FAMILIES = {
    "animatediff": animatediff_cases.KINDS | animatediff_control_cases.KINDS,
    "fifo": fifo_cases.KINDS,
    "lavie": lavie_cases.KINDS,
    "lvdm": (
        lvdm_cases.KINDS
        | lvdm_long_cases.KINDS
        | lvdm_metric_cases.KINDS
        | lvdm_training_cases.KINDS
    ),
    "modelscope": modelscope_cases.KINDS,
    "svd": svd_cases.KINDS,
    "videocrafter": videocrafter_cases.KINDS,
}
CASES = discover()


def runner(family, kind):
    """The function for a kind of case: by the longest name that it equals or begins with."""
    kinds = FAMILIES.get(family, {})
    fitting = [name for name in kinds if kind == name or kind.startswith(f"{name}_")]
    return kinds[max(fitting, key=len)] if fitting else None


def test_every_family_is_built_or_listed_as_not_built():
    assert {case.family for case in CASES} <= {*FAMILIES, *NOT_BUILT}
    assert not set(FAMILIES) & set(NOT_BUILT)


@pytest.mark.skipif("VIDEOLDM_GOLDEN" in os.environ, reason="other directories were named")
def test_the_repository_has_cases_of_every_built_family():
    here = {case.family for case in CASES if case.folder.is_relative_to(ROOT)}
    assert here >= set(FAMILIES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.folder.name}:{case.kind}")
def test_it_gives_what_the_original_gives(case, tmp_path):
    if case.family in NOT_BUILT:
        pytest.skip(f"the family {case.family} is not built yet")
    if case.kind.startswith(KINDS_NOT_BUILT.get(case.family, ())):
        pytest.skip(f"the kind {case.kind} of the family {case.family} is not built yet")
    run = runner(case.family, case.kind)
    assert run, f"nothing runs a case of kind {case.kind!r} of the family {case.family!r}"
    run(case, tmp_path)


def test_kinds_are_told_apart_by_their_longest_name():
    assert runner("lavie", "interpolation_sampling_short") is lavie_cases.interpolation_sampling
    assert runner("lavie", "interpolation") is lavie_cases.forward
    assert runner("lavie", "another") is None
