"""First configurations: from Azure's own lists, from another gateway's configuration, or from a few answers.

Rule: a module per source, a function from what was read to a Draft. What a source says and we do not keep becomes a note: nothing
is left out silently. What is written is read again by the real parser.
"""
