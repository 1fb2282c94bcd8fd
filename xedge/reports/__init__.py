"""A notebook run with parameters and the page that it leaves: run, record, page, index over runs, sweeps, publish.

May import `models`, `results`, `scenario` and `core`; never `serving` or `runs`: a page does not
care how rows came about.
"""
