"""The model card: what the Hub, its client and rl_zoo3 read of it; its code runs as it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from huggingface_hub import HfApi, ModelCard, hf_hub_download

import decision_policies
from decision_policies import BC, DeMa, Trajectories, evaluate_policy
from decision_policies.checkpoint import open_checkpoint
from decision_policies.data.trajectories import Source
from decision_policies.evaluation import Evaluation
from decision_policies.hub import Stage, model_card, push_algorithm, results_of
from tests.fixtures import tiny_algorithm, tiny_trajectories, trained
from tests.hub.server import Hub

REPO = "alice/dema-cartpole"
WHEN = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def balancer() -> DeMa:
    """Learn a little from the CartPole set that ships with the package."""
    algorithm = tiny_algorithm(return_scale=100.0, target_return=300.0)
    return algorithm.learn("cartpole/mixed-v0", 5)


@pytest.fixture(scope="module")
def played(balancer: DeMa) -> Evaluation:
    return evaluate_policy(balancer, "CartPole-v1", 4, seed=900_000)


def episodes(*returns: float) -> Evaluation:
    n = len(returns)
    return Evaluation(np.array(returns), np.full(n, 7), 100 + np.arange(n))


def card_of(algorithm: Any, folder: Path, repo_id: str = REPO, **facts: Any) -> str:
    algorithm.save(folder)
    return model_card(open_checkpoint(folder), repo_id, type(algorithm), **facts)


def front_matter(card: str) -> dict[str, Any]:
    match = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    assert match is not None
    data: dict[str, Any] = yaml.safe_load(match[1])
    return data


def blocks(card: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", card, re.DOTALL)


def readme(hub: Hub, repo_id: str, folder: Path) -> str:
    path = hf_hub_download(
        repo_id, "README.md", endpoint=hub.url, token=False, local_dir=folder / "readme"
    )
    return Path(path).read_text()


def read_as_rl_zoo3(card: Mapping[str, Any]) -> tuple[str, str]:
    """Find algorithm and environment where rl_zoo3's reader looks for them."""
    index: Mapping[str, Any] = card["model-index"][0]
    return index["name"].lower(), index["results"][0]["dataset"]["name"]


def test_pushed_card_is_found_and_read_by_the_client_and_as_rl_zoo3_does(
    plain_hub: Hub, balancer: DeMa, played: Evaluation, tmp_path: Path
) -> None:
    made = balancer.push_to_hub(REPO, evaluation=played, token="hf_write", endpoint=plain_hub.url)
    api = HfApi(endpoint=plain_hub.url, token="hf_write")
    models = list(api.list_models(filter=["reinforcement-learning", "dema"], full=True))
    assert [model.id for model in models] == [REPO]
    found = api.model_info(REPO).card_data
    assert found is not None and read_as_rl_zoo3(found.to_dict()) == ("dema", "CartPole-v1")
    path = api.hf_hub_download(REPO, "README.md", revision=made.commit, local_dir=tmp_path)
    assert read_as_rl_zoo3(front_matter(Path(path).read_text())) == ("dema", "CartPole-v1")
    card = ModelCard.load(path)
    assert card.data.library_name == "decision-policies"
    assert card.data.pipeline_tag == "reinforcement-learning"
    assert card.data.datasets == ["cartpole/mixed-v0"]
    assert card.data.tags == [
        *("CartPole-v1", "reinforcement-learning", "offline-reinforcement-learning"),
        *("dema", "decision-policies", "minari"),
    ]
    (reward, score) = card.data.eval_results
    assert (reward.metric_type, reward.dataset_name) == ("mean_reward", "CartPole-v1")
    mean, std = played.returns.mean(), played.returns.std()
    assert reward.metric_value == f"{mean:.2f} +/- {std:.2f}"
    assert score.metric_type == "normalized_score" and isinstance(score.metric_value, float)


