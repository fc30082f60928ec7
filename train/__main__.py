"""`python -m kinetics_sounds.train`: the same as `ks-train`."""

import sys

from .pretrain import main

sys.exit(main())
