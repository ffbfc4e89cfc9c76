"""A base learns."""

from tests.control.tinyrun import launch


def test_dqn_learns_cartpole():
    """From about 10 steps to more than 100; untrained and random policies stay below 30."""
    text = "dqn(lr=1e-3, warmup=500, ratio=1.0, every=1, tau=0.02, track=1, gamma=0.98, epsilon=(1.0, 0.05, 0.3))"
    run = launch(text, "CartPole-v1", samples=4000, evaluations=2, eval_episodes=5)
    before, *_, after = [line["return"] for line in run.curve if line["kind"] == "evaluation"]
    assert before < 60 and after > 100
