"""`python -m decision_policies`: the command `decision-policies` of this Python."""

import sys

from decision_policies.command import main

sys.exit(main())
