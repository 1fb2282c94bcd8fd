"""What was measured: rows, statistics, verdict and doubts, comparison, figures, storage.

Knows neither how a measurement was made (`runs`) nor how a page is made of it (`reports`).
May import `scenario` and `core`.
"""
