"""`python -m fedhq.studies`: the command `fedhq`."""

import sys

from .entry import main

if __name__ == "__main__":
    sys.exit(main())
