"""The exact finite game, and what every algorithm does in it: the yardstick of the whole system."""

from shared.inpo.games.arrays import Vector, kl, softmax
from shared.inpo.games.finite import FiniteGame
from shared.inpo.games.multiplayer import multiplayer_duality_gap
from shared.inpo.games.trajectories import trajectory

__all__ = ["FiniteGame", "Vector", "kl", "multiplayer_duality_gap", "softmax", "trajectory"]
