"""One thread: the networks are tiny, and a run repeats bit for bit only with the threads it had."""

import torch

torch.set_num_threads(1)
