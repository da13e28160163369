"""Feeds broken, hostile and odd input to the `videoldm` command and says what it cannot bear.

    python -m tests.fuzz --seconds 60                 from a clone, with the extra "dev"
    python -m tests.fuzz --seconds 60 --kind media    one kind of input alone
    python -m tests.fuzz --seed 3 --kind media --case 17 --keep /tmp/case   one case again

Every case is a folder of files and one or two command lines, made by a kind of input (`workflows`,
`media`, `weights`, `prompts`, `cli`) from a random generator that seed, kind and number of the case
decide alone. It runs in a forked process of its own, with a toy family of random weights as the
embedded models. What the command promises is then held against what it did:

    one sentence for each error, with an exit code, and nothing that only a Python programmer reads;
    an end within `running.SECONDS`, within `running.MEMORY` above what the process began with;
    no death by a signal; no file outside the output folder; no code of the input is run.

`cases` makes a case, `running` runs it, `judging` finds what is wrong with it. The other modules
make the input; `values` has what they share. The process ends with 1 if anything was found. It
needs fork, so Linux or macOS.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # The toy models of the tests lie there.
