"""What a run has spent."""

from __future__ import annotations

from dataclasses import dataclass, field, fields


@dataclass
class Spent:
    """What sampling costs; kept once for training and once for evaluation."""

    samples: int = 0  # completions, labels or environment steps
    tokens: int = 0
    steps: int = 0  # of decoding: each appends a token to every response that is being sampled
    verifier_calls: int = 0
    verifier_failures: int = 0  # completions scored 0 because the verifier hung or crashed
    demonstrations: int = 0
    episodes: int = 0  # of an environment, that came to their end
    labels: int = 0  # comparisons of two responses, asked for or taken from data
    seconds: float = 0.0


@dataclass
class Ledger(Spent):
    """Everything that a run has spent. Counts; seconds are wall-clock."""

    teacher_calls: int = 0
    completions: int = 0  # drawn, where samples are labels
    label_failures: int = 0  # of an oracle that hung or crashed; charged
    abstentions: int = 0  # labels without an answer, those above included
    identical_pairs: int = 0  # of equal responses, about which nobody is asked; they count as samples
    gradient_steps: int = 0
    skipped_steps: int = 0  # a part or the gradient was NaN or infinite
    rejected_groups: int = 0
    flat_groups: int = 0  # groups without spread, which teach nothing
    evaluation: Spent = field(default_factory=Spent)

    def add(self, inner: Ledger) -> None:
        """What a run within this one has spent, but for its samples, which are not of this run's budget."""
        for column in fields(self):
            if column.name not in ("samples", "evaluation"):
                setattr(self, column.name, getattr(self, column.name) + getattr(inner, column.name))
