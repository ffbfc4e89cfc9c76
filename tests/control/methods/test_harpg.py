"""N-HARPG and N-PG-IGT: exact where they should be, unbiased where that can be written out, and what a round does."""

from types import SimpleNamespace

import pytest
import torch

from frugal.control.batch import Rows
from frugal.control.laws import Categorical
from frugal.control.methods.harpg import LiveElsewhere, LiveTransported, curvature, harpg
from frugal.control.networks import Flat
from frugal.core.errors import BadRecipe, Clash
from frugal.core.run import Run
from frugal.registry import recipe
from tests.control.tinyenv import Counter, Noise, patch_of
from tests.control.tinyrun import launch, weights

MATRIX = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
CENTRE = torch.tensor([1.0, -2.0], dtype=torch.float64)


def at_work(variant, vector, law=None, lr=0.1):
    """(run with one group of weights "w", behaviour, step) of a variant."""
    run = Run(100)
    flat = Flat({"w": torch.tensor(vector, dtype=torch.float64)})
    run.net = SimpleNamespace(all=flat, weights=flat.weights, law=law)
    run.settings = SimpleNamespace(lr=lr)
    fill = harpg(variant).fill
    return run, fill["act.behaviour"].begin(run), fill["update.step"].begin(run)


def steps_of(actions, sets, lengths=None):
    """Rows of trajectories with these actions; one step each without lengths."""
    n = len(actions)
    zero = torch.zeros(n)
    ends = torch.ones(n, dtype=torch.bool) if lengths is None else torch.zeros(n, dtype=torch.bool)
    if lengths is not None:
        ends[torch.tensor(lengths).cumsum(0) - 1] = True
    which = torch.tensor(sets)
    return Rows(zero[:, None], torch.tensor(actions)[:, None], zero, zero, zero, which, ends, ends & False)


def quadratic(weights, rows):
    """1/2 (w - c)' M (w - c), whatever the rows."""
    x = weights["w"] - CENTRE
    return 0.5 * x @ MATRIX @ x


class Uniform:
    """A law that does not depend on the weights, but says so by a graph."""

    def __init__(self, weights):
        self.nothing = weights["w"].sum() * 0

    def logp(self, a):
        return self.nothing.expand(len(a))


@pytest.mark.parametrize("variant", ["n-harpg", "n-pg-igt"])
def test_on_a_quadratic_without_noise_the_momentum_is_the_gradient(variant):
    """d_t = M (theta_t - c) at every t, whatever eta; and each step is lr 2 / (t + 2) long."""
    run, _, step = at_work(variant, [4.0, 4.0], lambda obs, weights: Uniform(weights))
    rows = steps_of([0.0, 0.0], [0, 1])
    for t in range(30):
        before = run.net.all.vector.clone()
        assert step(run.net, quadratic, rows) == pytest.approx(float((MATRIX @ (before - CENTRE)).norm()))
        torch.testing.assert_close(step.d, MATRIX @ (before - CENTRE))
        assert float((run.net.all.vector - before).norm()) == pytest.approx(0.1 * 2 / (t + 2))
        run.ledger.gradient_steps += 1
    assert float((run.net.all.vector - CENTRE).norm()) < float((torch.tensor([4.0, 4.0]) - CENTRE).norm())


@pytest.mark.parametrize("variant", ["n-harpg", "n-pg-igt"])
def test_the_first_round_is_normalised_reinforce(variant):
    """eta_0 = 1."""
    run, _, step = at_work(variant, [4.0, 4.0], lambda obs, weights: Uniform(weights))
    g = MATRIX @ (run.net.all.vector - CENTRE)
    wanted = run.net.all.vector - 0.1 * g / g.norm()
    step(run.net, quadratic, steps_of([0.0, 0.0], [0, 1]))
    torch.testing.assert_close(run.net.all.vector, wanted)


REWARDS = torch.tensor([1.0, -0.5, 2.0, 0.3], dtype=torch.float64)


def bandit(obs, weights):
    return Categorical((weights["w"].expand(len(obs), -1),))


