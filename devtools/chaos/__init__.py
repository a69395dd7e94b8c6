"""`make chaos`: a bounded run in which everything fails, and an account of what that cost.

plan      what to call and what to break, from a seed     (pure)
calls     makes the calls and notes what clients were told
faults    breaks things
accounts  what ledger, archive and usage report hold, once all is quiet
compare   what clients were told = what the simulator served = what is kept   (pure)
"""
