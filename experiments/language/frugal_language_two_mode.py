"""`frugal-language` where GRPO takes a few hundred samples, so that every round counts."""

from dataclasses import replace

from frugal.evidence.experiment import load

EXPERIMENT = replace(load("frugal-language-cipher"), task="two-mode", samples=1280)