def reinforce(weights, rows):
    """-R log pi, mean over steps, as the loop has it."""
    a = rows.act[:, 0].long()
    return -(REWARDS[a] * weights["w"].log_softmax(0)[a]).mean()


def expected(w):
    return -(w.softmax(0) * REWARDS).sum()


def test_the_correction_is_the_gradient_s_derivative_in_expectation():
    """Every action with its probability: the mean of B u is Hessian(E L) u, which autograd says of E L."""
    vector, u = torch.tensor([0.3, -1.0, 0.5, 0.1]).double(), torch.tensor([1.0, 2.0, -0.5, 0.7]).double()
    run, _, _ = at_work("n-harpg", vector.tolist(), bandit)
    mean = torch.zeros(4).double()
    for a, p in enumerate(vector.softmax(0)):
        mean += p * curvature(run.net, reinforce, steps_of([float(a)], [0]), vector.clone(), u)
    torch.testing.assert_close(mean, torch.autograd.functional.hessian(expected, vector) @ u)


def test_trajectories_of_several_steps_have_their_own_scores():
    """Two steps each: B u of a round is the mean of those of its trajectories, and not of its steps."""
    vector, u = torch.tensor([0.3, -1.0, 0.5, 0.1]).double(), torch.tensor([1.0, 2.0, -0.5, 0.7]).double()
    run, _, _ = at_work("n-harpg", vector.tolist(), bandit)
    one, other = ([0.0, 2.0], [1.0, 1.0, 3.0])
    each = [curvature(run.net, reinforce, steps_of(a, [1] * len(a), [len(a)]), vector.clone(), u) for a in (one, other)]
    both = curvature(run.net, reinforce, steps_of(one + other, [1] * 5, [2, 3]), vector.clone(), u)
    torch.testing.assert_close(both, (each[0] + each[1]) / 2)

    def log_p(w, actions):
        return w.log_softmax(0)[torch.tensor(actions).long()].sum()

    def L(w, actions):
        a = torch.tensor(actions).long()
        return -(REWARDS[a] * w.log_softmax(0)[a]).sum()

    for actions, found in zip((one, other), each, strict=True):
        score = torch.autograd.functional.jacobian(lambda w: log_p(w, actions), vector) @ u  # noqa: B023
        g = torch.autograd.functional.jacobian(lambda w: L(w, actions), vector)  # noqa: B023
        H = torch.autograd.functional.hessian(lambda w: L(w, actions), vector)  # noqa: B023
        torch.testing.assert_close(found, score * g + H @ u)


def test_every_collection_is_a_step_of_its_own(monkeypatch):
    """Trajectories of a few steps: several collections in a round of the loop, and eta = 2 / (t + 2) for each."""
    etas, points = [], []
    step, collect = LiveTransported.__call__, LiveElsewhere.__call__
    monkeypatch.setattr(LiveTransported, "__call__", lambda *args: etas.append(args[0].eta) or step(*args))

    def drawn(self, net, steps):
        if not steps:
            points.append(float(torch.rand((), generator=self.run.rng("harpg", self.t))))
        return collect(self, net, steps)

    monkeypatch.setattr(LiveElsewhere, "__call__", drawn)
    run = launch("control.reinforce(hidden=(16,))+harpg", lambda: Counter(length=5, terminates=True), 200)
    assert etas == [2 / (t + 2) for t in range(20)] and len(set(points)) == 20
    assert run.clock < 10


