"""Feeds broken, hostile and odd input to the `videoldm` command and reports what it fails on.

    python -m tests.fuzz --seconds 60                 from a clone, with the extra "dev"
    python -m tests.fuzz --seconds 60 --kind media    one kind of input alone
    python -m tests.fuzz --seed 3 --kind media --case 17 --keep /tmp/case   one case again

Every case is a folder of files and one or two command lines of one kind of input (`workflows`,
`media`, `weights`, `prompts`, `cli`). Its random generator depends only on the seed, the kind and
the number of the case. It runs in a forked process, with a toy family of random weights as the
embedded models. The command has to keep these promises:

    one sentence for each error, with an exit code and without Python jargon;
    an end within `running.SECONDS`, within `running.MEMORY` above the memory at the start;
    no death by a signal, no file outside the output folder, and no code from the input is run.

`cases` makes a case, `running` runs it, and `judging` finds broken promises. The other modules make
the input, with the help of `values`. The exit code is 1 if anything was found. It needs fork, so
Linux or macOS.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # for the toy models of the tests
