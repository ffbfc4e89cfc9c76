"""One update equals that of Stable-Baselines3 on the same batch, weights and noise, to 1e-5."""

from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from frugal.control import loop_off, loop_on
from frugal.control.batch import Batch, Rows
from frugal.control.env import environments
from frugal.control.net import Net
from frugal.control.recipes import a2c, dqn, ppo, sac, td3
from frugal.core.live import Live
from frugal.core.run import Run

sb3 = pytest.importorskip("stable_baselines3", reason="needs the development extra")

UPDATES, B = 4, 64


def ours(recipe: Any, task: str) -> SimpleNamespace:
    """Networks and parts of a recipe, ready for its loop's functions."""
    run = Run(1000)
    env = environments(lambda: gymnasium.make(task), 1, 0)
    run.spaces, run.settings = env.spaces, recipe.settings.at(0.0)
    net = run.net = Net(recipe, env.spaces, run)
    p = Live(recipe, run)
    net.join(p)
    return SimpleNamespace(net=net, p=p, s=run.settings, spaces=env.spaces)


def theirs(kind: Any, task: str, **options: Any) -> Any:
    model = kind("MlpPolicy", gymnasium.make(task), seed=0, device="cpu", **options)
    model.set_logger(sb3.common.logger.configure(None, []))
    return model


def layers(net: Any) -> list[torch.nn.Linear]:
    return [module for module in net.modules() if isinstance(module, torch.nn.Linear)]


def named(name: str, linears: list[Any]) -> dict[str, torch.Tensor]:
    pairs = ((f"{name}.{i}.{what}", getattr(x, what)) for i, x in enumerate(linears) for what in ("weight", "bias"))
    return {key: value.detach().clone() for key, value in pairs}


def twins(critic: Any) -> dict[str, torch.Tensor]:
    """Two critics of theirs under our names."""
    heads = enumerate(critic.q_networks)
    return {name: value for k, q in heads for name, value in named(f"critic.{k}", layers(q)).items()}


def soft_actor(actor: Any) -> dict[str, torch.Tensor]:
    """The heads of mean and spread as one."""
    hidden = layers(actor.latent_pi)
    last = SimpleNamespace(
        weight=torch.cat([actor.mu.weight, actor.log_std.weight]), bias=torch.cat([actor.mu.bias, actor.log_std.bias])
    )
    return named("policy", [*hidden, last])


