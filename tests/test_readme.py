"""The README's Python blocks run, one after the other, as a reader would run them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_readmes_snippets_run(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    code = "\n".join(blocks)
    assert "total_timesteps=1000" in code
    short = code.replace("total_timesteps=1000", "total_timesteps=10")  # the only change: patience
    command = [sys.executable, "-W", "error", "-c", short]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.search(r"[\d.]+ \+/- [\d.]+ over 20 episodes", done.stdout)
    assert (tmp_path / "dema-cartpole" / "model.safetensors").is_file()


def test_every_file_that_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    for link in links:
        assert (ROOT / link).exists(), f"README links to {link}, which is not there"