def test_usage_code_of_the_pushed_card_runs_as_it_stands(
    plain_hub: Hub,
    balancer: DeMa,
    played: Evaluation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DECISION_POLICIES_HUB", plain_hub.url)
    balancer.push_to_hub(REPO, evaluation=played, token="hf_write")
    code = blocks(readme(plain_hub, REPO, tmp_path))[0]
    assert f'DeMa.load("{REPO}")' in code
    exec(code, {})
    wrapped = balancer.wrap(gym.make("CartPole-v1"))
    balancer.reset()
    observation, _ = wrapped.reset(seed=0)
    total, over = 0.0, False
    while not over:
        action, _ = balancer.predict(observation)
        observation, reward, terminated, truncated, _ = wrapped.step(action)
        total, over = total + float(reward), terminated or truncated
    assert capsys.readouterr().out == f"return {total:.1f}\n"


def test_policy_without_a_known_environment_has_usage_code_that_runs(
    plain_hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DECISION_POLICIES_HUB", plain_hub.url)
    algorithm = trained()
    algorithm.push_to_hub("alice/tiny", token="hf_write")
    names: dict[str, Any] = {}
    for code in blocks(readme(plain_hub, "alice/tiny", tmp_path)):
        exec(code, names)
    assert names["action"].shape == (2,)


def test_training_code_of_the_card_runs_and_trains_the_same_policy(
    balancer: DeMa, tmp_path: Path
) -> None:
    names: dict[str, Any] = {"DeMa": DeMa}
    code = blocks(card_of(balancer, tmp_path / "saved"))[1]
    exec(code, names)
    names["algorithm"].save(tmp_path / "again", training_state=False)
    one, other = (tmp_path / name / "model.safetensors" for name in ("saved", "again"))
    assert one.read_bytes() == other.read_bytes()


def test_results_have_stable_baselines_names_and_every_episode() -> None:
    results = results_of(
        episodes(10.0, 20.0),
        "CartPole-v1",
        target_return=500.0,
        reference_scores=(5.0, 25.0),
        when=WHEN,
    )
    assert results == {
        "mean_reward": 15.0,
        "std_reward": 5.0,
        "is_deterministic": True,
        "n_eval_episodes": 2,
        "eval_datetime": "2026-11-21T12:30:00+00:00",
        "environment": "CartPole-v1",
        "target_return": 500.0,
        "reference_scores": [5.0, 25.0],
        "normalized_score": 50.0,
        "returns": [10.0, 20.0],
        "lengths": [7, 7],
        "seeds": [100, 101],
    }
    assert json.loads(json.dumps(results)) == results


def test_card_tells_episodes_seeds_and_what_was_asked_for(balancer: DeMa, tmp_path: Path) -> None:
    results = results_of(
        episodes(10.0, 20.0, 60.0), "CartPole-v1", target_return=250.0, deterministic=False
    )
    stages = [Stage("last", 5, 30.0, 2.0, 20), Stage("best", 3, 35.5, 1.0, 20)]
    card = card_of(balancer, tmp_path / "saved", results=results, stages=stages, video=True)
    for line in (
        "| CartPole-v1 | |",
        "| mean return | 30.00 +/- 21.60 (standard deviation over episodes) |",
        "| lowest, median, highest | 10.00, 20.00, 60.00 |",
        "| episodes | 3, with the seeds 100 to 102 |",
        "| actions | sampled |",
        "| return asked for | 250 |",
        "The last policy of the training, after 5 updates, earned 30.00 +/- 2.00 in 20 episodes.",
        "The best policy of the training, after 3 updates, earned 35.50 +/- 1.00 in 20 episodes.",
        "The weights here are those after 5 updates.",
        "`replay.mp4` shows it.",
    ):
        assert f"\n{line}\n" in card
    assert "policy.reset(target_return=250)  # as in the evaluation below\n" in card


def test_card_says_what_it_was_trained_on_and_how(balancer: DeMa, tmp_path: Path) -> None:
    command = "python -m zoo train --algo dema --dataset cartpole/mixed-v0"
    card = card_of(balancer, tmp_path / "saved", command=command)
    digest = balancer.source.digest
    assert (
        f"Learnt from `cartpole/mixed-v0` (SHA-256 `{digest}`) in 5 updates, with the seed 0."
        in card
    )
    assert f"The command was\n\n```\n{command}\n```" in card
    (text,) = blocks(card, "json")
    values = json.loads(text)
    assert values["d_model"] == 16 and values["return_scale"] == 100.0
    assert not {"device", "verbose", "tensorboard_log"} & set(values)
    assert "DeMa" in card.splitlines()[card.splitlines().index("---", 1) + 2]
    assert DeMa.__doc__ is not None and DeMa.__doc__.splitlines()[0] in card
    weights = open_checkpoint(tmp_path / "saved").files["model.safetensors"][1]
    assert f"```\n{weights}\n```" in card and "no pickle" in card


def test_card_without_an_evaluation_says_so_and_claims_no_metric(tmp_path: Path) -> None:
    card = card_of(trained(), tmp_path / "saved")
    assert "Nothing was measured when this card was written." in card
    assert "Learnt from a set without a published id" in card
    front = front_matter(card)
    assert "model-index" not in front and "datasets" not in front
    ModelCard(card)


def test_names_from_a_checkpoint_cannot_break_out_of_the_card(tmp_path: Path) -> None:
    algorithm = trained()
    evil = "x`|\n---\ntags: [evil]\n---\n```python\nboom\n```"
    algorithm.source = Source(dataset=evil, environment=f'{evil}"); boom(); ("')
    card = card_of(algorithm, tmp_path / "saved")
    assert front_matter(card)["library_name"] == "decision-policies"
    assert "evil" not in front_matter(card)["tags"] and "datasets" not in front_matter(card)
    for code in blocks(card):
        compile(code, "card", "exec")
        assert not re.search(r"^\s*boom", code, re.MULTILINE)
    assert not re.search(r"^(---|tags: \[evil\]|boom)$", card[card.index("# DeMa") :], re.MULTILINE)


def test_policy_that_asks_for_no_return_has_none_in_its_results(
    plain_hub: Hub, tmp_path: Path
) -> None:
    algorithm = BC(d_model=16, n_layers=1, context_length=4, batch_size=8, seed=0)
    algorithm.learn(tiny_trajectories(False), 2)
    push_algorithm(
        algorithm,
        "alice/bc",
        evaluation=episodes(1.0, 2.0),
        environment="Tiny-v0",
        token="hf_write",
        endpoint=plain_hub.url,
    )
    entry = plain_hub.repositories["alice/bc"].files("main")
    assert json.loads(plain_hub.blobs[entry["results.json"].key])["target_return"] is None
    card = plain_hub.blobs[entry["README.md"].key].decode()
    assert "| return asked for | none |" in card


def test_evaluation_in_an_unnamed_environment_asks_for_its_name(plain_hub: Hub) -> None:
    with pytest.raises(ValueError, match=r"say which one was played: environment='...-v0'"):
        trained().push_to_hub(
            "alice/tiny", evaluation=episodes(1.0), token="hf_write", endpoint=plain_hub.url
        )
    assert not plain_hub.log


def test_untrained_algorithm_is_not_pushed(plain_hub: Hub) -> None:
    with pytest.raises(RuntimeError, match="no policy yet"):
        tiny_algorithm().push_to_hub("alice/tiny", endpoint=plain_hub.url)


def test_pushed_algorithm_is_loaded_elsewhere_and_acts_bit_equal(
    hub: Hub, balancer: DeMa, played: Evaluation, tmp_path: Path
) -> None:
    made = balancer.push_to_hub(REPO, evaluation=played, token="hf_write", endpoint=hub.url)
    again = balancer.push_to_hub(REPO, evaluation=played, token="hf_write", endpoint=hub.url)
    assert (again.commit, again.changed) == (made.commit, False)
    loaded = decision_policies.load(
        REPO, revision=made.commit, endpoint=hub.url, cache_dir=tmp_path, device="cpu"
    )
    there = evaluate_policy(loaded, "CartPole-v1", 4, seed=900_000)
    np.testing.assert_array_equal(there.returns, played.returns)


def test_system_of_a_third_party_is_imported_from_its_own_module(tmp_path: Path) -> None:
    class Mine(DeMa):
        """My own system."""

    algorithm = Mine(d_model=16, n_layers=1, context_length=4, batch_size=8, seed=0)
    algorithm.learn(tiny_trajectories(False), 1)
    card = card_of(algorithm, tmp_path / "saved")
    assert "from tests.hub.test_card import Mine\n" in card and "My own system." in card


def test_data_of_the_users_own_stay_nameless(tmp_path: Path) -> None:
    data: Trajectories = tiny_trajectories(False)
    card = card_of(tiny_algorithm().learn(data, 1), tmp_path / "saved")
    assert "algorithm.learn(" not in card and "minari" not in front_matter(card)["tags"]
