"""The example of weights from elsewhere does what it says."""

from __future__ import annotations

import re
from pathlib import Path

from tests.test_examples import run


def test_both_models_choose_the_same_actions(tmp_path: Path) -> None:
    printed = run("08_weights_from_elsewhere.py", tmp_path)
    lowest, highest = re.findall(r"from (-?\d\.\d+) to (-?\d\.\d+)", printed)[0]
    assert -1 <= float(lowest) < float(highest) <= 1
    assert float(re.findall(r"from the original: (.+)", printed)[0]) < 1e-5
