"""The pages of docs/ do what they say: their commands and their Python run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "in_context.md").read_text()


def snippets(page: str) -> str:
    """The Python blocks of a page, one after the other."""
    return "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))


def run(command: list[str], folder: Path) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "error",
        "MINARI_DATASETS_PATH": str(folder / "minari"),
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def command_of(verb: str) -> list[str]:
    """A zoo command of the page, as words."""
    text = PAGE.replace("\\\n", " ")
    found = re.findall(rf"^python (-m zoo {verb} .*)$", text, re.MULTILINE)
    assert len(found) == 1
    return [sys.executable, *found[0].split()]


def test_the_page_on_in_context_learning_runs(tmp_path: Path) -> None:
    make = command_of("histories")
    make[make.index("--repeats") + 1] = "1"  # patience is spared here,
    assert "64 histories" in run(make, tmp_path)
    code = snippets(PAGE)
    assert "histories.train, 600" in code
    short = code.replace("histories.train, 600", "histories.train, 5")  # and here
    assert "(16 tasks x 20 episodes)" in run([sys.executable, "-c", short], tmp_path)
    printed = run([*command_of("in-context"), "--episodes", "2"], tmp_path)
    assert "(16 tasks x 2 episodes)" in printed


def test_the_page_on_environments_runs(tmp_path: Path) -> None:
    code = snippets((ROOT / "docs" / "environments.md").read_text())
    assert code.count("policy.wrap(") == 4
    printed = run([sys.executable, "-c", code], tmp_path)
    assert re.fullmatch(r"(\d+ episodes\n){2}[\d.]+ \+/- [\d.]+\n", printed)


def test_the_page_on_returns_runs_and_says_what_the_data_hold(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "returns.md").read_text()
    code = snippets(page)
    assert '"cartpole/mixed-v0", 1000' in code
    short = code.replace('"cartpole/mixed-v0", 1000', '"cartpole/mixed-v0", 5')
    saving = "\nalgorithm.save('NAME')"
    printed = run([sys.executable, "-c", short + saving], tmp_path)
    said = re.findall(r"`(\d+ episodes: p0 .*?)`", page)
    assert len(said) == 1 and said[0] in printed.splitlines()
    assert printed.splitlines()[-1] == "[96.]"
    assert re.search(r"^best: \d+(\.\d+)? \(10 episodes of each\)$", printed, re.MULTILINE)
    assert (tmp_path / "targets.png").is_file()
    (sweep,) = re.findall(r"`python (-m zoo targets NAME .*?)`", page)
    assert "best: " in run([sys.executable, *sweep.split(), "--number", "2"], tmp_path)
    assert (tmp_path / "targets.json").is_file()
    (ask,) = re.findall(r"`python (-m zoo evaluate NAME .*?)`", page)
    rows = run([sys.executable, *ask.split(), "--episodes", "1"], tmp_path).splitlines()[-3:]
    assert [row.split()[0] for row in rows] == ["69", "295", "500"]


def test_the_page_for_users_of_stable_baselines3_runs(tmp_path: Path) -> None:
    code = snippets((ROOT / "docs" / "coming_from_sb3.md").read_text())
    assert code.count("model.learn(") == 3
    printed = run([sys.executable, "-c", code], tmp_path)
    assert re.search(r"^\d+ \+/- \d+\n\['policy'\]\n$", printed, re.MULTILINE), printed
    assert (tmp_path / "checkpoints" / "rl_model_100_steps.zip").is_file()


SPARED = {
    "algorithms": ("total_timesteps=500", "total_timesteps=2"),
    "coming_from_d3rlpy": ("total_timesteps=500", "total_timesteps=2"),
    "coming_from_huggingface": ("total_timesteps=200", "total_timesteps=1"),
    "data": ("", ""),
    "deployment": ("", ""),
    "hub": ('"CartPole-v1", 10', '"CartPole-v1", 2'),
    "quickstart": ("total_timesteps=1000", "total_timesteps=2"),
}
"""The pages that run in one process, each with what is shortened for the sake of patience."""

PRINTED = {
    "algorithms": r"(\w+ [\d.]+ \+/- [\d.]+ over 4 episodes\n){3}",
    "coming_from_d3rlpy": r"\w.*: 10 episodes, 300 steps\n(.*\n)+",
    "coming_from_huggingface": r"\[-\d+\.\d+\]\n",
    "data": r"101 13048 500\.0\n(.*\n)+\d+ whole episodes\n",
    "deployment": r"True \[[01]\] \d+\n",
    "hub": "",
    "quickstart": r"asked for 120, obtained 1[12]\d\n(.* over 10 episodes\n){3}",
}

D3RLPY = """
import sys
from types import SimpleNamespace as Some
import numpy as np
def MDPDataset(observations, actions, rewards, terminals):  # as the real one, 2.8, holds them
    cuts = np.flatnonzero(terminals)[:-1] + 1
    parts = (np.split(x, cuts) for x in (observations, actions, rewards[:, None]))
    names = ("observations", "actions", "rewards")
    return Some(episodes=[Some(**dict(zip(names, part))) for part in zip(*parts)])
