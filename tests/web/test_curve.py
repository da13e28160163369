"""The curve editor computes the same values as core, and its edits give valid curves."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from videoldm.core.diffusion.curves import AXES, INTERPOLATIONS, Line
from videoldm.nodes.curves import EXAMPLE
from videoldm.nodes.stages.texts import read_points

CURVES = [
    [[0, 1], [15, 1]],
    [[0, 0], [3, 1.5], [5, 0.5], [5, 1], [12, 0.25], [20, 2]],
    [[4, 0.5]],
    [[0, 1], [0, 0.25], [1, 0]],
    [[2, -1], [3, 4], [7, 3.5], [9, 3.5], [10, 0]],
]
TEXTS = [
    EXAMPLE, "", "[]", "{}", "[1]", "[null]", "[{", "3", "[[0, 1]]", "[[0, 1, 2]]", "[[0]]",
    '[[0, "1"]]', "[[0, null]]", "[[true, 1]]", "[[3, 1], [0, 2]]", "[[0, 1], [0, 2]]",
    "[[0, 1], [0, 2], [0, 3]]", "[[1.5, 1]]", "[[-1, 1]]", "[[0.5, -2], [1, 3.25]]",
]  # fmt: skip


def test_the_drawing_reads_what_the_node_reads(javascript):
    given_ = [(text, over) for text in TEXTS for over in AXES]
    called = f"{json.dumps(given_)}.map(([text, over]) => m.readCurve(text, over, 'linear'))"
    answers = javascript("curve.js", called)
    for (text, over), answer in zip(given_, answers, strict=True):
        try:
            expected = [list(point) for point in read_points(text, over)]
        except ValueError:
            assert "problem" in answer, (text, over)
            continue
        assert answer["value"]["points"] == expected, (text, over)
        again = json.dumps(answer["value"])
        assert read_points(javascript("curve.js", f"m.writeCurve({again})"), over)


def test_the_drawn_values_are_those_of_core(javascript):
    at = [k / 4 for k in range(-4, 100)]
    given_ = [{"points": points, "over": "frames", "interpolation": kind}
              for points in CURVES for kind in INTERPOLATIONS]  # fmt: skip
    called = f"{json.dumps(given_)}.map((c) => {json.dumps(at)}.map((x) => m.valueAt(c, x)))"
    for curve, values in zip(given_, javascript("curve.js", called), strict=True):
        line = Line(tuple(map(tuple, curve["points"])), curve["interpolation"], "frames")
        assert all(abs(line(x) - y) < 1e-9 for x, y in zip(at, values, strict=True)), curve


def test_the_outline_jumps_where_two_points_stand(javascript):
    curve = {"points": [[0, 1], [5, 1], [5, 3], [15, 3]], "over": "frames",
             "interpolation": "linear"}  # fmt: skip
    outline = javascript("curve.js", f"m.outline({json.dumps(curve)})")
    assert {y for _, y in outline} == {1, 3}
    assert [y for x, y in outline if x == 5] == [1, 3]


@settings(max_examples=5)
@given(data=st.data())
def test_edits_leave_points_that_can_be_read(javascript, data):
    """Adding, moving and removing points at random always leaves text that the node can read."""
    edits = data.draw(st.lists(
        st.tuples(st.sampled_from(["added", "moved", "removed"]), st.integers(0, 9),
                  st.floats(-0.5, 1.5), st.floats(-1, 4)), min_size=20, max_size=60,
    ))  # fmt: skip
    program = """((edits, over, scale) => {
      let points = [[0, 1]];
      const seen = [];
      for (const [kind, at, x, y] of edits) {
        const curve = { points, over, interpolation: "linear" };
        const k = at % points.length;
        if (kind === "added") {
          const inside = over === "steps" ? Math.min(Math.max(x, 0), 1) : x * scale;
          points = m.added(curve, [inside, y]).points;
        } else if (kind === "moved") points = m.moved(curve, k, [x * scale, y]);
        else points = m.removed(curve, k);
        seen.push(m.writeCurve({ points }));
      }
      return seen;
    })"""
    for over, scale in (("frames", 6), ("steps", 1)):
        called = f"{program}({json.dumps(edits)}, {json.dumps(over)}, {scale})"
        for text in javascript("curve.js", called):
            assert read_points(text, over), text
