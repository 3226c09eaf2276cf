"""`python -m featureplane`: the command line."""

import sys

from featureplane.cli import main

sys.exit(main())
