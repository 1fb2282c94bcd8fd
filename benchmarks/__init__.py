"""Benchmarks: what xedge costs over the limit it works against, as ratios within one run."""
