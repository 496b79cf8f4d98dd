"""Decision Mamba in the layout of its author's code (continuous control)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from decision_policies.algorithms import DM
from decision_policies.convert.layout import Layout
from decision_policies.convert.mamba import declare_mamba, read_expand, read_mamba
from decision_policies.convert.task import Task, declare_ends, declare_timesteps, fill, read_sizes
from decision_policies.convert.transformer import declare_perceptron


def dm_from_published(
    weights: Mapping[str, Tensor], task: Task, *, remove_act_embs: bool = False
) -> DM:
    """Make a Decision Mamba of weights in the layout of its author's code.

    That is the model type "dmamba"; "dmamba-min" has RMSNorms, which DM has not. The published
    policy pads a short context on the left with zeros, which it does not mask; this one does not
    pad, so the two differ in the first K - 1 steps of an episode, and agree from then on.

    A file that torch wrote is a pickle and is never read here. Load it yourself, with torch's own
    loader and its `weights_only=True`, and pass what is under "state_dict".

    Args:
        weights: Name and tensor of each weight: the trained module's `state_dict()`.
        task: What it was trained for.
        remove_act_embs: Whether the actions were left out of the tokens.

    Returns:
        A DM whose policy predicts what the published module predicts for windows without padding.

    Raises:
        ConversionError: The weights are in another layout, or do not fit the task.

    References:
        Ota, "Decision Mamba", arXiv 2403.19925; github.com/Toshihiro-Ota/decision-mamba, gym.
    """
    layout = Layout("Decision Mamba (Toshihiro-Ota/decision-mamba, gym)", weights)
    sizes = read_sizes(layout, task)
    count = layout.count("transformer.h")
    blocks = [f"transformer.h.{index}.mamba." for index in range(count)]
    inside = read_mamba(layout, blocks)
    expand = read_expand(layout, inside, sizes.width)
    inside = inside._replace(rank=math.ceil(sizes.width / 16))  # the only one that DM has
    declare_ends(layout, sizes, "transformer.ln_f", with_actions=not remove_act_embs)
    max_ep_len = declare_timesteps(layout, sizes)
    for index, block in enumerate(blocks):
        ours, theirs = f"backbone.layers.{index}.layers.0", f"transformer.h.{index}"
        layout.norm(f"{ours}.norm", f"{theirs}.norm_mamba", sizes.width)
        declare_mamba(layout, f"{ours}.inner.", block, inside, sizes.width)
        declare_perceptron(layout, index, f"{theirs}.mlp_channels", f"{theirs}.ln_2", sizes.width)
    algorithm = DM(
        context_length=task.context_length,
        d_model=sizes.width,
        n_layers=count,
        d_state=inside.state,
        d_conv=inside.conv or 0,
        expand=expand,
        max_ep_len=max_ep_len,
        remove_act_embs=remove_act_embs,
        inference="window",
        device=task.device,
    )
    return fill(algorithm, layout, task)
