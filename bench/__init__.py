"""Measurements of the gateway beside what a user would otherwise run. The rule: only ratios within one run mean anything.

gateway.py    the command line, and the run
scenarios.py  what is asked, how often and over how many connections
subjects.py   what is asked: each program, how it is started and where it listens
load.py       the load generator, a process of its own
meter.py      CPU time and memory of a subject's processes
report.py     the table and the JSON file
plot.py       the pictures
recorder.py   another command line: calls a second that are recorded
imports.py    another: how long the app takes to load, and to answer first
memory.py     another command line: what the worker process holds after so many calls
scaling.py    no measurement: what carries how many calls a month, worked out
apps/empty    the Functions app that does nothing
apps/bare.py  the gateway without a Functions host
apps/probe    the gateway, with a function that says what its process holds
"""
