"""Exit codes and one-sentence messages for exceptions."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator

from ...core.graph import Interrupted, NodeError, WorkflowError
from ...core.graph.messages import first_line

OK, FAILED, INVALID, MISSING = 0, 1, 2, 3
EXIT_CODES = {
    OK: "done",
    FAILED: "a node failed",
    INVALID: "the arguments or the workflow are not valid; nothing was run",
    MISSING: "a file or weights are missing",
    130: "interrupted by Ctrl-C, finished parts are kept (143: by SIGTERM)",
}
# How messages about missing files begin.
MISSING_SENTENCES = ("there is no file", "no weight file", "no recipe")


class CommandError(Exception):
    """An error that the user can correct; the message is one sentence."""

    def __init__(self, message: str, code: int = INVALID):
        super().__init__(message)
        self.code = code


EXPECTED = (CommandError, NodeError, ValueError, OSError, Interrupted, KeyboardInterrupt)


def exit_code(error: BaseException) -> int:
    """Return the exit code that `EXIT_CODES` documents for an error."""
    if isinstance(error, CommandError):
        return error.code
    if any(map(_is_missing, _chain(error))):
        return MISSING
    return INVALID if isinstance(error, WorkflowError) else FAILED


def sentence(error: BaseException) -> str:
    """The message of an error, preceded by its type if it is unexpected."""
    expected = isinstance(error, EXPECTED)
    text = "interrupted" if isinstance(error, KeyboardInterrupt) else first_line(error)
    return text if expected else f"unexpected {type(error).__name__}: {text}"


def show_error(error: BaseException) -> None:
    """Print the message to stderr, after the traceback if VIDEOLDM_DEBUG is set."""
    if os.environ.get("VIDEOLDM_DEBUG", "0") not in ("", "0"):
        traceback.print_exception(error)
    print(f"videoldm: {sentence(error)}", file=sys.stderr)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_missing(error: BaseException) -> bool:
    return isinstance(error, FileNotFoundError) or str(error).startswith(MISSING_SENTENCES)
