"""Weights that do not fit are refused with one message that names all that is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from decision_policies.convert import dm_from_published, dmm_from_published, dt_from_published
from decision_policies.errors import ConversionError
from tests.convert.cases import CASES, damaged, make, metamamba, task

IGNORED = ("wte", ".attn.bias", "masked_bias", ".attn.mask", "predict_state", "predict_return")


def used(case: str) -> list[str]:
    """Names of the tensors that the actions depend on."""
    model, weights, _ = make(case)
    left_out = (*IGNORED, *(("embed_action",) if model.kinds == 2 else ()))
    return [name for name in weights if not any(part in name for part in left_out)]


@pytest.mark.parametrize("how", ["missing", "renamed", "wider", "not finite"])
@pytest.mark.parametrize("case", CASES)
def test_every_damaged_tensor_is_named(case: str, how: str) -> None:
    _, weights, convert = make(case)
    for name in used(case):
        with pytest.raises(ConversionError) as caught:
            convert(damaged(weights, name, how), task())
        assert name in str(caught.value), f"{name}: {caught.value}"


def test_all_differences_are_in_one_message() -> None:
    _, weights, convert = make("dt")
    broken = damaged(damaged(weights, "embed_ln.bias", "missing"), "embed_return.bias", "wider")
    broken["extra"] = torch.zeros(2)
    with pytest.raises(ConversionError) as caught:
        convert(broken, task())
    assert str(caught.value).split("\n") == [
        "the weights do not fit the layout of the Decision Transformer (kzl/decision-transformer, "
        "gym):",
        "  missing: embed_ln.bias",
        "  unexpected: extra",
        "  embed_return.bias is [17], expected [16]",
    ]


def test_long_lists_are_cut() -> None:
    _, weights, convert = make("dm")
    renamed = {name.replace("mlp_channels", "mlp"): tensor for name, tensor in weights.items()}
    with pytest.raises(ConversionError, match=r"missing: .*and 4 more\n  unexpected: .*and 4 more"):
        convert(renamed, task())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("other", ["dt", "dm", "dc", "dmm"])
def test_other_layouts_are_refused(case: str, other: str) -> None:
    if case.split("-")[0] == other:
        other = "dmm" if other == "dt" else "dt"
    with pytest.raises(ConversionError, match="layout of"):
        make(case)[2](make(other)[1], task())


@pytest.mark.parametrize("case", CASES)
def test_nothing_and_something_else_are_refused(case: str) -> None:
    _, weights, convert = make(case)
    with pytest.raises(ConversionError, match="there are no names at all"):
        convert({}, task())
    with pytest.raises(ConversionError, match="got str: pass what the trained module's state_dict"):
        convert("model.pt", task())
    with pytest.raises(ConversionError, match="'epoch' is a int: the weights may be what is under"):
        convert({"epoch": 3, "state_dict": weights}, task())


@pytest.mark.parametrize("case", CASES)
def test_atari_models_of_the_same_authors_are_refused(case: str) -> None:
    atari = {"global_pos_emb": torch.zeros(1, 9, 16), "pos_emb": torch.zeros(1, 16, 16)}
    with pytest.raises(ConversionError, match="one timestep embedding for all tokens of a window"):
        make(case)[2](atari, task())


@pytest.mark.parametrize("case", CASES)
def test_other_spaces_are_refused(case: str) -> None:
    _, weights, convert = make(case)
    refusals: list[tuple[str, dict[str, Any]]] = [
        ("observations of 3 numbers", {"observation_space": spaces.Box(-1, 1, (4,))}),
        ("observations of a Box", {"observation_space": spaces.Discrete(3)}),
        (
            "observations of a Box",
            {"observation_space": spaces.Box(0, 255, (4, 84, 84), np.uint8)},
        ),
        ("actions of 2 numbers", {"action_space": spaces.Box(-1, 1, (3,))}),
        ("continuous actions", {"action_space": spaces.Discrete(2)}),
        ("by tanh, so it needs a bounded Box", {"action_space": spaces.Box(-np.inf, np.inf, (2,))}),
        ("from -1 to 1", {"action_space": spaces.Box(-2, 2, (2,))}),
        ("observation_mean must be", {"observation_mean": np.zeros(4)}),
        ("observation_std must be finite", {"observation_std": np.array([1, np.nan, 1])}),
        ("observation_std must be positive", {"observation_std": np.array([1, 0, 1])}),
    ]
    for message, changes in refusals:
        with pytest.raises(ConversionError, match=message):
            convert(weights, task(**changes))


def test_head_without_tanh_needs_an_unbounded_space() -> None:
    _, weights, _ = make("dt")
    with pytest.raises(ConversionError, match="end without a tanh, so they need an unbounded"):
        dt_from_published(weights, task(), action_tanh=False)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    _, weights, _ = make("dt")
    with pytest.raises(ValueError, match="3 heads for a width of 16"):
        dt_from_published(weights, task(), n_heads=3)


def test_integers_are_no_weights() -> None:
    _, weights, convert = make("dm")
    with pytest.raises(ConversionError, match=r"embed_ln\.bias is int64, expected floating point"):
        convert({**weights, "embed_ln.bias": weights["embed_ln.bias"].long()}, task())


def test_norms_without_bias_are_refused() -> None:
    _, weights, _ = make("dm")
    minimal = {name: w for name, w in weights.items() if not name.endswith("norm_mamba.bias")}
    with pytest.raises(ConversionError, match=r"missing: transformer\.h\.0\.norm_mamba\.bias"):
        dm_from_published(minimal, task())


def test_dense_mixer_is_asked_for_where_the_state_dict_lacks_it() -> None:
    hidden = metamamba(hidden=True).state_dict()
    with pytest.raises(ConversionError, match="if the live module is still at hand"):
        dmm_from_published(hidden, task())
    with pytest.raises(ConversionError, match=r"dense_mixer is \[16, 97\], expected \[16, 96\]"):
        dmm_from_published(hidden, task(), dense_mixer=torch.zeros(16, 97))
    _, whole, _ = make("dmm")
    with pytest.raises(ConversionError, match="leave dense_mixer out"):
        dmm_from_published(whole, task(), dense_mixer=torch.zeros(16, 96))


def test_a_gap_between_the_blocks_is_refused() -> None:
    _, weights, convert = make("dc")
    moved = {name.replace("transformer.h.2.", "transformer.h.7."): w for name, w in weights.items()}
    with pytest.raises(ConversionError, match=r"missing: transformer.h.2.*\n.*transformer.h.7"):
        convert(moved, task())
