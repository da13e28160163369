"""Runs the workflows of networks made for video through ComfyUI's own executor, with toys in place
of their files.

python inside_video_workflows.py COMFYUI BASE NAME ...      (answers with JSON: by workflow, its
errors and the files that it wrote)
"""

import asyncio
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import inside

BASE = Path(sys.argv[2])
NAMES = sys.argv[3:]
for folder in ("input", "output", "temp", "models/videoldm"):
    (BASE / folder).mkdir(parents=True, exist_ok=True)
host = inside.begin(sys.argv[1], "--base-directory", str(BASE))

import execution  # noqa: E402
import server  # noqa: E402
from videoldm.core import families  # noqa: E402
from videoldm.nodes import NODES  # noqa: E402

import nodes  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))

import video_network_toys as toys  # noqa: E402

SERVER = SimpleNamespace(
    client_id=None, last_node_id=None, last_prompt_id=None, send_sync=lambda *sent: None
)


async def run(prompt: dict) -> list[str]:
    """The errors of a prompt, or of its run."""
    valid, error, outputs, faults = await execution.validate_prompt("toy", prompt, None)
    if not valid:
        return [json.dumps(one, default=str) for one in (error, faults)]
    executor = execution.PromptExecutor(
        SERVER, execution.CacheType.CLASSIC, {"ram": 0, "ram_inactive": 0, "lru": 0}
    )
    await executor.execute_async(prompt, "toy", {}, outputs)
    return [more["exception_message"] for event, more in executor.status_messages
            if event == "execution_error"]  # fmt: skip


def ran(name: str) -> dict:
    found = name, toys.parts(name)
    families.load_video_parts = lambda path, hints, **where: found
    (BASE / "models" / "videoldm" / toys.model_file(name)).write_bytes(b"{}")
    before = set(BASE.joinpath("output").rglob("*.*"))
    faults = asyncio.run(run(toys.small_prompt(name)))
    new = sorted(set(BASE.joinpath("output").rglob("*.*")) - before)
    return {"faults": faults, "files": [str(path) for path in new]}


server.PromptServer.instance = SERVER
for one in NODES:
    nodes.NODE_CLASS_MAPPINGS[one.define_schema().node_id] = one
print(json.dumps({name: ran(name) for name in NAMES}))