sys.modules |= {"d3rlpy": Some(), "d3rlpy.dataset": Some(MDPDataset=MDPDataset)}
"""


def test_the_short_pages_run_and_the_file_they_deploy_acts_without_torch(tmp_path: Path) -> None:
    program = D3RLPY
    for name, (slow, quick) in SPARED.items():
        code = snippets((ROOT / "docs" / f"{name}.md").read_text())
        assert slow in code
        page = f"compile({code.replace(slow, quick)!r}, {name!r}, 'exec')"
        program += f"print('PAGE')\nexec({page}, {{}})\n"
    printed = run([sys.executable, "-c", program], tmp_path).split("PAGE\n")[1:]
    for (name, expected), text in zip(PRINTED.items(), printed, strict=True):
        assert re.fullmatch(expected, text), f"{name} prints {text}"

    page = (ROOT / "docs" / "deployment.md").read_text()
    (command,) = re.findall(r"`python (examples/10_deploy.py cartpole.onnx)`", page)
    alone = "import sys, runpy; sys.modules |= dict.fromkeys(('torch', 'decision_policies'))"
    act = f"{alone}; runpy.run_path({str(ROOT)!r} + '/' + sys.argv.pop(1))"
    acted = run([sys.executable, "-c", act, *command.split()], tmp_path)
    pairs = re.findall(r"asked for (\d+), obtained (\d+)", acted)
    assert [int(asked) for asked, _ in pairs] == [100, 200, 500]
    assert all(abs(int(asked) - int(obtained)) < 0.1 * int(asked) for asked, obtained in pairs)


PAGES = sorted((ROOT / "docs").rglob("*.md"))


def test_every_page_with_python_is_run() -> None:
    tests = Path(__file__).read_text()
    for page in PAGES:
        if "```python" in page.read_text():
            named = page.stem in SPARED or f'"docs" / "{page.name}"' in tests
            assert named, f"no test runs the Python of {page.name}"


def test_every_test_that_the_page_of_features_names_is_there() -> None:
    page = (ROOT / "docs" / "features.md").read_text()
    rows = re.findall(r"^\| (\d+) \|", page, re.MULTILINE)
    assert rows == [str(n) for n in range(1, 44)]
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", page)
    assert len(named) > 40
    for file, function in named:
        text = (ROOT / "tests" / file).read_text()
        assert not function or f"def {function}(" in text, f"no {function} in {file}"


def test_the_versions_of_others_tools_are_those_that_are_installed_for_the_tests() -> None:
    page = (ROOT / "docs" / "features.md").read_text()
    files = ("constraints.txt", "constraints-foreign.txt", "constraints-peers.txt")
    pinned = "\n".join((ROOT / file).read_text() for file in files).replace("_", "-").lower()
    named = re.findall(r"^\| ([\w-]+) \| (\d\S*) \|", page, re.MULTILINE)
    assert len(named) > 10
    for tool, version in named:
        pin = f"{tool.replace('_', '-')}=={version}"
        assert re.search(rf"^{re.escape(pin)}$", pinned, re.MULTILINE), f"{pin} is no longer so"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and Sphinx make them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\((?!https?://)([^)]+)\)", text):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.is_file(), f"{page.name} links to {link}, which is not there"
        assert not anchor or anchor in anchors(target), f"{link} of {page.name}: no such heading"
