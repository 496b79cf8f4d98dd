"""Weights from elsewhere: policies and blocks in the layouts of published code, without that code.

A file that torch wrote is a pickle and is never read; the functions take names and tensors that are
already loaded, or files in the safetensors format.
"""

from decision_policies.convert.convformer import dc_from_published
from decision_policies.convert.decision_mamba import dm_from_published
from decision_policies.convert.huggingface import dt_from_transformers
from decision_policies.convert.mamba import mamba_from_published
from decision_policies.convert.metamamba import dmm_from_published
from decision_policies.convert.task import Task
from decision_policies.convert.transformer import dt_from_published

__all__ = [
    "Task",
    "dc_from_published",
    "dm_from_published",
    "dmm_from_published",
    "dt_from_published",
    "dt_from_transformers",
    "mamba_from_published",
]
