"""Model files: engines that load them, export from one set of weights, parity, cards, the reference models.

May import `results` (statistics, figures), `scenario` and `core`. Text models have a room of their own, `text`.
"""
