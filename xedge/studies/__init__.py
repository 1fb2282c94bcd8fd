"""Questions that take many measurements: load, inversion, instrument, networks. One folder a study."""
