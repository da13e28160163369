"""A real ComfyUI server for tests: start it, queue prompts, stop it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACK = "ComfyUI-VideoLDM"
PATH = Path(os.environ.get("COMFYUI_PATH", "~/ComfyUI")).expanduser()
PYTHON = Path(os.environ.get("COMFYUI_PYTHON", PATH / ".venv" / "bin" / "python")).expanduser()
EXAMPLE = PATH / "input" / "example.png"
"""The image that every ComfyUI comes with."""
START_WITHIN = 900.0


def missing() -> str | None:
    """Why no server is available for tests, or None."""
    if not (PATH / "main.py").is_file():
        return f"there is no ComfyUI in {PATH}; set COMFYUI_PATH"
    if not PYTHON.exists():
        return f"there is no Python for ComfyUI at {PYTHON}; set COMFYUI_PYTHON"
    return None


class RunFailed(Exception):
    """A prompt that the server refused or that did not finish; the message is the server's."""


@dataclass
class Server:
    """One ComfyUI with folders of its own, this pack, and the custom nodes for tests."""

    base: Path
    arguments: tuple[str, ...] = ("--cpu",)
    process: subprocess.Popen | None = field(default=None, repr=False)
    port: int = 0
    load: float = 0.0  # per processor when it had started; above 1 everything takes longer

    @property
    def log(self) -> str:
        return (self.base / "server.log").read_text(errors="replace")

    def start(self) -> Server:
        for name in ("custom_nodes", "input", "output", "temp", "models"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        if not (self.base / "custom_nodes" / PACK).exists():  # A server may be restarted.
            (self.base / "custom_nodes" / PACK).symlink_to(ROOT, target_is_directory=True)
        shutil.copy(Path(__file__).with_name("server_nodes.py"), self.base / "custom_nodes")
        if EXAMPLE.is_file():  # Some templates load it.
            shutil.copy(EXAMPLE, self.base / "input")
        self.port = _free_port()
        command = [
            PYTHON, PATH / "main.py", *self.arguments, "--base-directory", self.base,
            "--port", self.port, "--disable-auto-launch", "--disable-api-nodes",
            "--database-url", "sqlite:///:memory:",
        ]  # fmt: skip
        with open(self.base / "server.log", "w") as log:
            self.process = subprocess.Popen(
                [str(one) for one in command], stdout=log, stderr=subprocess.STDOUT, cwd=PATH
            )
        self._wait_until_up()
        self.load = os.getloadavg()[0] / (os.cpu_count() or 1)
        return self

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def kill(self) -> None:
        """Kill the process, as a power failure would."""
        self.process.kill()
        self.process.wait()

    def _wait_until_up(self) -> None:
        until = time.monotonic() + START_WITHIN
        while time.monotonic() < until:
            if self.process.poll() is not None:
                code = self.process.returncode
                raise RunFailed(f"ComfyUI ended with {code}:\n{self.log[-4000:]}")
            try:
                self.get("/system_stats")
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
            else:
                return
        self.stop()
        raise RunFailed(f"ComfyUI was not up after {START_WITHIN} s:\n{self.log[-4000:]}")

    # Requests.

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as reply:
            body = reply.read()
        return json.loads(body) if "json" in reply.headers.get("Content-Type", "") else body

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                text = reply.read()
        except urllib.error.HTTPError as error:
            raise RunFailed(error.read().decode()) from None
        return json.loads(text) if text else None

    def queue(self, prompt: dict[str, Any], client: str | None = None, **extra: Any) -> str:
        body = {"prompt": prompt, "client_id": client or str(uuid.uuid4()), "extra_data": extra}
        return self.post("/prompt", body)["prompt_id"]

    def run(self, prompt: dict[str, Any], *, within: float = 600.0) -> dict[str, Any]:
        """Queue a prompt and wait; returns its history, or raises RunFailed with the exception's
        message."""
        return self.wait(self.queue(prompt), within=within)

    def wait(self, prompt_id: str, *, within: float = 600.0) -> dict[str, Any]:
        until = time.monotonic() + within
        while time.monotonic() < until:
            history = self.get(f"/history/{prompt_id}").get(prompt_id)
            if history is not None:
                return _finished(history)
            time.sleep(0.1)
        raise RunFailed(f"the prompt was not done after {within} s")

    def filled(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """The prompt with defaults for the inputs of our nodes that it leaves out."""
        for node in prompt.values():
            if node["class_type"].startswith("VideoLDM_"):
                info = self.get(f"/object_info/{node['class_type']}")[node["class_type"]]
                node["inputs"] = dict(_defaults(info["input"], node["inputs"])) | node["inputs"]
        return prompt

    def files(self, history: dict[str, Any]) -> list[Path]:
        """The files that a run's output nodes showed, in the order of the nodes' ids, without the
        previews of Load Video."""
        outputs = sorted(history["outputs"].items(), key=lambda item: _numbers(item[0]))
        shown = [one for _, output in outputs for one in output.get("images", [])
                 if not one["filename"].startswith("selection_")]  # fmt: skip
        return [self.base / one["type"] / one["subfolder"] / one["filename"] for one in shown]

    def clear(self) -> None:
        """Forget cached outputs and unload models, as the frontend's button does.

        ComfyUI may do so only after the next prompt, if that is queued before it checks: hence the
        prompt without effect here.
        """
        self.post("/free", {"unload_models": True, "free_memory": True})
        self.run({"1": {"class_type": "PreviewAny", "inputs": {"source": "cleared"}}})

    def add_models(self, kind: str, files: Path | list[Path], folder: str = "") -> None:
        target = self.base / "models" / kind / folder
        target.mkdir(parents=True, exist_ok=True)
        for file in [files] if isinstance(files, Path) else files:
            copy = shutil.copytree if file.is_dir() else shutil.copy
            copy(file, target / file.name)


def _finished(history: dict[str, Any]) -> dict[str, Any]:
    if history["status"]["status_str"] == "success":
        return history
    for kind, message in history["status"]["messages"]:
        if kind == "execution_error":
            where = f"{message['node_type']} ({message['node_id']})"
            trace = "".join(message["traceback"])
            raise RunFailed(f"{where}: {message['exception_message'].strip()}\n{trace}")
        if kind == "execution_interrupted":
            raise RunFailed("interrupted")
    raise RunFailed(json.dumps(history["status"]))


class Listener:
    """A websocket client that records all messages of the server: dicts, and bytes of previews."""

    def __init__(self, server: Server):
        self.client = str(uuid.uuid4())
        self.messages: list[dict[str, Any] | bytes] = []
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET /ws?clientId={self.client} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self._stream = self._socket.makefile("rb")
        while self._stream.readline() not in (b"\r\n", b""):
            pass
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        """Servers never mask websocket frames; these are short enough not to be fragmented."""
        while head := self._stream.read(2):
            kind, length = head[0] & 15, head[1] & 127
            if length > 125:
                length = int.from_bytes(self._stream.read(2 if length == 126 else 8), "big")
            body = self._stream.read(length)
            if kind == 1:
                self.messages.append(json.loads(body))
            elif kind == 2:
                self.messages.append(body)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _defaults(
    inputs: dict[str, Any], given: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """(name, default) of required inputs, including those of the chosen options of dynamic combos;
    a dynamic combo defaults to its first option."""
    for name, (kind, *more) in inputs.get("required", {}).items():
        options = more[0] if more else {}
        if kind == "COMFY_DYNAMICCOMBO_V3":
            opened = {one["key"]: one["inputs"] for one in options["options"]}
            chosen = given.get(f"{prefix}{name}", next(iter(opened)))
            yield f"{prefix}{name}", chosen
            yield from _defaults(opened.get(chosen, {}), given, f"{prefix}{name}.")
        elif "default" in options:
            yield f"{prefix}{name}", options["default"]


def _numbers(node_id: str) -> list[int]:
    """The numbers in a node's id: those of the subgraphs that it is in, then its own."""
    return [int(number) for number in node_id.split(":")]
