"""`frugal-language` where the start succeeds once in thousands of times, with and without beginnings of solutions."""

from dataclasses import replace

from frugal.evidence.experiment import load

CIPHER = load("frugal-language-cipher")
EXPERIMENT = replace(CIPHER, task="cipher(unknown=7)", arms=(*CIPHER.arms, "frugal-language+ghpo"))
