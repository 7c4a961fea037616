"""How labels follow each other in time, q-bin by q-bin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ainerd_hpc.kernels.relations import transitions as kernel
from ainerd_hpc.report.relations.maps import ALPHA, Sequences

COLUMNS = (
    "q_bin", "pairs", "changes", "changes_per_hour", "dwell", "entropy", "entropy_shuffled", "p_value",
    "as_next", "as_next_p", "words",
)  # fmt: skip


def transitions(seen: Sequences) -> pd.DataFrame:
    """A row a q-bin: how often its label changes, how long it stays (s), how sure the next one is (bits), and how often
    it is that of the next q-bin."""
    if len(seen.time) < 3:
        return pd.DataFrame(columns=COLUMNS)
    found, (same, same_p) = kernel.succession(seen.labels, seen.time), kernel.together(seen.labels)
    hours = (seen.time[-1] - seen.time[0]) / 3600 or np.nan  # scans may have one time
    table = pd.DataFrame(
        {
            "q_bin": seen.q_bin,
            "pairs": found.pairs,
            "changes": found.changes,
            "changes_per_hour": found.changes / hours,
            "dwell": found.dwell,
            "entropy": found.entropy,
            "entropy_shuffled": found.entropy_shuffled,
            "p_value": found.p_value,
            "as_next": np.append(same, np.nan),
            "as_next_p": np.append(same_p, np.nan),
        }
    )
    return table.assign(words=[_in_words(row) for row in table.itertuples(index=False)])[list(COLUMNS)]


def _in_words(row: Any) -> str:
    """What a row says, and no more."""
    changes = f"q-bin {row.q_bin}: its label changes {row.changes} times in {row.pairs}"
    usual = f"{row.entropy_shuffled:.2g} in random order (p {row.p_value:.2g})"
    sure = f"{row.entropy:.2g} bits of the next one are open, {usual}"
    if row.p_value <= ALPHA:
        return f"{changes}; labels follow each other in an order: {sure}"
    return f"{changes}; no order of labels that chance would not give: {sure}"
