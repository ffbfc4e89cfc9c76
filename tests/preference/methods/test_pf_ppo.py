"""PF-PPO: which ranks stay, by hand, and that only they train."""

from collections import Counter

import pytest
import torch

from frugal.core.errors import BadRecipe, Clash, UnknownName
from frugal.preference import rlhf
from frugal.preference.methods.pf_ppo import ByRank, pf_ppo
from tests.language.rows import rows

SCORES = [2.0, 5.0, 1.0, 4.0, 3.0]


def kept(strategy, scores, groups=None, seed=0, trains=None):
    batch = rows(scores, [2] * len(scores), groups)
    batch = batch if trains is None else batch.put(trains=torch.tensor(trains))
    select = ByRank(strategy).select(batch, torch.Generator().manual_seed(seed))
    assert torch.equal(select[:, 0], select[:, 1])
    return select[:, 0].nonzero()[:, 0].tolist()


@pytest.mark.parametrize("strategy, wanted", [("best-worst", [1, 2]), ("best", [1]), ("all", [0, 1, 2, 3, 4])])
def test_ranks_by_hand(strategy, wanted):
    assert kept(strategy, SCORES) == wanted


def test_the_best_and_one_of_the_others_each_as_often():
    """1000 draws of four: 250 each, of which a binomial is off by more than 60 once in ten thousand times."""
    found = [kept("best-random", SCORES, seed=seed) for seed in range(1000)]
    assert all(len(two) == 2 and 1 in two for two in found)
    counts = Counter(i for two in found for i in two if i != 1)
    assert set(counts) == {0, 2, 3, 4} and all(190 < n < 310 for n in counts.values())


def test_each_group_by_itself_and_equal_scores_in_their_order():
    scores, groups = [1.0, 1.0, 1.0, 0.0, 2.0, 0.0], [4, 4, 4, 2, 2, 2]
    assert kept("best-worst", scores, groups) == [0, 2, 4, 5]


def test_only_what_trains_is_ranked_and_one_alone_stays():
    assert kept("best-worst", SCORES, trains=[True, False, True, True, True]) == [2, 3]
    for strategy in ("best-random", "best-worst"):
        assert kept(strategy, [3.0]) == [0]


def test_what_it_refuses():
    with pytest.raises(UnknownName, match=r"did you mean .best-worst"):
        pf_ppo(keep="worst")
    with pytest.raises(BadRecipe, match="give 2 or more"):
        pf_ppo(group=1)
    with pytest.raises(Clash, match="you chose it for rlhf"):
        rlhf(group=3) + pf_ppo()
    assert (rlhf(group=4) + pf_ppo(group=4)).settings.group == 4


def test_in_the_loop_two_of_five_train_policy_and_critic(monkeypatch):
    import frugal
    from frugal.language.critic import LiveCritic

    seen, learn = [], LiveCritic.learn

    def watched(self, batch):
        seen.append(batch)
        learn(self, batch)

    monkeypatch.setattr(LiveCritic, "learn", watched)
    options = {"samples": 40, "evaluations": 1, "eval_problems": 4, "threads": 1}
    run = frugal.run("rlhf(labels=32, prompts=8)+pf-ppo(keep='best-worst')", "rm-lab", **options)
    (batch,) = seen
    used = batch.use.any(1)
    assert len(batch) == 40 and int(used.sum()) == 16
    for g in batch.group.unique():
        scores, chosen = batch.score[batch.group == g], batch.score[used & (batch.group == g)]
        assert chosen.max() == scores.max() and chosen.min() == scores.min()
    (line,) = [line for line in run.curve if line["kind"] == "train"]
    assert 0.2 < line["patches"]["update.select.pf-ppo"] < 0.8
