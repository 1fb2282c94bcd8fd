"""The instrument held against theory: stubs with known service times must be M/D/1 and M/M/1."""
