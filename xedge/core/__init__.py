"""What every room stands on: exceptions, checked data, extras, the machine, progress, child processes, files, logs.

Imports no other room. What is about one subject only (a link, a page) belongs into that subject's room.
"""
