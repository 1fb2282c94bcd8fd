"""A scenario carried out: brokers, services and sender started, trials flown, rows collected; calibration beside them.

May import `serving`, `models`, `results`, `scenario` and `core`; never `reports`.
Questions that take many runs are in `studies`.
"""
