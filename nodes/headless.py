"""The `videoldm` command: run workflows without ComfyUI, train, convert and evaluate models.

This module parses the arguments and turns exceptions into an exit code and one sentence. The
subcommands are in `command/` and are imported on use.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from .. import __version__
from ..core.graph.messages import shown
from .command.errors import EXIT_CODES, exit_code, show_error
from .command.signals import StopSignals
from .command.terminal import print_anything

DTYPES = ("auto", "fp32", "bf16", "fp16")
LONGEST_MESSAGE = 300


class _Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line, without repeating the usage."""

    def error(self, message: str) -> None:
        message = shown(message, LONGEST_MESSAGE)
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help lists the arguments)\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all subcommands."""
    codes = "\n".join(f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items())
    layout = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = _Parser(
        prog="videoldm",
        description="Video from image diffusion models: run workflows, train, evaluate.",
        epilog=f"exit codes:\n{codes}\n\nVIDEOLDM_DEBUG=1 shows where an error comes from.",
        **layout,
    )
    parser.add_argument("--version", action="version", version=f"videoldm {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add, name, text in (
        (_run_arguments, "run", "run workflow files"),
        (_validate_arguments, "validate", "check workflow files without running them"),
        (_nodes_arguments, "nodes", "list the nodes, or the inputs of one"),
        (_plan_arguments, "plan", "draw the noise levels of a strategy's frames step by step"),
        (
            _models_arguments,
            "models",
            "list the pack's own models and those in the models folder",
        ),
        (
            _runs_arguments,
            "runs",
            "list or remove the finished chunks that are kept from long videos",
        ),
        (
            _convert_arguments,
            "convert",
            "convert published weights to self-describing safetensors",
        ),
        (_train_arguments, "train", "train one of the pack's own models from its recipe"),
        (_evaluate_arguments, "evaluate", "measure the pack's own models"),
    ):
        add(commands.add_parser(name, help=text, description=text, epilog=parser.epilog, **layout))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; exceptions are reported, not raised."""
    print_anything()
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as stop:  # Also raised by --help and --version.
        return int(stop.code or 0)
    # Without this, garbage collection at exit traverses all of torch: a second or more.
    atexit.register(gc.freeze)
    with StopSignals() as stop:
        try:
            module, function = args.handler
            return getattr(import_module(f".{module}", __package__), function)(args, stop)
        except KeyboardInterrupt:
            print("videoldm: interrupted", file=sys.stderr)
            return stop.code
        except BrokenPipeError:  # The reader of our output closed it, as `| head` does.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except Exception as error:
            show_error(error)
            return exit_code(error)


# --------------------------------------------------------------------------------------------------
# Arguments.


def _folder_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", metavar="DIR", action="append", default=[],
                        help="models folder, laid out like ComfyUI's (default: models; may be "
                        "given several times)")  # fmt: skip
    parser.add_argument(
        "--input", metavar="DIR", default="input", help="folder of files to read (default: input)"
    )


def _file_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+",
                        help="JSON in UI or API format, or a PNG, WebP, JPEG, MP4, MOV or WebM "
                        "that carries a workflow")  # fmt: skip


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    _file_argument(parser)
    add = parser.add_argument
    add("--set", metavar="NODE.INPUT=VALUE", action="append", default=[], dest="settings",
        help="change an input; NODE is an id, a title or a class name; an image or video file "
        "may lie anywhere")  # fmt: skip
    add("--each", metavar="NODE.INPUT=VALUE", action="append", default=[],
        help="like --set, but an input that is given several times makes one run with each value; "
        "or a CSV file whose columns are NODE.INPUT: one run for each row")  # fmt: skip
    add("--seed", metavar="N", type=int, help="set every seed of the workflow")
    add("--output", metavar="DIR", default="output",
        help="folder of the results (default: output)")  # fmt: skip
    _folder_arguments(parser)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    add("--dtype", default="auto", choices=DTYPES, help="precision of the weights (default: fp32 "
        "on cpu, else fp16)")  # fmt: skip
    add("--no-metadata", action="store_true", help="do not write the workflow into the results")
    add("--no-memory-check", action="store_true",
        help="start even if it will not fit into the free memory")  # fmt: skip
    add("--ray", metavar="ADDRESS", nargs="?", const="auto",
        help="make chunks on the workers of a Ray cluster; auto joins the one of this machine, or "
        "starts one for this run (needs videoldm[ray])")  # fmt: skip
    add("--workers", metavar="N", type=_count, help="number of workers for --ray (default: one for "
        "each GPU; on CPUs, each takes as many CPUs as it has threads)")  # fmt: skip
    add("--contact-sheet", action="store_true", help="write a PNG of frames beside each video")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--quiet", action="store_true", help="print only the saved files")
    shown.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object per event, the last one with the result",
    )
    parser.set_defaults(handler=("command.run", "run"))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{shown(text)} must be a whole number of at least 1")
    return int(text)


