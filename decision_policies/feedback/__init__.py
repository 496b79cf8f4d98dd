"""Wrappers that report an environment's rewards to a policy, so that loops need no extra line.

There is one for each kind of environment. The rewards that count are those that the wrapped
environment returns; a wrapper that changes them (`VecNormalize`) stands outside of ours where the
policy is to see them as they were, and inside where it is to see them changed.
"""

from decision_policies.feedback.kinds import E, reports, wrap
from decision_policies.feedback.observer import Observer
from decision_policies.feedback.single import Feedback
from decision_policies.feedback.vector import VectorFeedback

__all__ = ["E", "Feedback", "Observer", "VectorFeedback", "reports", "wrap"]
