"""{the readers' preference, its Bradley-Terry reward} x {with KL, without}: the INPO paper's Table 3 in small."""

from collections.abc import Sequence

import numpy as np

from proof.cases import Case, inpo
from proof.games import DEMO, Rewards
from services.cli.demo import ETA
from services.cli.demo_model import STYLE_SHARES

# The reference policy's pairs, as the demo's text asks for them; one response in a thousand is invalid.
REFERENCE = np.array([0.001, *(0.999 * share for share in STYLE_SHARES.values())])
REWARDS = Rewards.fitted(DEMO.readers.matrix(), REFERENCE)
WITHOUT_KL = {"name": "inpo_no_kl", "eta": ETA}


def cases(seeds: Sequence[int]) -> list[Case]:
    """The four corners, from the first seed."""
    return [
        Case(DEMO, algorithm, seed=seeds[0], judge=judge)
        for judge in (None, REWARDS)
        for algorithm in (inpo(DEMO), WITHOUT_KL)
    ]