@pytest.mark.parametrize("variant", ["n-harpg", "n-pg-igt"])
@pytest.mark.parametrize("ends", [(50, 50), (50, 10), (10, 50)])
def test_a_trajectory_that_the_budget_cuts_is_one(variant, ends, monkeypatch):
    counted, step = [], LiveTransported.__call__

    def counting(self, net, loss, rows):
        counted.append([int((rows.term | rows.cut)[rows.set == i].sum()) for i in (0, 1)])
        return step(self, net, loss, rows)

    monkeypatch.setattr(LiveTransported, "__call__", counting)
    lengths = iter((*ends, 3))  # two that are trained in, one for evaluation
    text = f"control.reinforce(hidden=(16,))+harpg(variant={variant!r})"
    run = launch(text, lambda: Counter(next(lengths), terminates=True), 40)
    assert (run.ledger.samples, run.ledger.gradient_steps, run.ledger.skipped_steps) == (40, 1, 0)
    assert counted == [[1, 1] if variant == "n-harpg" else [2, 0]] and weights(run).isfinite().all()


def test_who_collects():
    """theta_t and a point between theta_{t-1} and it, the same for collection and step; or beyond theta_t, and once."""
    for variant in ("n-harpg", "n-pg-igt"):
        run, behaviour, step = at_work(variant, [0.0, 0.0])
        first = behaviour(run.net, [])
        run.net.all.vector.copy_(torch.tensor([1.0, 2.0]))
        assert behaviour(run.net, ["a step"]) is first, "the same weights for a whole round"
        step.last.zero_()
        run.ledger.gradient_steps = 6
        sets = behaviour(run.net, [])
        point, u = step.next()
        assert torch.equal(sets[-1]["w"], point) and u.tolist() == [1.0, 2.0]
        share = float(point[0])
        assert float(point[1]) == pytest.approx(2 * share)
        if variant == "n-harpg":
            assert sets[0] is run.net.weights and len(sets) == 2 and 0 < share < 1
        else:
            eta = (2 / 8) ** 0.8
            assert len(sets) == 1 and share == pytest.approx(1 + (1 - eta) / eta)


def test_a_round_is_one_step_from_whole_trajectories():
    seen = []

    class Spy:
        inner = None

        def begin(self, run):
            self.live = harpg().fill["update.step"].begin(run)
            return self

        def __call__(self, net, loss, rows):
            seen.append(rows)
            return self.live(net, loss, rows)

    made = recipe("control.reinforce(hidden=(8,))") + patch_of(
        "spied", fill={**harpg().fill, "update.step": Spy()}, set={"envs": 2, "steps": 0, "whiten": False}
    )
    run = launch(made, "CartPole-v1", 200)
    assert run.ledger.gradient_steps == len(seen) >= 2
    for rows in seen:
        ends = (rows.term | rows.cut).nonzero()[:, 0].tolist()
        assert len(ends) == 2 and ends[-1] == len(rows) - 1
        assert rows.set.tolist() == [0] * (ends[0] + 1) + [1] * (ends[1] - ends[0])


def test_variants_differ_and_work_with_a_critic_and_continuous_actions():
    runs = [
        launch(f"control.reinforce(hidden=(8,), baseline=True)+harpg(variant={v!r})", Noise, 100)
        for v in ("n-harpg", "n-pg-igt")
    ]
    assert all(weights(run).isfinite().all() for run in runs)
    assert not torch.equal(weights(runs[0]), weights(runs[1]))


def test_nothing_to_learn_is_no_step():
    run, _, step = at_work("n-pg-igt", [1.0, -2.0])
    assert step(run.net, lambda weights, rows: weights["w"].sum() * 0, steps_of([0.0], [0])) == 0.0
    assert run.net.all.vector.tolist() == [1.0, -2.0]


def test_what_is_refused():
    with pytest.raises(BadRecipe, match="choose from n-harpg, n-pg-igt"):
        harpg("harpg")
    for options in ({"trajectories": 3}, {"trajectories": 0}, {"variant": "n-pg-igt", "trajectories": 0}):
        with pytest.raises(BadRecipe, match="even number"):
            harpg(**options)
    assert harpg("n-pg-igt", trajectories=1).set["envs"] == 1
    for chosen in ("envs=4", "max_grad_norm=1.0", "epochs=2"):
        with pytest.raises(Clash, match="you chose it"):
            recipe(f"control.reinforce({chosen})+harpg")
    with pytest.raises(BadRecipe, match="off-policy"):
        recipe("sac+harpg")
