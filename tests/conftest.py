"""Tests never reach for a hub, and one thread each keeps parallel workers from fighting."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
