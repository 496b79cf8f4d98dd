"""Source: where trajectories come from, and what was done to them since."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Source:
    """Where trajectories come from; travels into checkpoints.

    Attributes:
        dataset: Identity of the dataset, such as its Minari id.
        digest: SHA-256 of the content, in hex: of the dataset's files, or of the packed episodes.
        environment: Id of the environment, where the dataset names one.
        reference_scores: Returns that count as 0 and 100 (random and expert), where known.
    """

    dataset: str | None = None
    digest: str = ""
    environment: str | None = None
    reference_scores: tuple[float, float] | None = None

    def changed(self, how: str) -> Source:
        """Say that something else is learnt from: the digest is that of the old one and a word."""
        digest = hashlib.sha256(f"{self.digest} {how}".encode()).hexdigest()
        return replace(self, digest=digest)
