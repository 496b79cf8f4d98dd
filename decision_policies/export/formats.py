"""The formats of an exported step: ONNX, and torch's own."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from decision_policies.export.step import ActingStep

Run: TypeAlias = Callable[[Sequence[Tensor]], Sequence[Tensor]]

GIVEN = ("observation", "return_to_go", "timestep", "previous_action", "previous_reward")
CHOSEN = ("action", "parameters")


def to_onnx(step: ActingStep, example: tuple[Tensor, ...], about: str) -> tuple[bytes, Run]:
    """Export to ONNX; gives the file and a way to run it."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise ImportError(
            "format='onnx' needs onnx, onnxscript and onnxruntime: "
            "pip install 'decision-policies[export]'"
        ) from error
    states = [f"state_{i}" for i in range(len(example) - len(GIVEN))]
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns where torchvision is not installed
    try:
        program = torch.onnx.export(
            step,
            example,
            input_names=[*GIVEN, *states],
            output_names=[*CHOSEN, *(f"new_{name}" for name in states)],
            dynamo=True,
            verbose=False,
        )
    finally:
        logger.setLevel(level)
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # where in this machine's files it comes from
    program.model.metadata_props["decision_policies"] = about
    content: bytes = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(given: Sequence[Tensor]) -> list[Tensor]:
        feed = {entry.name: x.numpy() for entry, x in zip(session.get_inputs(), given, strict=True)}
        return [torch.from_numpy(x) for x in session.run(None, feed)]

    return content, run


def to_torch(step: ActingStep, example: tuple[Tensor, ...], about: str) -> tuple[bytes, Run]:
    """Export by torch.export; gives the file and a way to run it."""
    program = torch.export.export(step, example)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # where in this machine's files it comes from
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={"decision_policies.json": about})
    module = program.module()
    return file.getvalue(), lambda given: module(*given)
