"""What is asked, as data and pure arithmetic: arrivals, sources, links, placements, schedule and seeds, the queue.

No clock, no thread, no I/O but reading a file that the data names. May import `core`. What carries a scenario out is in
`runs`; what it found is in `results`.
"""
