"""Decision MetaMamba in the layout of its authors' code (continuous control)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from decision_policies.algorithms import DMM
from decision_policies.convert.layout import Layout
from decision_policies.convert.mamba import declare_mamba, read_expand, read_mamba
from decision_policies.convert.task import Task, declare_ends, fill, read_sizes
from decision_policies.errors import ConversionError

LOCAL, GLOBAL = "model.local_sequence_mixers", "model.global_sequence_mixers"


def dmm_from_published(
    weights: Mapping[str, Tensor], task: Task, *, dense_mixer: Tensor | None = None
) -> DMM:
    """Make a Decision MetaMamba of weights in the layout of its authors' code.

    That is the version of arXiv 2602.19805 with the global mixer "mamba1". For two of its tasks the
    published code keeps one dense mixer for all layers, in a plain list: it was never trained and
    is not in the state dict, and without it the model cannot be rebuilt. Where the live module is
    still at hand, pass `module.model.local_sequence_mixers[0].lin.weight` as `dense_mixer`.

    The published policy pads a short context on the left with zeros, which it does not mask; this
    one does not pad, so the two differ in the first K - 1 steps of an episode, and agree from then
    on.

    A file that torch wrote is a pickle and is never read here. Load it yourself, with torch's own
    loader and its `weights_only=True`.

    Args:
        weights: Name and tensor of each weight: the trained module's `state_dict()`.
        task: What it was trained for.
        dense_mixer: The matrix (D, w D) of the one dense mixer that the state dict lacks.

    Returns:
        A DMM whose policy predicts what the published module predicts for windows without padding.

    Raises:
        ConversionError: The weights are in another layout, or do not fit the task; or the dense
            mixer is missing.

    References:
        "Decision MetaMamba", arXiv 2602.19805; github.com/too-z/decision-metamamba, decision-model.
    """
    layout = Layout("Decision MetaMamba (too-z/decision-metamamba, decision-model)", weights)
    sizes = read_sizes(layout, task)
    count = layout.count(GLOBAL)
    mixers = _dense_mixers(layout, count, dense_mixer)
    window = layout.size(*((name, 1) for name in mixers)) // max(sizes.width, 1)
    blocks = [f"{GLOBAL}.{index}." for index in range(count)]
    inside = read_mamba(layout, blocks, convolution=False)
    expand = read_expand(layout, inside, sizes.width)
    inside = inside._replace(rank=math.ceil(sizes.width / 16))  # the only one that DMM has
    declare_ends(layout, sizes, "model.ln_f")
    for index, (mixer, block) in enumerate(zip(mixers, blocks, strict=True)):
        dense, mamba = (f"backbone.layers.{2 * index + branch}" for branch in (0, 1))
        layout.norm(f"{dense}.norm", "model.ln_1", sizes.width)  # one norm for all layers
        layout.copy(f"{dense}.inner.weight", mixer, sizes.width, window * sizes.width)
        layout.norm(f"{mamba}.norm", "model.ln_2", sizes.width)
        declare_mamba(layout, f"{mamba}.inner.", block, inside, sizes.width)
    algorithm = DMM(
        context_length=task.context_length,
        d_model=sizes.width,
        n_layers=count,
        d_state=inside.state,
        expand=expand,
        window=window,
        dsm_mode="per_layer" if dense_mixer is None else "shared_frozen",
        inference="window",
        device=task.device,
    )
    return fill(algorithm, layout, task)


def _dense_mixers(layout: Layout, count: int, dense_mixer: Tensor | None) -> list[str]:
    """Name the dense mixer of each layer; one that is handed in is put among the weights.

    Raises:
        ConversionError: There is none, or two of them.
    """
    there = layout.has(f"{LOCAL}.")
    if dense_mixer is None:
        if there:
            return [f"{LOCAL}.{index}.lin.weight" for index in range(count)]
        raise ConversionError(
            f"there is no {LOCAL}.*.lin.weight: for two of its tasks the published code leaves the "
            "dense mixer, which all layers share and which was never trained, out of the state "
            "dict. Without it the model cannot be rebuilt; if the live module is still at hand, "
            "pass dense_mixer=module.model.local_sequence_mixers[0].lin.weight"
        )
    if there:
        raise ConversionError(
            f"the weights have {LOCAL}.*.lin.weight of their own, so leave dense_mixer out"
        )
    layout.weights["dense_mixer"] = dense_mixer.detach()
    return ["dense_mixer"] * count
