"""`videoldm run --each`: values and CSV rows become runs, or an error."""

from __future__ import annotations

import pytest
from command_toys import count, objects, workflow, write
from videoldm.nodes.command.errors import CommandError
from videoldm.nodes.command.variations import variations
from videoldm.nodes.headless import main


def test_values_of_one_input_make_a_run_each():
    assert variations([]) == [[]]
    assert variations(["Prompt.text=a = b", "Prompt.text=c"]) == [
        ["Prompt.text=a = b"], ["Prompt.text=c"],
    ]  # fmt: skip


def test_inputs_change_together_and_rows_of_a_csv_with_them(tmp_path):
    file = tmp_path / "prompts.CSV"
    file.write_text('\ufeffPrompt.text,Sampler.seed\n"a star, red",1\n\n"two\nlines",2\n')
    assert variations([str(file), "Save.prefix=x", "Save.prefix=y"]) == [
        ["Prompt.text=a star, red", "Sampler.seed=1", "Save.prefix=x"],
        ["Prompt.text=two\nlines", "Sampler.seed=2", "Save.prefix=y"],
    ]


@pytest.mark.parametrize("text, said", [
    ("", "it is empty"),
    ("a.b\n", "has no rows below the header"),
    ("a.b,c.d\n1\n", "line 2 of FILE has 1 cells, but there are 2 columns"),
    ("a.b,c.d\n1,2\n\n3\n", "line 4 of FILE has 1 cells, but there are 2 columns"),
    ("a.b,a.b\n1,2\n", "two columns a.b"),
    ("a.b\n\"1\n", "cannot be read as CSV"),
])  # fmt: skip
def test_a_csv_that_cannot_be_used_is_one_sentence(tmp_path, text, said):
    file = tmp_path / "rows.csv"
    file.write_text(text)
    with pytest.raises(CommandError) as error:
        variations([str(file)])
    assert said.replace("FILE", str(file)) in str(error.value)


@pytest.mark.parametrize("options, said", [
    (["prompts.csv"], "there is no file prompts.csv"),
    (["text"], "must be NODE.INPUT=VALUE or a CSV file"),
    (["a.b=1", "a.b=2", "c.d=3"], "got 2 for a.b, 1 for c.d"),
])  # fmt: skip
def test_options_that_make_no_runs_are_refused(options, said):
    with pytest.raises(CommandError, match=said):
        variations(options)


def test_every_value_is_run_and_saved_in_order(capsys):
    file = workflow(n1=count(), n2=write("each"))
    assert main(["run", file, "--json", "--each", "1.seed=3", "--each", "1.seed=4"]) == 0
    *_, result = objects(capsys.readouterr().out)
    assert [name.rpartition("/")[2] for name in result["files"]] == [
        "each_00001_.txt", "each_00002_.txt",
    ]  # fmt: skip


def test_what_is_wrong_with_one_value_is_said_before_any_is_run(capsys):
    file = workflow(n1=count(), n2=write("each"))
    assert main(["run", file, "--each", "1.seed=3", "--each", "1.seed=many"]) == 2
    assert "1.seed=many" in capsys.readouterr().err
