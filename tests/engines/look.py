"""Print a tree as `operations.look_at` sees it, for a process that cannot mount what it compares.

    python -m tests.engines.look DIRECTORY SINCE

writes a pickle to standard output; SINCE is `operations.SINCE_NS`.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from tests.engines.operations import look_at

if __name__ == "__main__":
    sys.stdout.buffer.write(pickle.dumps(look_at(Path(sys.argv[1]), int(sys.argv[2]))))
