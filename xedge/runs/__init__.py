"""A scenario carried out: services and sender started, trials flown, rows collected; calibration beside them."""
