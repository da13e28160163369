"""Run by ComfyUI's own Python: imports ComfyUI and this pack, then runs each program of this folder
in a forked process.

python inside_server.py COMFYUI     (a line of JSON with script, arguments, out and err for each
program; answers with its exit code)
"""

import json
import os
import runpy
import sys
import traceback

import inside


def run(told: dict) -> None:
    """Run a program in this process, and exit with its code."""
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(told[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.argv = [told["script"], *told["arguments"]]
    code = 0
    try:
        runpy.run_path(told["script"], run_name="__main__")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(comfyui: str) -> None:
    # Only answers may go to stdout, which the caller reads.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    inside.begin(comfyui)
    inside.import_more()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
