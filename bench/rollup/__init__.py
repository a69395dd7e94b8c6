"""Whether a month of usage is counted exactly, whatever is killed, late or replaced, and what that costs."""
