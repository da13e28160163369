"""`videoldm run` stops at a signal and keeps what was finished."""

from __future__ import annotations

import os
import signal
import time
from fractions import Fraction

import pytest
import torch
from command_toys import Count, Write, count, objects, workflow, write
from videoldm.core.media.files import VideoStream, open_video
from videoldm.nodes.command import signals
from videoldm.nodes.command.signals import StopSignals
from videoldm.nodes.headless import main
from videoldm.nodes.host.shared.saving import save_stream
from videoldm.nodes.host.standalone import host


@pytest.mark.parametrize("name, code", [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_stops_between_steps_and_keeps_what_was_finished(capsys, name, code):
    stopped = count(seed=1, signal_at=2, signal=name)
    file = workflow(n1=count(), n2=write("first"), n3=stopped, n4=write("second", "3"))
    before = signal.getsignal(getattr(signal, name))
    assert main(["run", file, "--json"]) == code
    *events, result = objects(capsys.readouterr().out)
    steps = [e["value"] for e in events if e["event"] == "progress" and e["node_id"] == "3"]
    assert steps == [1, 2, 3], "the step that was under way is finished, no other begun"
    assert [os.path.basename(file) for file in result["files"]] == ["first_00001_.txt"]
    assert result["code"] == code and "node 3" in result["error"]["message"]
    assert signal.getsignal(getattr(signal, name)) is before


def test_a_second_signal_stops_at_once(capsys):
    with StopSignals() as stop, stop.gently():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert stop.code == 130


def test_a_step_that_takes_too_long_is_not_waited_for(capsys, monkeypatch):
    def execute(**inputs):
        os.kill(os.getpid(), signal.SIGINT)
        until = time.monotonic() + 20
        while time.monotonic() < until:  # never checks whether to stop
            pass

    monkeypatch.setattr(Count, "execute", execute)
    began = time.monotonic()
    assert main(["run", workflow(n1=count(), n2=write())]) == 130
    assert time.monotonic() - began < 10
    assert "interrupted in node 1 (Toy_Count)" in capsys.readouterr().err


def test_whoever_has_asked_has_time_to_close_its_files(monkeypatch):
    with StopSignals() as stop, stop.gently():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        time.sleep(2 * signals.GRACE)
    assert stop.code == 130


def test_only_unfinished_videos_of_the_run_itself_are_told(capsys, monkeypatch, tmp_path):
    def execute(latent, prefix):
        other = host.folders.new_file(prefix, ".mp4")  # of another run at the same time
        other.partial.write_bytes(b"other")

        def chunks():
            yield torch.zeros(4, 3, 16, 16)
            raise ValueError("the disk is full")

        stream = VideoStream(chunks, Fraction(8), 8, 16, 16)
        file = host.folders.new_file(prefix, ".mp4")
        save_stream(host, stream, file, format="mp4", quality=18, metadata={})

    monkeypatch.setattr(Write, "execute", execute)
    assert main(["run", workflow(n1=count(), n2=write()), "--quiet"]) == 1
    assert capsys.readouterr().out == "output/toy_00002_.partial.mp4\n"
    assert open_video(tmp_path / "output" / "toy_00002_.partial.mp4").frames == 4
    assert main(["run", workflow(n1=count(), n2=write()), "--quiet"]) == 1
    assert capsys.readouterr().out == "output/toy_00004_.partial.mp4\n"
