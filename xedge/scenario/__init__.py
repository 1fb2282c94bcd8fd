"""What is asked, as data and pure arithmetic: no clock, no thread, no I/O but reading a file that the data names."""
