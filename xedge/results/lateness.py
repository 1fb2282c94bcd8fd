"""How much of a latency may be due to a sender that was late; pure arithmetic on arrays, in any one unit of time.

Latency counts from the time a request was due, so a late sender makes it longer, never shorter. Let x_i be the time a
request is sent, r_i the time its answer is received, and l_i = x_i − due_i ≥ 0 its lateness. Where links and services
are queues that keep the order, an answer leaves when the slowest path through them does: r_i = max over j ≤ i of
(x_j + the work on the path from j to i). Send everything when due instead, and the path that was the slowest is still
there and begins l_j earlier, so r_i falls by at most l_j. Each step of that path is a request that waited for the one
before it, so both were on their way at the same time: from j to i the intervals [due, received] overlap one by one.
Hence

    r_i − m_i ≤ r_i of a punctual sender ≤ r_i,    m_i = largest l_j, j ≤ i, in i's chain of overlapping intervals,

and since quantiles are monotone, the quantile of a punctual sender lies between those of latency − m and of latency.
Services that batch, or whose requests share a processor, are not exactly such queues; there it is an approximation.
A request that was never sent occupied nothing and would have: it makes latencies too short, and is judged apart.
"""

import numpy as np

from xedge.results.statistics import FloatArray


def possible_shift(due: FloatArray, sent: FloatArray, received: FloatArray) -> FloatArray:
    """Return m_i ≥ 0, by how much each latency of a trial may be too long because of the sender; shape (n,).

    `due`, `sent` and `received` have shape (n,), in the order of the schedule, warm-up included; NaN is never sent or
    received. A request that was sent but not answered is on its way until a later request is answered, which
    cannot overtake it; one that was not sent is never on its way.

    >>> due, sent = np.array([0.0, 1, 2, 9]), np.array([0.5, 1, 2, 9])
    >>> possible_shift(due, sent, np.array([1.2, 2.1, 3.0, 10]))  # three wait for each other, the fourth for none
    array([0.5, 0.5, 0.5, 0. ])
    """
    is_sent = ~np.isnan(sent)
    lateness = np.where(is_sent, np.maximum(sent - due, 0.0), 0.0)
    answered = np.where(np.isnan(received), np.inf, received)
    next_answer = np.minimum.accumulate(answered[::-1])[::-1]
    until = np.where(is_sent, np.where(np.isnan(received), next_answer, received), -np.inf)
    on_its_way = np.maximum.accumulate(np.r_[-np.inf, until])[:-1]
    chain = np.cumsum(due > on_its_way)
    step = np.max(lateness, initial=0.0) + 1.0  # lifts every chain above those before it
    return np.asarray(np.maximum.accumulate(lateness + step * chain) - step * chain)


def punctual(latency: FloatArray, shift: FloatArray) -> FloatArray:
    """Return the least that each latency can have been with a punctual sender: latency − m, at least 0."""
    return np.asarray(np.maximum(latency - shift, 0.0))