def _validate_arguments(parser: argparse.ArgumentParser) -> None:
    _file_argument(parser)
    _folder_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per file")
    parser.set_defaults(handler=("command.listing", "validate_files"))


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    from .choices import SCHEDULES, STRATEGIES, WINDOW_SCHEDULES

    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("file", metavar="FILE", nargs="?", help="a workflow with a Video Sampler")
    what.add_argument("--strategy", choices=STRATEGIES, help="strategy of the Video Sampler")
    add = parser.add_argument
    for name, usual in (("frames", 64), ("steps", 25), ("window", 16), ("overlap", 4),
                        ("context-frames", 1), ("passes", 1)):  # fmt: skip
        add(f"--{name}", metavar="N", type=int, default=usual, help=f"(default: {usual})")
    add("--schedule", choices=SCHEDULES, default="uniform", help="schedule of the noise levels")
    add(
        "--window-schedule",
        choices=WINDOW_SCHEDULES,
        default="static",
        help="schedule of the windows",
    )
    add("--no-lookahead", action="store_false", dest="lookahead", help="rolling without lookahead")
    add("--output", metavar="FILE", help="also draw the plan into this PNG")
    add("--json", action="store_true", help="print the sigmas, a JSON object for each plan")
    parser.set_defaults(handler=("command.plan", "draw_plans"))


def _nodes_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="id or display name of one node")
    _folder_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=("command.listing", "list_nodes"))


def _models_arguments(parser: argparse.ArgumentParser) -> None:
    _folder_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=("command.models", "list_models"))


def _runs_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--output", metavar="DIR", default="output",
        help="folder of the results, in which chunks are kept (default: output)")  # fmt: skip
    add("--remove", metavar="RUN", nargs="+", default=[],
        help="remove the runs whose names begin with RUN")  # fmt: skip
    add(
        "--older",
        metavar="DAYS",
        type=float,
        help="remove runs that were not used for this many days",
    )
    add("--keep", metavar="GB", type=float,
        help="remove the least recently used until this many GB are left")  # fmt: skip
    add("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=("command.runs", "list_runs"))


def _convert_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("files", metavar="FILE", nargs="+", help=".pt, .ckpt or .safetensors of a family that the "
        "README lists, or of this project")  # fmt: skip
    add("--output", metavar="DIR", help="folder of the results (default: beside each file)")
    add("--dtype", default="keep", choices=("keep", "fp32", "fp16", "bf16"),
        help="precision of the numbers (default: keep)")  # fmt: skip
    add("--force", action="store_true", help="replace results that already exist")
    parser.set_defaults(handler=("command.convert", "convert_files"))


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("recipe", metavar="RECIPE", help="name of a recipe of this project, or a TOML file; or "
        '"family": all parts of the pack\'s own models, within --minutes')  # fmt: skip
    add("--output", metavar="DIR", default="training",
        help="folder of states, curves and results; a run that was stopped resumes from it "
        "(default: training; of family: training/family)")  # fmt: skip
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    add("--threads", metavar="N", type=int, default=2, help="CPU threads (default: 2)")
    add(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change the recipe, e.g. --set start_from.image_model=FILE --set data.videos=FOLDER",
    )
    add("--install", action="store_true", help="replace the pack's own model with the result")
    family = parser.add_argument_group("family").add_argument
    family("--minutes", metavar="M", type=float, default=9.0, help="minutes of wall-clock time on "
           "a GPU, of processor time per thread on a CPU (default: 9)")  # fmt: skip
    family("--resume", action="store_true", help="continue the run in --output; a finished one is "
           "followed by another")  # fmt: skip
    family("--scale", metavar="S", type=float, default=1.0,
           help="factor for the networks' parameters and the numbers of clips "
           "(default: 1)")  # fmt: skip
    family("--size", metavar="PIXELS", type=int, default=64, choices=(64, 128),
           help="size of base frames (default: 64)")  # fmt: skip
    family("--from", dest="start", metavar="DIR", help="folder of weights to start from")
    family("--only", metavar="PART", nargs="+", default=[], help="names of the parts to train")
    family("--workers", metavar="N", type=int, help="processes that render (default: all cores)")
    parser.set_defaults(handler=("command.training", "train_recipe"))


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    from ..core.evaluation import PROGRAMS

    parser.add_argument(
        "what", choices=tuple(PROGRAMS),
        help="; ".join(f"{name}: {what}" for name, what in PROGRAMS.items()),
    )  # fmt: skip
    parser.add_argument("--only", metavar="NAME", nargs="+", help="measure only these")
    parser.add_argument(
        "--output",
        metavar="DIR",
        default="samples",
        help="folder of the contact sheets or of a program's results (default: samples)",
    )
    parser.add_argument("--frames", metavar="N", type=int, default=10_000,
                        help="length of the videos of drift (default: 10000)")  # fmt: skip
    parser.add_argument("--weights", metavar="DIR", help="another folder of the pack's own models, "
                        "such as training/family/weights")  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:N (default: auto)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=("command.training", "evaluate_models"))


if __name__ == "__main__":
    sys.exit(main())