def take_over(weights: Any, values: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            weights[name].copy_(value)


def same(weights: Any, values: dict[str, torch.Tensor]) -> None:
    for name, value in values.items():
        torch.testing.assert_close(weights[name].detach(), value, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def transitions(spaces: Any, rng: torch.Generator) -> Batch:
    shape = (B, 1, *spaces.shape)
    drawn = torch.rand(B, 1, spaces.actions, generator=rng)
    a = drawn * 2 - 1 if spaces.continuous else (drawn * torch.tensor(spaces.choices)).floor()
    term = torch.rand(B, 1, generator=rng) < 0.2
    obs, next, r = (
        torch.randn(shape, generator=rng),
        torch.randn(shape, generator=rng),
        torch.randn(B, 1, generator=rng),
    )
    return Batch(obs, a, r, next, term, ~term & False, torch.ones(B, 1).bool(), rng=rng)


def feed(model: Any, batches: list[Batch], monkeypatch: Any) -> None:
    """Have their buffer give our batches."""
    kind = sb3.common.type_aliases.ReplayBufferSamples
    queue = iter(batches)

    def sample(*_: Any, **__: Any) -> Any:
        b = next(queue)
        a = b.action if b.act.dtype == torch.float32 and model.action_space.shape else b.action.long()
        values = dict(
            observations=b.state, actions=a, next_observations=b.next[:, 0], dones=b.term.float(), rewards=b.reward
        )
        return kind(**values)

    monkeypatch.setattr(model.replay_buffer, "sample", sample)


class Queue:
    """Noise in the order in which it was prepared."""

    def __init__(self, *noise: torch.Tensor):
        self.noise = list(noise)

    def __call__(self, *_: Any, **__: Any) -> torch.Tensor:
        return self.noise.pop(0)


def learn(mine: SimpleNamespace, batches: list[Batch]) -> None:
    losses: Any = {"critic": [], "actor": [], "q": []}
    for k, batch in enumerate(batches):
        loop_off.learn(mine.net, mine.p, batch, mine.s, losses, k)


def test_sac(monkeypatch):
    model = theirs(sb3.SAC, "Pendulum-v1", policy_kwargs={"net_arch": [32, 32]}, batch_size=B)
    mine = ours(sac(hidden=(32, 32), gamma=model.gamma), "Pendulum-v1")
    take_over(mine.net.weights, soft_actor(model.actor) | twins(model.critic))
    take_over(mine.net.target, twins(model.critic_target))
    rng = torch.Generator().manual_seed(0)
    batches = [transitions(mine.spaces, rng) for _ in range(UPDATES)]
    noise = [(torch.randn(B, 1, generator=rng), torch.randn(B, 1, generator=rng)) for _ in batches]
    feed(model, batches, monkeypatch)
    with monkeypatch.context() as m:
        m.setattr(
            "torch.distributions.normal._standard_normal", Queue(*(x for now, then in noise for x in (now, then)))
        )
        model.train(UPDATES, B)
    with monkeypatch.context() as m:
        m.setattr(torch, "randn", Queue(*(x for now, then in noise for x in (then, now))))
        learn(mine, batches)
    same(mine.net.weights, soft_actor(model.actor) | twins(model.critic))
    same(mine.net.target, twins(model.critic_target))
    same(mine.net.weights, {"actor.log_alpha": model.log_ent_coef.detach()})
    assert model._n_updates == UPDATES


def test_td3(monkeypatch):
    model = theirs(sb3.TD3, "Pendulum-v1", policy_kwargs={"net_arch": [32, 32]}, batch_size=B, target_policy_noise=0.0)
    mine = ours(td3(hidden=(32, 32), target_noise=0.0, lr=1e-3), "Pendulum-v1")
    take_over(mine.net.weights, named("policy", layers(model.actor)) | twins(model.critic))
    take_over(mine.net.target, named("policy", layers(model.actor_target)) | twins(model.critic_target))
    rng = torch.Generator().manual_seed(0)
    batches = [transitions(mine.spaces, rng) for _ in range(UPDATES)]
    feed(model, batches, monkeypatch)
    model.train(UPDATES, B)
    learn(mine, batches)
    same(mine.net.weights, named("policy", layers(model.actor)) | twins(model.critic))
    same(mine.net.target, named("policy", layers(model.actor_target)) | twins(model.critic_target))


def test_dqn(monkeypatch):
    model = theirs(sb3.DQN, "CartPole-v1", policy_kwargs={"net_arch": [32, 32]}, batch_size=B, learning_rate=5e-4)
    mine = ours(dqn(hidden=(32, 32), double=False), "CartPole-v1")
    take_over(mine.net.weights, named("critic", layers(model.q_net)))
    take_over(mine.net.target, named("critic", layers(model.q_net_target)))
    rng = torch.Generator().manual_seed(0)
    batches = [transitions(mine.spaces, rng) for _ in range(UPDATES)]
    feed(model, batches, monkeypatch)
    model.train(UPDATES, B)
    learn(mine, batches)
    same(mine.net.weights, named("critic", layers(model.q_net)))


def on_policy(policy: Any) -> dict[str, torch.Tensor]:
    extractor = policy.mlp_extractor
    weights = named("policy", [*layers(extractor.policy_net), policy.action_net])
    weights |= named("critic", [*layers(extractor.value_net), policy.value_net])
    return weights | ({"policy.log_std": policy.log_std.detach().clone()} if hasattr(policy, "log_std") else {})


@pytest.mark.parametrize("task", ("CartPole-v1", "Pendulum-v1"))
@pytest.mark.parametrize("kind", ("PPO", "A2C"))
def test_on_policy(task, kind, monkeypatch):
    sizes = {"n_steps": B, "policy_kwargs": {"net_arch": [32, 32]}, "ent_coef": 0.01}
    if kind == "PPO":
        model = theirs(sb3.PPO, task, batch_size=B, n_epochs=UPDATES, **sizes)
        mine = ours(ppo(hidden=(32, 32), batch=None, epochs=UPDATES, entropy=0.01), task)
    else:
        model = theirs(sb3.A2C, task, **sizes)
        mine = ours(a2c(hidden=(32, 32), steps=B, entropy=0.01), task)
    take_over(mine.net.weights, on_policy(model.policy))
    rng = torch.Generator().manual_seed(0)
    batch = transitions(mine.spaces, rng)
    A, target, v = (torch.randn(B, generator=rng) for _ in range(3))
    old = mine.net.law(batch.state).logp(batch.action).detach() + 0.3 * torch.randn(B, generator=rng)

    buffer = model.rollout_buffer
    values = {"observations": batch.state, "actions": batch.action, "advantages": A, "returns": target, "values": v}
    for name, value in (values | {"log_probs": old}).items():
        getattr(buffer, name)[:] = value.reshape(getattr(buffer, name).shape).numpy()
    buffer.full = True
    model.train()

    none = torch.zeros(B).bool()
    rows = Rows(batch.state, batch.action, old, A, target, none.long(), none, none)
    p, net, s = mine.p, mine.net, mine.s
    loss = loop_on.objective(p, net, s, {}, {"critic": [], "entropy": []})
    for mini in loop_on.minibatches(rows, s, rng):
        p.step(net, loss, mini)
    same(net.weights, on_policy(model.policy))


def test_advantages_with_a_time_limit():
    """Theirs adds gamma V(last observation) to the reward at a time limit; ours takes it as the value that follows."""
    rng = np.random.default_rng(0)
    T, gamma, lam = 12, 0.97, 0.9
    r, v, v_next = (rng.standard_normal(T).astype(np.float32) for _ in range(3))
    term, cut = np.zeros(T, bool), np.zeros(T, bool)
    term[3] = cut[7] = True
    for t in range(T - 1):
        if not (term[t] or cut[t]):
            v_next[t] = v[t + 1]
    space = gymnasium.spaces.Box(-1, 1, (1,))
    buffer = sb3.common.buffers.RolloutBuffer(T, space, space, "cpu", lam, gamma, 1)
    start = np.r_[True, (term | cut)[:-1]]
    for t in range(T):
        reward = r[t] + (gamma * v_next[t] if cut[t] else 0)
        buffer.add(
            np.zeros((1, 1)),
            np.zeros((1, 1)),
            np.array([reward]),
            np.array([start[t]]),
            torch.tensor([v[t]]),
            torch.zeros(1),
        )
    buffer.compute_returns_and_advantage(torch.tensor([v_next[-1]]), np.array([term[-1] or cut[-1]]))
    from frugal import maths

    x = [torch.from_numpy(y)[None] for y in (r, v, v_next, term, term | cut)]
    got = maths.gae_episodes(*x, gamma, lam)[0]
    np.testing.assert_allclose(got.numpy(), buffer.advantages[:, 0], rtol=0, atol=1e-5)
